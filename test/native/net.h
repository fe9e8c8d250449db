// Real devices, sockets and namespaces for tests. What needs root is skipped visibly without it.
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include "fakes.h"
#include "io/unique_fd.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// <sanitizer/allocator_interface.h>, which Debian's GCC has not.
extern "C" size_t __sanitizer_get_current_allocated_bytes();
#else
#include <malloc.h>
#endif

namespace arca::test {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

inline constexpr auto kDeadline = 20s;  // of every wait; sanitizers are slow

// Waits for what tells nobody when it happens.
template <typename Condition>
bool eventually(Condition condition) {
  const auto deadline = Clock::now() + kDeadline;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

inline bool wait_for(int fd, short events) {
  pollfd one{fd, events, 0};
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(kDeadline).count();
  return ::poll(&one, 1, static_cast<int>(ms)) == 1;
}

// Moves the calling thread, and what it starts, to a network namespace of its own.
class OwnNamespace {
 public:
  OwnNamespace() : before_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    REQUIRE(::unshare(CLONE_NEWNET) == 0);
  }
  ~OwnNamespace() {
    if (::setns(before_.get(), CLONE_NEWNET) < 0) std::abort();
  }
  OwnNamespace(const OwnNamespace&) = delete;
  OwnNamespace& operator=(const OwnNamespace&) = delete;

 private:
  UniqueFd before_;
};

// Decorates a test that makes namespaces and TAPs. Where it can't, it is counted as skipped, and
// the reason is said once.
inline doctest::skip needs_root() {
  static const bool missing = [] {
    const bool none = ::geteuid() != 0 || ::access("/dev/net/tun", R_OK | W_OK) != 0;
    if (none) {
      std::fputs("SKIPPED: tests that need root for network namespaces, and /dev/net/tun\n",
                 stderr);
    }
    return none;
  }();
  return doctest::skip(missing);
}

// A directory below /tmp that is removed with its files.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    char name[] = "/tmp/arca-test.XXXXXX";
    if (::mkdtemp(name) == nullptr) std::abort();
    path_ = name;
  }
  ~ScratchDirectory() {
    for (const std::string& file : list(path_)) ::unlink((path_ + "/" + file).c_str());
    ::rmdir(path_.c_str());
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  std::string operator/(const std::string& file) const { return path_ + "/" + file; }

  static std::vector<std::string> list(const std::string& directory) {
    std::vector<std::string> names;
    DIR* handle = ::opendir(directory.c_str());
    if (handle == nullptr) return names;
    while (const dirent* entry = ::readdir(handle)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    ::closedir(handle);
    return names;
  }

 private:
  std::string path_;
};

inline size_t count_descriptors() { return ScratchDirectory::list("/proc/self/fd").size(); }
inline size_t count_threads() { return ScratchDirectory::list("/proc/self/task").size(); }

inline size_t allocated_bytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return __sanitizer_get_current_allocated_bytes();
#else
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
#endif
}

inline bool exists(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

// ---- interfaces of the calling thread's namespace

inline ifreq request_for(const std::string& link) {
  ifreq request{};
  std::memcpy(request.ifr_name, link.data(), std::min(link.size(), sizeof request.ifr_name - 1));
  return request;
}

inline bool ask_interface(unsigned long what, ifreq& request) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return ::ioctl(fd.get(), what, &request) == 0;
}

inline bool has_interface(const std::string& link) {
  ifreq request = request_for(link);
  return ask_interface(SIOCGIFINDEX, request);
}

inline int flags_of(const std::string& link) {
  ifreq request = request_for(link);
  return ask_interface(SIOCGIFFLAGS, request) ? request.ifr_flags & 0xFFFF : -1;
}

inline int mtu_of(const std::string& link) {
  ifreq request = request_for(link);
  return ask_interface(SIOCGIFMTU, request) ? request.ifr_mtu : -1;
}

inline bool has_carrier(const std::string& link) {
  ethtool_value value{.cmd = ETHTOOL_GLINK, .data = 0};
  ifreq request = request_for(link);
  request.ifr_data = reinterpret_cast<char*>(&value);
  return ask_interface(SIOCETHTOOL, request) && value.data != 0;
}

inline void set_up(const std::string& link) {
  ifreq request = request_for(link);
  REQUIRE(ask_interface(SIOCGIFFLAGS, request));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  REQUIRE(ask_interface(SIOCSIFFLAGS, request));
}

// As `ip link del` does.
inline bool delete_interface(const std::string& link) {
  ifreq found = request_for(link);
  if (!ask_interface(SIOCGIFINDEX, found)) return false;
  struct {
    nlmsghdr header;
    ifinfomsg info;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_DELLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.info.ifi_index = found.ifr_ifindex;
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (::send(fd.get(), &request, sizeof request, 0) < 0) return false;
  struct {
    nlmsghdr header;
    nlmsgerr error;
  } answer{};
  return ::recv(fd.get(), &answer, sizeof answer, 0) > 0 && answer.error.error == 0;
}

inline std::string read_file(const std::string& path) {
  std::string text;
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char piece[4096];
  for (;;) {
    const ssize_t size = fd ? ::read(fd.get(), piece, sizeof piece) : 0;
    if (size <= 0) return text;
    text.append(piece, static_cast<size_t>(size));
  }
}

// The host's side of an interface: what is sent here the TAP's owner reads, and the other way
// round. Past the queueing discipline, which comes to life only some time after the carrier.
class PacketSocket {
 public:
  explicit PacketSocket(const std::string& link)
      : fd_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const int one = 1;
    REQUIRE(::setsockopt(fd_.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) == 0);
    REQUIRE(::setsockopt(fd_.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) == 0);
    const int room = 64 * 1024 * 1024;
    REQUIRE(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) == 0);
    ifreq found = request_for(link);
    REQUIRE(ask_interface(SIOCGIFINDEX, found));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = found.ifr_ifindex;
    REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }

  // False when the device did not take it.
  bool send(const ByteVector& frame) const {
    return ::send(fd_.get(), frame.data(), frame.size(), 0) == static_cast<ssize_t>(frame.size());
  }

  // The next frame; empty after the deadline.
  ByteVector receive() const {
    ByteVector frame(70000);
    for (;;) {
      const ssize_t size = ::recv(fd_.get(), frame.data(), frame.size(), 0);
      if (size >= 0) {
        frame.resize(static_cast<size_t>(size));
        return frame;
      }
      if (errno != EAGAIN || !wait_for(fd_.get(), POLLIN)) return {};
    }
  }

 private:
  UniqueFd fd_;
};

// ---- a scripted peer on a Unix socket

inline sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

inline UniqueFd connect_to(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = unix_address(path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    return {};
  }
  return fd;
}

inline UniqueFd listen_at(const std::string& path, int backlog = 128) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = unix_address(path);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      ::listen(fd.get(), backlog) < 0) {
    return {};
  }
  return fd;
}

struct PeerRecord {
  int type = -1;  // -1: the stream ended, or the deadline passed
  ByteVector payload{};

  bool operator==(const PeerRecord&) const = default;
};

class ScriptedPeer {
 public:
  explicit ScriptedPeer(UniqueFd fd) : fd_(std::move(fd)) {}
  explicit ScriptedPeer(const std::string& path) : fd_(connect_to(path)) {}

  int fd() const { return fd_.get(); }
  bool connected() const { return static_cast<bool>(fd_); }
  void hang_up() { fd_.reset(); }

  // Waits while the other end is full. False when it is gone, or did not read in time.
  bool send(const ByteVector& bytes) {
    size_t at = 0;
    while (at < bytes.size()) {
      const ssize_t size =
          ::send(fd_.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size > 0) {
        at += static_cast<size_t>(size);
      } else if (errno != EAGAIN || !wait_for(fd_.get(), POLLOUT)) {
        return false;
      }
    }
    return true;
  }
  bool send(RecordType type, const ByteVector& payload) { return send(make_record(type, payload)); }

  PeerRecord receive() {
    const ByteVector header = take(kRecordHeaderSize);
    if (header.empty()) return {};
    const size_t size = size_t{header[1]} << 16 | size_t{header[2]} << 8 | size_t{header[3]};
    return {header[0], take(size)};
  }

  // Whether nothing comes any more: end of stream, or a reset.
  bool is_over() { return take(1).empty() && over_; }

 private:
  ByteVector take(size_t size) {
    while (buffer_.size() - at_ < size) {
      if (at_ > 0) buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(at_));
      at_ = 0;
      const size_t have = buffer_.size();
      buffer_.resize(have + 256 * 1024);
      const bool ready = wait_for(fd_.get(), POLLIN);
      const ssize_t got =
          ready ? ::recv(fd_.get(), buffer_.data() + have, buffer_.size() - have, 0) : -1;
      buffer_.resize(have + static_cast<size_t>(std::max(got, ssize_t{0})));
      if (got <= 0) {
        over_ = ready;
        return {};
      }
    }
    const auto begin = buffer_.begin() + static_cast<ptrdiff_t>(at_);
    at_ += size;
    return {begin, begin + static_cast<ptrdiff_t>(size)};
  }

  UniqueFd fd_;
  ByteVector buffer_;
  size_t at_ = 0;
  bool over_ = false;
};

}  // namespace arca::test
