#include "io/stream_socket.h"

#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

namespace arca {
namespace {

// A full accept queue of vsock answers with a reset at once.
constexpr int kBacklog = 128;
// Newer kernels reset a vsock connection when many small packets are queued at the default of
// 256 KiB (libkrun#795).
constexpr uint64_t kVsockBufferSize = 1024 * 1024;
constexpr int kUnixBufferSize = 1024 * 1024;
constexpr size_t kVsockBurstSize = 32 * 1024;
constexpr size_t kUnixBurstSize = 256 * 1024;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Result<SocketAddress> address_of(const Endpoint& endpoint) {
  SocketAddress address;
  if (endpoint.transport == Transport::kVsock) {
    sockaddr_vm vm{};
    vm.svm_family = AF_VSOCK;
    vm.svm_cid = endpoint.cid;
    vm.svm_port = endpoint.port;
    std::memcpy(&address.storage, &vm, sizeof vm);
    address.size = sizeof vm;
    return address;
  }
  // An empty path would be an abstract name, a cut one another file.
  const std::string& path = endpoint.path;
  if (path.empty() || path.find('\0') != std::string::npos) return Error{"unix path", EINVAL};
  if (path.size() > kLongestUnixPath) return Error{"unix path", ENAMETOOLONG};
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, path.data(), path.size());
  std::memcpy(&address.storage, &un, sizeof un);
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return address;
}

Result<UniqueFd> make_socket(Transport transport) {
  const int family = transport == Transport::kVsock ? AF_VSOCK : AF_UNIX;
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return last_error(family == AF_VSOCK ? "socket(AF_VSOCK)" : "socket(AF_UNIX)");
  return fd;
}

// vsock has its buffers set before listen or connect, and accepted sockets inherit them; the limit
// goes up first. Clamping is silent, so the size is read back: a stream with less still works.
Status set_vsock_buffers(int fd) {
  const uint64_t size = kVsockBufferSize;
  for (const int option : {SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE}) {
    if (::setsockopt(fd, AF_VSOCK, option, &size, sizeof size) < 0) {
      return last_error("setsockopt(SO_VM_SOCKETS_BUFFER_SIZE)");
    }
  }
  uint64_t actual = 0;
  socklen_t length = sizeof actual;
  if (::getsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &actual, &length) < 0) {
    return last_error("getsockopt(SO_VM_SOCKETS_BUFFER_SIZE)");
  }
  if (actual < size) return Error{"setsockopt(SO_VM_SOCKETS_BUFFER_SIZE)", ENOBUFS};
  return Done{};
}

// Unix sockets are bounded by the sender's buffer alone. SO_SNDBUFFORCE needs CAP_NET_ADMIN;
// without it the kernel's own limit holds, which is slower and nothing else.
void set_unix_buffers(int fd) {
  const int size = kUnixBufferSize;
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0) {
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  }
}

// Whether a path that bind() found taken is a socket's file that was left behind. A datagram socket
// asks, for it connects to no stream socket (EPROTOTYPE): an owner that lives sees no connection,
// and one that is bound but does not listen yet is not taken for dead.
bool is_stale_socket(const std::string& path, const SocketAddress& address) {
  struct stat info;
  if (::lstat(path.c_str(), &info) < 0) return errno == ENOENT;
  if (!S_ISSOCK(info.st_mode)) return false;
  UniqueFd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return probe && ::connect(probe.get(), address.get(), address.size) < 0 && errno == ECONNREFUSED;
}

Status bind_socket(int fd, const Endpoint& endpoint) {
  const Result<SocketAddress> found = address_of(endpoint);
  if (!found.ok()) return found.error();
  const SocketAddress& address = found.value();
  if (::bind(fd, address.get(), address.size) == 0) return Done{};
  const Error error = last_error("bind");
  if (endpoint.transport != Transport::kUnix || error.code != EADDRINUSE) return error;
  if (!is_stale_socket(endpoint.path, address)) return error;
  if (::unlink(endpoint.path.c_str()) < 0 && errno != ENOENT) return last_error("unlink");
  if (::bind(fd, address.get(), address.size) < 0) return last_error("bind");
  return Done{};
}

std::optional<FileId> file_id(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) < 0) return std::nullopt;
  return FileId{info.st_dev, info.st_ino};
}

IoOutcome stream_outcome(ssize_t result) {
  if (result < 0) return judge_stream_errno(errno);
  return {.kind = IoOutcome::Kind::kMoved, .size = static_cast<size_t>(result), .error = 0};
}

}  // namespace

size_t default_burst_size(Transport transport) {
  return transport == Transport::kVsock ? kVsockBurstSize : kUnixBurstSize;
}

IoOutcome StreamSocket::receive(std::span<const iovec> room) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(room.data());
  message.msg_iovlen = room.size();
  ssize_t result;
  do {
    result = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  } while (result < 0 && errno == EINTR);
  if (result == 0) return {.kind = IoOutcome::Kind::kEndOfStream, .size = 0, .error = 0};
  return stream_outcome(result);
}

IoOutcome StreamSocket::send(Bytes bytes) {
  ssize_t result;
  do {
    result = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  return stream_outcome(result);
}

Result<Listener> Listener::open(const Endpoint& endpoint) {
  Result<UniqueFd> made = make_socket(endpoint.transport);
  if (!made.ok()) return made.error();
  UniqueFd fd = std::move(made.value());
  if (endpoint.transport == Transport::kVsock) {
    if (Status status = set_vsock_buffers(fd.get()); !status.ok()) return status.error();
  }
  if (Status status = bind_socket(fd.get(), endpoint); !status.ok()) return status.error();
  Listener listener(std::move(fd), endpoint);
  if (endpoint.transport == Transport::kUnix) listener.file_ = file_id(endpoint.path);
  if (::listen(listener.fd(), kBacklog) < 0) return last_error("listen");
  return listener;
}

Listener::~Listener() {
  // Not the file of another that took the place meanwhile.
  if (fd_ && file_ && file_ == file_id(endpoint_.path)) ::unlink(endpoint_.path.c_str());
}

Result<Listener::Accepted> Listener::accept() {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  int raw;
  do {
    raw = ::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &size,
                    SOCK_NONBLOCK | SOCK_CLOEXEC);
  } while (raw < 0 && (errno == EINTR || errno == ECONNABORTED));
  UniqueFd fd(raw);
  if (!fd) return last_error("accept");

  Accepted accepted{.fd = std::move(fd), .peer = {}};
  accepted.peer = peer_of(endpoint_, accepted.fd.get());
  if (endpoint_.transport == Transport::kVsock) {
    sockaddr_vm vm;
    std::memcpy(&vm, &storage, sizeof vm);
    accepted.peer.cid = vm.svm_cid;
    accepted.peer.port = vm.svm_port;
  } else {
    set_unix_buffers(accepted.fd.get());
  }
  return accepted;
}

Result<UniqueFd> start_connect(const Endpoint& endpoint) {
  Result<UniqueFd> made = make_socket(endpoint.transport);
  if (!made.ok()) return made.error();
  UniqueFd fd = std::move(made.value());
  if (endpoint.transport == Transport::kVsock) {
    if (Status status = set_vsock_buffers(fd.get()); !status.ok()) return status.error();
  } else {
    set_unix_buffers(fd.get());
  }
  const Result<SocketAddress> address = address_of(endpoint);
  if (!address.ok()) return address.error();
  int result;
  do {
    result = ::connect(fd.get(), address.value().get(), address.value().size);
  } while (result < 0 && errno == EINTR);
  if (result < 0 && errno != EINPROGRESS) return last_error("connect");
  return fd;
}

Status finish_connect(int fd) {
  int code = 0;
  socklen_t size = sizeof code;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0) {
    return last_error("getsockopt(SO_ERROR)");
  }
  if (code != 0) return Error{"connect", code};
  return Done{};
}

Peer peer_of(const Endpoint& endpoint, int fd) {
  Peer peer{.transport = endpoint.transport, .cid = endpoint.cid, .port = endpoint.port, .pid = 0};
  if (endpoint.transport == Transport::kUnix) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
      peer.pid = credentials.pid;
    }
  }
  return peer;
}

}  // namespace arca
