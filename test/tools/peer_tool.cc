// The far end of a relay's stream, for the integration tests, over a Unix socket or AF_VSOCK, which
// Node can't open.
//
//   peer-tool pipe ADDRESS [--write-size N] [--read-sizes]
//   peer-tool tap ADDRESS DEVICE
//
// `pipe` joins the stream to standard input and output: a peer that a test scripts. Its input's end
// shuts the stream down for writing; the stream's end ends it with 0, a reset with 1. It sends no
// more than N bytes at once, and writes the size of each receive to standard error.
//
// `tap` is a plain peer: it knows records of type 0 and nothing else, and joins them to a TAP
// device that it makes. Anything else in the stream ends it with 2.
//
// ADDRESS is unix:PATH or vsock:CID:PORT. vsock is refused but where UML=1 says that this is the
// nested kernel of scripts/vm: the machine's own kernel would reach the machine's host.

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
// After sys/socket.h, whose sa_family_t it needs.
#include <linux/vm_sockets.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kHeaderSize = 4;
constexpr std::size_t kLargestFrame = 65553;
constexpr std::size_t kBufferSize = 1 << 18;

// Other threads are at work: nothing of theirs is taken down.
[[noreturn]] void leave(int code) {
  std::fflush(nullptr);
  std::_Exit(code);
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "peer-tool: %s: %s\n", what, std::strerror(errno));
  leave(1);
}

[[noreturn]] void usage() {
  std::fputs(
      "usage: peer-tool pipe ADDRESS [--write-size N] [--read-sizes]\n"
      "       peer-tool tap ADDRESS DEVICE\n",
      stderr);
  leave(2);
}

int connect_to(int family, const void* address, socklen_t size) {
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, static_cast<const sockaddr*>(address), size) != 0) fail("connect");
  return fd;
}

int dial(const std::string& address) {
  if (address.starts_with("unix:")) {
    sockaddr_un un{};
    un.sun_family = AF_UNIX;
    if (address.size() - 5 >= sizeof un.sun_path) usage();
    std::memcpy(un.sun_path, address.data() + 5, address.size() - 5);
    return connect_to(AF_UNIX, &un, sizeof un);
  }
  unsigned cid = 0;
  unsigned port = 0;
  if (std::sscanf(address.c_str(), "vsock:%u:%u", &cid, &port) != 2) usage();
  const char* nested = std::getenv("UML");
  if (nested == nullptr || std::strcmp(nested, "1") != 0) {
    std::fputs("peer-tool: vsock is for the nested kernel only\n", stderr);
    leave(2);
  }
  sockaddr_vm vm{};
  vm.svm_family = AF_VSOCK;
  vm.svm_cid = cid;
  vm.svm_port = port;
  return connect_to(AF_VSOCK, &vm, sizeof vm);
}

// 0: the end. A peer that is gone is told by errno.
std::size_t read_some(int fd, std::uint8_t* bytes, std::size_t size, const char* what) {
  for (;;) {
    const ssize_t got = read(fd, bytes, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) fail(what);
  }
}

void write_all(int fd, const std::uint8_t* bytes, std::size_t size, const char* what) {
  while (size > 0) {
    const ssize_t written = write(fd, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(what);
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
}

void input_to_stream(int stream, std::size_t write_size) {
  std::vector<std::uint8_t> buffer(kBufferSize);
  for (;;) {
    const std::size_t got = read_some(STDIN_FILENO, buffer.data(), buffer.size(), "input");
    if (got == 0) break;
    for (std::size_t at = 0; at < got; at += write_size) {
      const std::size_t size = std::min(write_size, got - at);
      // A relay that closed has said all that it will; the other thread hears it and ends us.
      ssize_t sent = 0;
      for (std::size_t done = 0; done < size; done += static_cast<std::size_t>(sent)) {
        sent = send(stream, buffer.data() + at + done, size - done, MSG_NOSIGNAL);
        if (sent < 0) return;
      }
    }
  }
  shutdown(stream, SHUT_WR);
}

void stream_to_output(int stream, bool tell_sizes) {
  std::vector<std::uint8_t> buffer(kBufferSize);
  for (;;) {
    const std::size_t got = read_some(stream, buffer.data(), buffer.size(), "stream");
    if (got == 0) return;
    if (tell_sizes) std::fprintf(stderr, "%zu\n", got);
    write_all(STDOUT_FILENO, buffer.data(), got, "output");
  }
}

[[noreturn]] void run_pipe(int stream, std::size_t write_size, bool tell_sizes) {
  std::fputs("connected\n", stderr);
  std::thread(input_to_stream, stream, write_size).detach();
  stream_to_output(stream, tell_sizes);
  leave(0);
}

// Without a virtio-net header: the kernel segments and fills every checksum before it gives a
// frame, and takes none that is not whole.
int open_tap(const char* name) {
  const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) fail("open /dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ioctl(fd, TUNSETIFF, &request) != 0) fail("TUNSETIFF");
  return fd;
}

void tap_to_stream(int tap, int stream) {
  std::vector<std::uint8_t> record(kHeaderSize + kLargestFrame);
  for (;;) {
    const std::size_t size =
        read_some(tap, record.data() + kHeaderSize, kLargestFrame, "read from the TAP");
    for (std::size_t i = 0; i < kHeaderSize; i++)
      record[i] = static_cast<std::uint8_t>(size >> (8 * (kHeaderSize - 1 - i)));
    write_all(stream, record.data(), kHeaderSize + size, "stream");
  }
}

void stream_to_tap(int stream, int tap) {
  std::vector<std::uint8_t> bytes(kBufferSize);
  std::size_t held = 0;
  for (;;) {
    const std::size_t got = read_some(stream, bytes.data() + held, bytes.size() - held, "stream");
    if (got == 0) return;
    held += got;
    std::size_t at = 0;
    while (held - at >= kHeaderSize) {
      const std::uint8_t* record = bytes.data() + at;
      const std::size_t size = std::size_t{record[0]} << 24 | std::size_t{record[1]} << 16 |
                               std::size_t{record[2]} << 8 | record[3];
      if (size > kLargestFrame) {
        std::fprintf(stderr, "peer-tool: a record of %zu bytes: not for a plain peer\n", size);
        leave(2);
      }
      if (held - at < kHeaderSize + size) break;
      // What the TAP does not take (it is down yet) is lost, as anywhere.
      [[maybe_unused]] const ssize_t written = write(tap, record + kHeaderSize, size);
      at += kHeaderSize + size;
    }
    std::copy(bytes.data() + at, bytes.data() + held, bytes.data());
    held -= at;
  }
}

[[noreturn]] void run_tap(int stream, const char* device) {
  const int tap = open_tap(device);
  std::fputs("connected\n", stderr);
  std::thread(tap_to_stream, tap, stream).detach();
  stream_to_tap(stream, tap);
  leave(0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) usage();
  const std::string command = argv[1];
  std::size_t write_size = kBufferSize;
  bool tell_sizes = false;
  if (command == "tap" && argc == 4) run_tap(dial(argv[2]), argv[3]);
  if (command != "pipe") usage();
  for (int i = 3; i < argc; i++) {
    const std::string argument = argv[i];
    if (argument == "--read-sizes") {
      tell_sizes = true;
    } else if (argument == "--write-size" && i + 1 < argc) {
      write_size = static_cast<std::size_t>(std::max(1, std::atoi(argv[++i])));
    } else {
      usage();
    }
  }
  run_pipe(dial(argv[2]), write_size, tell_sizes);
}
