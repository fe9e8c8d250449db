// Stream sockets over AF_VSOCK (vsock(7)) and AF_UNIX (unix(7)), non-blocking and close-on-exec.
#pragma once

#include <sys/types.h>

#include <optional>

#include "io/endpoint.h"
#include "io/ports.h"
#include "io/result.h"
#include "io/unique_fd.h"

namespace arca {

// Bytes that a transport likes in one send. Above 32 KiB on vsock some VMMs break with newer guest
// kernels (cloud-hypervisor#7672, libkrun#535).
size_t default_burst_size(Transport transport);

class StreamSocket final : public ByteStream {
 public:
  explicit StreamSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }

  IoOutcome receive(std::span<const iovec> room) override;
  IoOutcome send(Bytes bytes) override;

 private:
  UniqueFd fd_;
};

// Tells a file from another that came to stand under the same name.
struct FileId {
  dev_t device;
  ino_t inode;

  bool operator==(const FileId&) const = default;
};

class Listener {
 public:
  // EADDRINUSE: somebody has that address, or what stands there is no socket. A Unix socket that
  // nobody holds any more is replaced. EAFNOSUPPORT, ENODEV: no vsock in this kernel. EINVAL,
  // ENAMETOOLONG: no path for a Unix socket. A Unix socket's file is removed with the listener.
  static Result<Listener> open(const Endpoint& endpoint);

  Listener(Listener&&) = default;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  int fd() const { return fd_.get(); }

  struct Accepted {
    UniqueFd fd;
    Peer peer;
  };
  // EAGAIN: nobody waits.
  Result<Accepted> accept();

 private:
  Listener(UniqueFd fd, Endpoint endpoint) : fd_(std::move(fd)), endpoint_(std::move(endpoint)) {}

  UniqueFd fd_;
  Endpoint endpoint_;
  std::optional<FileId> file_;  // kUnix
};

// Starts to connect; the descriptor becomes writable when it is decided: finish_connect tells how.
Result<UniqueFd> start_connect(const Endpoint& endpoint);
Status finish_connect(int fd);
// The peer of a stream that this end dialled.
Peer peer_of(const Endpoint& endpoint, int fd);

}  // namespace arca
