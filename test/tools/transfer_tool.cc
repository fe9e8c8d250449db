// Carries bytes from one container to another, for the integration tests: the content of a transfer
// is compared by its hash, so nothing may be lost, over UDP neither.
//
//   transfer-tool receive tcp|udp ADDRESS PORT
//   transfer-tool send tcp|udp|udp-segments ADDRESS PORT
//
// `receive` writes "listening" to standard error, then what arrives to standard output, to the end.
// `send` sends its standard input. A datagram is a number and content (none: the end); each is sent
// until its number comes back, so that both directions carry checksums. `udp-segments` hands
// several datagrams over at once, for the kernel or a device to part (UDP_SEGMENT, udp(7));
// received as udp.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

// With the number, an IP header of 40 bytes and that of UDP: 1448 bytes, under an MTU of 1500.
constexpr std::size_t kContentSize = 1396;
constexpr std::size_t kNumberSize = 4;
constexpr int kAgainAfterMs = 200;

using Datagram = std::array<std::uint8_t, kNumberSize + kContentSize>;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "transfer-tool: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

[[noreturn]] void usage() {
  std::fputs("usage: transfer-tool receive|send tcp|udp|udp-segments ADDRESS PORT\n", stderr);
  std::exit(2);
}

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Address parse_address(const char* text, const char* port) {
  Address address;
  const std::uint16_t number = htons(static_cast<std::uint16_t>(std::atoi(port)));
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = number;
    address.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = number;
    address.size = sizeof *v6;
  } else {
    usage();
  }
  return address;
}

int make_socket(const Address& address, int type) {
  const int fd = socket(address.storage.ss_family, type | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return fd;
}

int bind_socket(const Address& address, int type) {
  const int fd = make_socket(address, type);
  if (bind(fd, address.get(), address.size) != 0) fail("bind");
  if (type == SOCK_STREAM && listen(fd, 1) != 0) fail("listen");
  std::fputs("listening\n", stderr);
  return fd;
}

int connect_socket(const Address& address, int type) {
  const int fd = make_socket(address, type);
  if (connect(fd, address.get(), address.size) != 0) fail("connect");
  return fd;
}

void write_all(int fd, const std::uint8_t* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t written = write(fd, bytes, size);
    if (written < 0) fail("write");
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
}

// Fills the buffer, but for the last of the input.
std::size_t read_input(std::uint8_t* bytes, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = read(STDIN_FILENO, bytes + done, size - done);
    if (got < 0) fail("input");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void copy(int from, int to) {
  static std::array<std::uint8_t, 1 << 16> buffer;
  for (;;) {
    const ssize_t got = read(from, buffer.data(), buffer.size());
    if (got < 0) fail("read");
    if (got == 0) return;
    write_all(to, buffer.data(), static_cast<std::size_t>(got));
  }
}

void receive_tcp(const Address& address) {
  const int listener = bind_socket(address, SOCK_STREAM);
  const int fd = accept(listener, nullptr, nullptr);
  if (fd < 0) fail("accept");
  copy(fd, STDOUT_FILENO);
}

void send_tcp(const Address& address) {
  const int fd = connect_socket(address, SOCK_STREAM);
  copy(STDIN_FILENO, fd);
  shutdown(fd, SHUT_WR);
  // The receiver closes when it has everything.
  std::uint8_t byte = 0;
  if (read(fd, &byte, 1) != 0) fail("close");
}

void receive_udp(const Address& address) {
  const int fd = bind_socket(address, SOCK_DGRAM);
  Datagram datagram;
  for (std::uint32_t expected = 0;;) {
    Address from;
    from.size = sizeof from.storage;
    const ssize_t got = recvfrom(fd, datagram.data(), datagram.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from.storage), &from.size);
    if (got < static_cast<ssize_t>(kNumberSize)) fail("recvfrom");
    std::uint32_t number = 0;
    std::memcpy(&number, datagram.data(), kNumberSize);
    number = ntohl(number);
    if (number > expected) continue;
    sendto(fd, datagram.data(), kNumberSize, 0, from.get(), from.size);
    if (number < expected) continue;
    const std::size_t size = static_cast<std::size_t>(got) - kNumberSize;
    if (size == 0) return;
    write_all(STDOUT_FILENO, datagram.data() + kNumberSize, size);
    expected++;
  }
}

bool is_answered(int fd, std::uint32_t number) {
  pollfd polled{fd, POLLIN, 0};
  while (poll(&polled, 1, kAgainAfterMs) > 0) {
    std::uint32_t answer = 0;
    const ssize_t got = recv(fd, &answer, sizeof answer, MSG_DONTWAIT);
    // The receiver has ended, or has not begun.
    if (got < 0 && errno == ECONNREFUSED) return false;
    if (got == sizeof answer && ntohl(answer) == number) return true;
  }
  return false;
}

void send_udp(const Address& address) {
  const int fd = connect_socket(address, SOCK_DGRAM);
  Datagram datagram;
  for (std::uint32_t number = 0;; number++) {
    const std::uint32_t wire = htonl(number);
    std::memcpy(datagram.data(), &wire, kNumberSize);
    const std::size_t size = read_input(datagram.data() + kNumberSize, kContentSize);
    do {
      // The answer to the end may be lost, and the receiver gone with it.
      if (send(fd, datagram.data(), kNumberSize + size, 0) < 0 && size == 0) return;
    } while (!is_answered(fd, number));
    if (size == 0) return;
  }
}

// The receiver answers in order, so the answer to the last of a group is the answer to all.
void send_udp_segments(const Address& address) {
  constexpr std::size_t kGroup = 16;
  const int fd = connect_socket(address, SOCK_DGRAM);
  const int segment_size = static_cast<int>(sizeof(Datagram));
  if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment_size, sizeof segment_size) != 0) {
    fail("setsockopt(UDP_SEGMENT)");
  }
  static std::array<std::uint8_t, kGroup * sizeof(Datagram)> group;
  for (std::uint32_t number = 0;;) {
    std::size_t size = 0;
    std::size_t content = kContentSize;
    for (std::size_t i = 0; i < kGroup && content == kContentSize; i++, number++) {
      const std::uint32_t wire = htonl(number);
      std::memcpy(group.data() + size, &wire, kNumberSize);
      content = read_input(group.data() + size + kNumberSize, kContentSize);
      size += kNumberSize + content;
    }
    do {
      if (send(fd, group.data(), size, 0) < 0 && content == 0) return;
    } while (!is_answered(fd, number - 1));
    if (content == 0) return;
    if (content < kContentSize) {
      // What is left is the end: a datagram without content.
      const std::uint32_t wire = htonl(number);
      do {
        if (send(fd, &wire, sizeof wire, 0) < 0) return;
      } while (!is_answered(fd, number));
      return;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) usage();
  const std::string what = std::string(argv[1]) + " " + argv[2];
  const Address address = parse_address(argv[3], argv[4]);
  if (what == "receive tcp") {
    receive_tcp(address);
  } else if (what == "send tcp") {
    send_tcp(address);
  } else if (what == "receive udp") {
    receive_udp(address);
  } else if (what == "send udp") {
    send_udp(address);
  } else if (what == "send udp-segments") {
    send_udp_segments(address);
  } else {
    usage();
  }
}
