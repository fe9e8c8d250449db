// Round trips over UDP at a fixed rate.
//
//   pingpong --serve ADDRESS:PORT
//   pingpong --to ADDRESS:PORT [--rate HZ] [--seconds S] [--warmup-ms MS] [--size BYTES]
//   pingpong --to ADDRESS:PORT --first        ends with the first answer, tried every 2 ms
//
// Open loop: a datagram goes out each 1/rate s whether or not the last one came back, so a stall is
// seen by every datagram that falls into it (no coordinated omission). A round trip begins when the
// datagram was DUE, so a sender that was late does not hide it either. Prints one JSON line; the
// histogram's buckets are 1/256 of their octave wide (0.4 %), each as [lower bound in ns, count].

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "io/unique_fd.h"

namespace arca::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr size_t kLargestDatagram = 9000;
constexpr int64_t kDrainNs = 500'000'000;

struct Arguments {
  std::string serve;
  std::string to;
  bool first = false;
  int64_t rate = 1000;  // per second
  double seconds = 2;
  int64_t warmup_ms = 200;
  size_t size = 64;  // UDP payload, bytes
};

struct Ping {
  uint64_t sequence;
  int64_t due_ns;
};
static_assert(sizeof(Ping) == 16);

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "pingpong: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

[[noreturn]] void usage() {
  std::fputs(
      "Usage: pingpong --serve ADDRESS:PORT\n"
      "       pingpong --to ADDRESS:PORT [--first] [--rate HZ] [--seconds S] [--warmup-ms MS] "
      "[--size BYTES]\n",
      stderr);
  std::exit(2);
}

sockaddr_in parse_address(const std::string& text) {
  const size_t colon = text.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (colon == std::string::npos ||
      ::inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    usage();
  }
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(text.c_str() + colon + 1)));
  return address;
}

int64_t now_ns() { return nanoseconds(Clock::now().time_since_epoch()).count(); }

const sockaddr* generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

UniqueFd udp_socket() {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) die("socket");
  return fd;
}

[[noreturn]] void serve(const std::string& where) {
  const sockaddr_in own = parse_address(where);
  const UniqueFd fd = udp_socket();
  if (::bind(fd.get(), generic(own), sizeof own) < 0) die("bind");
  std::puts("ready");
  std::fflush(stdout);
  static uint8_t datagram[kLargestDatagram];
  for (;;) {
    sockaddr_in from{};
    socklen_t size = sizeof from;
    auto* address = reinterpret_cast<sockaddr*>(&from);
    const ssize_t got = ::recvfrom(fd.get(), datagram, sizeof datagram, 0, address, &size);
    if (got > 0) ::sendto(fd.get(), datagram, static_cast<size_t>(got), 0, address, size);
  }
}

class Histogram {
 public:
  void add(int64_t ns) {
    const auto value = static_cast<uint64_t>(std::max<int64_t>(ns, 1));
    const int octave = 63 - std::countl_zero(value);
    const int shift = std::max(octave - 8, 0);
    ++buckets_[value >> shift << shift];
    ++count_;
  }
  uint64_t count() const { return count_; }
  void print() const {
    const char* separator = "";
    for (const auto& [lower, count] : buckets_) {
      std::printf("%s[%llu,%llu]", separator, static_cast<unsigned long long>(lower),
                  static_cast<unsigned long long>(count));
      separator = ",";
    }
  }

 private:
  std::map<uint64_t, uint64_t> buckets_;
  uint64_t count_ = 0;
};

class Client {
 public:
  explicit Client(const Arguments& arguments)
      : arguments_(arguments), to_(parse_address(arguments.to)), fd_(udp_socket()) {}

  void run() {
    if (!connect()) die("connect");
    const int64_t period = 1'000'000'000 / arguments_.rate;
    const int64_t start = now_ns();
    const int64_t counted_from = start + arguments_.warmup_ms * 1'000'000;
    const int64_t end = counted_from + static_cast<int64_t>(arguments_.seconds * 1e9);
    counted_from_ = counted_from;
    for (int64_t due = start; due < end; due += period) {
      receive_until(due);
      send(due);
    }
    const int64_t give_up = now_ns() + kDrainNs;
    while (histogram_.count() < sent_ && now_ns() < give_up) receive_until(now_ns() + 1'000'000);
    print();
  }

  // Time until the first answer, while one is sent every 2 ms.
  int first() {
    const int64_t start = now_ns();
    const int64_t end = start + static_cast<int64_t>(arguments_.seconds * 1e9);
    bool connected = false;
    for (int64_t due = start; due < end && answers_ == 0; due += 2'000'000) {
      // There may be no interface and no route yet.
      connected = connected || connect();
      if (connected) send(due);
      receive_until(due + 2'000'000);
    }
    std::printf("{\"answered\":%s,\"elapsedNs\":%lld}\n", answers_ > 0 ? "true" : "false",
                static_cast<long long>(now_ns() - start));
    return answers_ > 0 ? 0 : 1;
  }

 private:
  bool connect() { return ::connect(fd_.get(), generic(to_), sizeof to_) == 0; }

  void send(int64_t due) {
    uint8_t datagram[kLargestDatagram] = {};
    const Ping ping{next_++, due};
    std::memcpy(datagram, &ping, sizeof ping);
    if (due >= counted_from_) {
      ++sent_;
      worst_late_ns_ = std::max(worst_late_ns_, now_ns() - due);
    }
    // A full queue or a route that is not there yet is a lost datagram.
    [[maybe_unused]] const ssize_t sent = ::send(fd_.get(), datagram, arguments_.size, 0);
  }

  // Takes answers until the clock says `deadline`; with --first until one came.
  void receive_until(int64_t deadline) {
    for (;;) {
      const int64_t left = deadline - now_ns();
      if (left <= 0) return;
      const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
      pollfd one{fd_.get(), POLLIN, 0};
      if (::ppoll(&one, 1, &timeout, nullptr) <= 0) continue;
      Ping ping{};
      const ssize_t got = ::recv(fd_.get(), &ping, sizeof ping, MSG_DONTWAIT);
      if (got < static_cast<ssize_t>(sizeof ping)) continue;  // also ICMP errors
      ++answers_;
      if (arguments_.first) return;
      if (ping.due_ns >= counted_from_) histogram_.add(now_ns() - ping.due_ns);
    }
  }

  void print() const {
    std::printf("{\"sent\":%llu,\"answered\":%llu,\"rateHz\":%lld,\"sizeBytes\":%zu,",
                static_cast<unsigned long long>(sent_),
                static_cast<unsigned long long>(histogram_.count()),
                static_cast<long long>(arguments_.rate), arguments_.size);
    std::printf("\"worstLateNs\":%lld,\"histogram\":[", static_cast<long long>(worst_late_ns_));
    histogram_.print();
    std::puts("]}");
  }

  const Arguments& arguments_;
  const sockaddr_in to_;
  UniqueFd fd_;
  Histogram histogram_;
  int64_t counted_from_ = 0;
  uint64_t next_ = 0;
  uint64_t sent_ = 0;
  uint64_t answers_ = 0;
  int64_t worst_late_ns_ = 0;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--first") {
      arguments.first = true;
      continue;
    }
    if (++i >= argc) usage();
    const char* value = argv[i];
    if (name == "--serve") {
      arguments.serve = value;
    } else if (name == "--to") {
      arguments.to = value;
    } else if (name == "--rate") {
      arguments.rate = std::atoll(value);
    } else if (name == "--seconds") {
      arguments.seconds = std::atof(value);
    } else if (name == "--warmup-ms") {
      arguments.warmup_ms = std::atoll(value);
    } else if (name == "--size") {
      arguments.size = static_cast<size_t>(std::atoll(value));
    } else {
      usage();
    }
  }
  if (arguments.serve.empty() == arguments.to.empty() || arguments.rate <= 0 ||
      arguments.size < sizeof(Ping) || arguments.size > kLargestDatagram) {
    usage();
  }
  return arguments;
}

}  // namespace
}  // namespace arca::bench

int main(int argc, char** argv) {
  using namespace arca::bench;
  const Arguments arguments = parse(argc, argv);
  // The default of 50 us is half of what is measured.
  ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  if (!arguments.serve.empty()) serve(arguments.serve);
  Client client(arguments);
  if (arguments.first) return client.first();
  client.run();
}
