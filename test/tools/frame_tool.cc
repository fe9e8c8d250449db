// Sends and captures Ethernet frames on a device, for the integration tests; as small as it can be.
//
//   frame-tool send DEVICE HEX... [--count N] [--interval-us N] [--virtio-net-header]
//   frame-tool listen DEVICE [--match HEX] [--timeout MS]
//
// `send` sends the frames in turn, N times; with --virtio-net-header each begins with one, so that
// the device is asked to checksum and segment as it is a container's stack that asks. `listen`
// prints "listening" once it is bound, then each frame that comes in and holds these bytes, in hex,
// one a line; it ends with 0 at the time-out or at SIGTERM, after it has printed what was queued.
// Frames that leave by the device are not shown. Needs CAP_NET_RAW.

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Bytes = std::vector<std::uint8_t>;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "frame-tool: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

[[noreturn]] void usage() {
  std::fputs(
      "usage: frame-tool send DEVICE HEX... [--count N] [--interval-us N] [--virtio-net-header]\n"
      "       frame-tool listen DEVICE [--match HEX] [--timeout MS]\n",
      stderr);
  std::exit(2);
}

Bytes parse_hex(const std::string& text) {
  Bytes bytes;
  if (text.size() % 2 != 0) usage();
  for (std::size_t i = 0; i < text.size(); i += 2) {
    char* end = nullptr;
    const std::string pair = text.substr(i, 2);
    bytes.push_back(static_cast<std::uint8_t>(std::strtoul(pair.c_str(), &end, 16)));
    if (*end != '\0') usage();
  }
  return bytes;
}

int open_on(const char* device) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket(AF_PACKET)");
  const int on = 1;
  // The kernel takes a VLAN tag out of the frame; this gives it back beside it.
  if (setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) != 0) fail("PACKET_AUXDATA");
  const int buffer_bytes = 8 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(if_nametoindex(device));
  if (address.sll_ifindex == 0) fail(device);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind");
  packet_mreq everything{};
  everything.mr_ifindex = address.sll_ifindex;
  everything.mr_type = PACKET_MR_PROMISC;
  if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &everything, sizeof everything) != 0)
    fail("promiscuous");
  return fd;
}

int send_frames(const char* device, const std::vector<Bytes>& frames, long count, long interval_us,
                bool with_header) {
  const int fd = open_on(device);
  const int on = 1;
  if (with_header && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0)
    fail("PACKET_VNET_HDR");
  const timespec interval{interval_us / 1000000, interval_us % 1000000 * 1000};
  for (long i = 0; i < count; i++) {
    for (const Bytes& frame : frames) {
      if (send(fd, frame.data(), frame.size(), 0) < 0) {
        // A queue that is full, or a link that is down for now, costs a frame as it would anybody
        // else.
        if (errno != ENOBUFS && errno != ENETDOWN && errno != ENXIO && errno != EAGAIN)
          fail("send");
      }
      if (interval_us > 0) nanosleep(&interval, nullptr);
    }
  }
  return 0;
}

void put_back_tag(Bytes& frame, msghdr& message) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_PACKET || control->cmsg_type != PACKET_AUXDATA) continue;
    tpacket_auxdata aux{};
    std::memcpy(&aux, CMSG_DATA(control), sizeof aux);
    if ((aux.tp_status & TP_STATUS_VLAN_VALID) == 0 || frame.size() < 12) return;
    const std::uint16_t type =
        (aux.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? aux.tp_vlan_tpid : ETH_P_8021Q;
    const std::array<std::uint8_t, 4> tag = {static_cast<std::uint8_t>(type >> 8),
                                             static_cast<std::uint8_t>(type),
                                             static_cast<std::uint8_t>(aux.tp_vlan_tci >> 8),
                                             static_cast<std::uint8_t>(aux.tp_vlan_tci)};
    frame.insert(frame.begin() + 12, tag.begin(), tag.end());
  }
}

// False: nothing is queued.
bool print_one(int fd, const Bytes& match) {
  static std::array<std::uint8_t, 1 << 17> buffer;
  alignas(cmsghdr) std::array<char, 256> control{};
  sockaddr_ll from{};
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof from;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);
  if (size < 0) {
    // ENETDOWN is told once when the device goes down; it may come up again.
    if (errno == EAGAIN) return false;
    if (errno == ENETDOWN || errno == EINTR) return true;
    fail("recvmsg");
  }
  if (from.sll_pkttype == PACKET_OUTGOING) return true;
  Bytes frame(buffer.begin(), buffer.begin() + size);
  put_back_tag(frame, message);
  if (std::search(frame.begin(), frame.end(), match.begin(), match.end()) == frame.end())
    return true;
  std::string line;
  for (const std::uint8_t byte : frame) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", byte);
    line += pair;
  }
  std::puts(line.c_str());
  std::fflush(stdout);
  return true;
}

int listen_on(const char* device, const Bytes& match, long timeout_ms) {
  sigset_t terminate;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  sigprocmask(SIG_BLOCK, &terminate, nullptr);
  const int signals = signalfd(-1, &terminate, SFD_CLOEXEC);
  if (signals < 0) fail("signalfd");
  const int fd = open_on(device);
  std::puts("listening");
  std::fflush(stdout);
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto to_ms = [](const timespec& time) {
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
  };
  const long deadline = to_ms(now) + timeout_ms;
  std::array<pollfd, 2> polled = {pollfd{fd, POLLIN, 0}, pollfd{signals, POLLIN, 0}};
  for (;;) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    const long left = deadline - to_ms(now);
    if (left <= 0) break;
    if (poll(polled.data(), polled.size(), static_cast<int>(left)) < 0 && errno != EINTR)
      fail("poll");
    while (print_one(fd, match)) {
    }
    if ((polled[1].revents & POLLIN) != 0) break;
  }
  while (print_one(fd, match)) {
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) usage();
  const std::string command = argv[1];
  std::vector<Bytes> frames;
  Bytes match;
  long count = 1;
  long interval_us = 0;
  long timeout_ms = 5000;
  bool with_header = false;
  for (int i = 3; i < argc; i++) {
    const std::string argument = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : (usage(), nullptr); };
    if (argument == "--count") {
      count = std::atol(value());
    } else if (argument == "--interval-us") {
      interval_us = std::atol(value());
    } else if (argument == "--timeout") {
      timeout_ms = std::atol(value());
    } else if (argument == "--virtio-net-header") {
      with_header = true;
    } else if (argument == "--match") {
      match = parse_hex(value());
    } else if (argument.starts_with("--")) {
      usage();
    } else {
      frames.push_back(parse_hex(argument));
    }
  }
  if (command == "send") return send_frames(argv[2], frames, count, interval_us, with_header);
  if (command == "listen") return listen_on(argv[2], match, timeout_ms);
  usage();
}
