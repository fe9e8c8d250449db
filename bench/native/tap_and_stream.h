// What the bench's relays have in common: a TAP and one stream over a Unix socket. Deliberately not
// the core's own: a contender must stay as it is when the core changes. Blocking, and anything that
// fails ends the process with a word on standard error.
#pragma once

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "io/unique_fd.h"

namespace arca::bench {

inline constexpr size_t kHeaderSize = 4;
inline constexpr size_t kLargestFrame = 65536;

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

struct RelayArguments {
  bool listen = false;
  std::string path;
  std::string tap;
};

// `PROGRAM --listen|--connect PATH --tap NAME`
inline RelayArguments parse_relay_arguments(int argc, char** argv) {
  RelayArguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--listen" || name == "--connect") {
      arguments.listen = name == "--listen";
      arguments.path = argv[i + 1];
    } else if (name == "--tap") {
      arguments.tap = argv[i + 1];
    }
  }
  if (arguments.path.empty() || arguments.tap.empty() || argc != 5) {
    std::fprintf(stderr, "Usage: %s --listen|--connect PATH --tap NAME\n", argv[0]);
    std::exit(2);
  }
  return arguments;
}

// A TAP without a virtio-net header: the kernel segments and fills every checksum.
inline UniqueFd open_tap(const std::string& name, int extra_flags = 0) {
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | extra_flags));
  if (!fd) die("open /dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name.c_str());
  if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) die("TUNSETIFF");
  return fd;
}

inline sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    die(path.c_str());
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

inline UniqueFd accept_one(const std::string& path) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = unix_address(path);
  ::unlink(path.c_str());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      ::listen(listener.get(), 1) < 0) {
    die(path.c_str());
  }
  UniqueFd stream(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!stream) die("accept");
  return stream;
}

// Nothing tells when somebody else starts to listen: tried every 5 ms, for 5 s.
inline UniqueFd connect_to(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  for (int tries = 0; tries < 1000; ++tries) {
    UniqueFd stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      return stream;
    }
    if (errno != ENOENT && errno != ECONNREFUSED) break;
    ::poll(nullptr, 0, 5);
  }
  die(path.c_str());
}

inline UniqueFd open_stream(const RelayArguments& arguments) {
  return arguments.listen ? accept_one(arguments.path) : connect_to(arguments.path);
}

// Writes to a blocking stream until all is out.
inline void write_all(int fd, const uint8_t* bytes, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(fd, bytes, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      die("write to the stream");
    }
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

// What a TAP does not take is dropped, as by any relay: interface down, queue full, bad frame.
inline void write_frame(int tap, const uint8_t* frame, size_t size) {
  [[maybe_unused]] const ssize_t written = ::write(tap, frame, size);
}

}  // namespace arca::bench
