// Is io_uring worth it on the TAP? The core's pumps on real TAPs and Unix stream sockets, with
// plain readv and writev and with io_uring behind the same FramePort, side by side in one run.
//
//   uring [ROUNDS [FRAMES]]     11 rounds of 12000 small frames a case; needs root
//
// docs/decisions/0003-io-uring.md has what was seen. The TAPs stand in a network namespace of this
// process, each contender with its own. Only pump.run() is timed, and what io_uring needs after it.
//
//   tap-to-stream   an AF_PACKET socket sends a burst into each TAP; the pump reads and sends it;
//                   what arrives is checked record by record: size, and a number in the last bytes.
//   stream-to-tap   a burst of records is written to the stream; the pump reads it and writes the
//                   TAP. In the first round, which does not count, an AF_PACKET socket looks at
//                   what arrives behind the TAP. In the others nobody does: the stack drops the
//                   frames at once, for they are not addressed to it (the least that a TAP write
//                   can cost, so what io_uring saves is as large as it gets), and the interface
//                   counts them.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include "io/stream_socket.h"
#include "io/tap_device.h"
#include "record/hello.h"
#include "relay/stream_to_tap.h"
#include "relay/tap_to_stream.h"
#include "uring_tap.h"

namespace arca::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSocketBuffer = 4 * 1024 * 1024;
constexpr size_t kBurstSize = 64 * 1024;  // of a send, what a Unix socket gets by default
constexpr Offloads kOffloads = kOffloadChecksum | kOffloadTso4 | kOffloadTso6;
constexpr size_t kNumberSize = 4;  // the last bytes of each frame

[[noreturn]] void fail(const char* what, const char* where) {
  std::fprintf(stderr, "%s: %s\n", where, what);
  std::exit(1);
}

// ---- Numbers

struct Spread {
  double median;
  double half;  // half of the interquartile range
};

Spread spread_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const size_t count = samples.size();
  return {samples[count / 2], (samples[count * 3 / 4] - samples[count / 4]) / 2};
}

// ---- Frames

// An IPv4 frame to nobody: UDP, or a TCP segment that the kernel would have to cut.
std::vector<uint8_t> make_frame(size_t size) {
  const bool large = size > 1514;
  const size_t transport = large ? 32 : 8;
  std::vector<uint8_t> bytes(kVirtioNetHeaderSize + size);
  if (large) {
    encode_virtio_net({.flags = kVirtioNetNeedsChecksum,
                       .gso_type = kVirtioNetGsoTcp4,
                       .header_size = 66,
                       .gso_size = 1448,
                       .checksum_start = 34,
                       .checksum_offset = 16},
                      bytes.data());
  }
  uint8_t* frame = bytes.data() + kVirtioNetHeaderSize;
  const uint8_t head[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45};
  std::copy(std::begin(head), std::end(head), frame);
  uint8_t* ip = frame + kEthernetHeaderSize;
  store_be16(ip + 2, static_cast<uint16_t>(size - kEthernetHeaderSize));
  ip[8] = 64;
  ip[9] = large ? 6 : 17;
  ip[12] = ip[16] = 10;
  ip[15] = 1;
  ip[19] = 2;
  uint8_t* l4 = ip + 20;
  store_be16(l4, 5001);
  store_be16(l4 + 2, 5001);
  if (large) {
    l4[12] = static_cast<uint8_t>(transport / 4 << 4);
    l4[13] = 0x10;
  } else {
    store_be16(l4 + 4, static_cast<uint16_t>(size - kEthernetHeaderSize - 20));
  }
  return bytes;
}

void set_number(std::span<uint8_t> frame, uint32_t number) {
  store_be32(frame.data() + frame.size() - kNumberSize, number);
}

// ---- The two sides of a contender

struct StreamPair {
  UniqueFd ours;
  UniqueFd theirs;

  StreamPair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
      die("socketpair");
    }
    for (const int fd : fds) {
      if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBuffer, sizeof kSocketBuffer) < 0) {
        die("SO_SNDBUFFORCE");
      }
    }
    ours.reset(fds[0]);
    theirs.reset(fds[1]);
  }
};

TapDevice make_tap(const std::string& name) {
  Result<TapDevice> made = TapDevice::create(name);
  if (!made.ok()) {
    errno = made.error().code;
    die(made.error().operation);
  }
  TapDevice tap = std::move(made.value());
  if (!tap.set_offloads(kOffloads).ok() || !tap.set_carrier(true).ok()) die("TAP");
  const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = IFF_UP | IFF_NOARP;
  if (::ioctl(any.get(), SIOCSIFFLAGS, &request) < 0) die("SIOCSIFFLAGS");
  return tap;
}

// `protocol` 0: only to send.
UniqueFd open_packet_socket(const std::string& interface, uint16_t protocol) {
  UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) die("socket(AF_PACKET)");
  const int yes = 1;
  const int size = 64 * 1024 * 1024;
  if (::setsockopt(fd.get(), SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) < 0 ||
      ::setsockopt(fd.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes) < 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0) {
    die("setsockopt(AF_PACKET)");
  }
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    die("bind(AF_PACKET)");
  }
  return fd;
}

// Frames that came out of the TAP into the stack. /proc/thread-self: of our own namespace.
uint64_t received_frames(const std::string& interface) {
  std::FILE* file = std::fopen("/proc/thread-self/net/dev", "re");
  if (file == nullptr) die("/proc/thread-self/net/dev");
  char line[512];
  unsigned long long frames = 0;
  bool found = false;
  while (!found && std::fgets(line, sizeof line, file) != nullptr) {
    char name[32];
    found = std::sscanf(line, " %31[^:]: %*u %llu", name, &frames) == 2 && interface == name;
  }
  std::fclose(file);
  if (!found) fail("no counters", interface.c_str());
  return frames;
}

class NoObserver final : public RecordObserver {
 public:
  void on_first_frame() override {}
  void on_hello(const Hello&) override {}
  void on_control(const Control&) override {}
};

// ---- TAP to stream with frames left where io_uring put them: what the pump could be if it gave up
// its burst buffer. The checks are the pump's.
class GatherPump {
 public:
  GatherPump(int tap, int stream) : reader_(tap, UringReader::Reads::kBatch), stream_(stream) {}

  void run() {
    for (;;) {
      if (!reader_.keeps_frames()) send();
      const UringReader::Taken taken = reader_.take();
      if (taken.outcome.kind != IoOutcome::Kind::kMoved) break;
      const size_t frame_size = taken.outcome.size - kVirtioNetHeaderSize;
      if (is_hello_frame(Bytes(taken.frame + kVirtioNetHeaderSize, frame_size)) ||
          check_virtio_net(decode_virtio_net(taken.frame), frame_size, kOffloads) !=
              VirtioNetFault::kNone) {
        continue;
      }
      encode_record_header(RecordType::kOffloadedFrame, taken.outcome.size,
                           taken.frame - kRecordHeaderSize);
      const size_t record = kRecordHeaderSize + taken.outcome.size;
      pieces_[count_++] = {taken.frame - kRecordHeaderSize, record};
      size_ += record;
      if (size_ + 1528 > kBurstSize) send();
    }
    send();
  }

 private:
  void send() {
    if (count_ == 0) return;
    msghdr message{};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = count_;
    const ssize_t sent = ::sendmsg(stream_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(size_)) die("sendmsg");
    count_ = 0;
    size_ = 0;
  }

  UringReader reader_;
  int stream_;
  std::array<iovec, UringReader::kSlots> pieces_{};
  size_t count_ = 0;
  size_t size_ = 0;
};

// A TAP by one system call a frame, and nothing else.
class PlainTap final : public FramePort {
 public:
  explicit PlainTap(TapDevice& tap) : tap_(tap) {}
  IoOutcome read_frame(std::span<const iovec> room) override { return tap_.read_frame(room); }
  IoOutcome write_frame(std::span<const iovec> pieces) override { return tap_.write_frame(pieces); }

 private:
  TapDevice& tap_;
};

// ---- Contenders

struct Case {
  const char* name;
  bool to_stream;
  size_t frame_size;
  size_t burst;  // frames
};

constexpr Case kCases[] = {
    {"tap-to-stream 64 x1", true, 64, 1},        {"tap-to-stream 64 x32", true, 64, 32},
    {"tap-to-stream 1514 x32", true, 1514, 32},  {"tap-to-stream 65226 x4", true, 65226, 4},
    {"stream-to-tap 64 x1", false, 64, 1},       {"stream-to-tap 64 x2", false, 64, 2},
    {"stream-to-tap 64 x3", false, 64, 3},       {"stream-to-tap 64 x4", false, 64, 4},
    {"stream-to-tap 64 x8", false, 64, 8},       {"stream-to-tap 64 x32", false, 64, 32},
    {"stream-to-tap 1514 x32", false, 1514, 32}, {"stream-to-tap 65226 x4", false, 65226, 4},
};

class Contender {
 public:
  enum class Kind : uint8_t { kPlain, kProduct, kBatch, kMultishot, kGather };

  Contender(const char* label, Kind kind, std::string interface, BurstBuffer& buffer)
      : label_(label),
        kind_(kind),
        interface_(std::move(interface)),
        buffer_(buffer),
        tap_(make_tap(interface_)),
        socket_(std::move(pair_.ours)),
        scratch_(kSocketBuffer) {
    if (kind == Kind::kGather) {
      gather_ = std::make_unique<GatherPump>(tap_.fd(), socket_.fd());
    } else if (kind != Kind::kPlain && kind != Kind::kProduct) {
      uring_ = std::make_unique<UringTap>(tap_.fd(), kind == Kind::kMultishot
                                                         ? UringReader::Reads::kMultishot
                                                         : UringReader::Reads::kBatch);
    }
    FramePort& port = this->port();
    to_stream_ = std::make_unique<TapToStream>(port, socket_, counters_.tap_to_stream);
    to_stream_->set_policy({.burst_size = kBurstSize, .offloads = kOffloads});
    ReceivePolicy policy;
    policy.limits.accepts = kOffloads;
    policy.deliverable = kOffloads;
    to_tap_ =
        std::make_unique<StreamToTap>(socket_, port, policy, counters_.stream_to_tap, observer_);
    sender_ = open_packet_socket(interface_, 0);
  }

  const char* label() const { return label_; }
  // Some differ in one direction only.
  bool runs(const Case& one) const {
    return kind_ == Kind::kPlain || one.to_stream == (kind_ != Kind::kProduct);
  }

  // ns per frame: the median of bursts, which other processes disturb least. `frames`: whole
  // bursts. `look`: also at what comes out behind the TAP.
  double measure(const Case& one, size_t frames, bool look) {
    return one.to_stream ? tap_to_stream(one, frames) : stream_to_tap(one, frames, look);
  }

 private:
  FramePort& port() {
    if (uring_) return *uring_;
    if (kind_ == Kind::kProduct) return tap_;
    return plain_;
  }

  template <typename Work>
  static double time(Work work) {
    const Clock::time_point start = Clock::now();
    work();
    return static_cast<double>(std::chrono::nanoseconds(Clock::now() - start).count());
  }

  double tap_to_stream(const Case& one, size_t frames) {
    std::vector<uint8_t> frame = make_frame(one.frame_size);
    std::vector<double> bursts;
    for (size_t done = 0; done < frames; done += one.burst) {
      for (size_t i = 0; i < one.burst; ++i) {
        set_number(frame, sent_ + static_cast<uint32_t>(i));
        if (::write(sender_.get(), frame.data(), frame.size()) < 0) die("write(AF_PACKET)");
      }
      bursts.push_back(time([&] {
        if (gather_) {
          gather_->run();
        } else if (to_stream_->run(buffer_) != SendProgress::kIdle) {
          fail("the pump stopped", interface_.c_str());
        }
      }));
      check_stream(one, frame);
    }
    return spread_of(bursts).median / static_cast<double>(one.burst);
  }

  // Exactly the burst: every record, in order, with its virtio-net header.
  void check_stream(const Case& one, std::span<const uint8_t> frame) {
    const size_t record = kRecordHeaderSize + frame.size();
    size_t size = 0;
    for (;;) {
      const ssize_t got =
          ::read(pair_.theirs.get(), scratch_.data() + size, scratch_.size() - size);
      if (got <= 0) break;
      size += static_cast<size_t>(got);
    }
    if (size != record * one.burst) fail("frames are missing in the stream", label_);
    for (size_t i = 0; i < one.burst; ++i) {
      uint8_t head[kRecordHeaderSize];
      encode_record_header(RecordType::kOffloadedFrame, frame.size(), head);
      const uint8_t* at = scratch_.data() + i * record;
      if (std::memcmp(at, head, sizeof head) != 0) fail("not a record", label_);
      check_frame(one, Bytes(at + sizeof head, frame.size()), frame);
    }
  }

  void check_frame(const Case& one, Bytes seen, std::span<const uint8_t> sent) {
    const Bytes number = seen.last(kNumberSize);
    const size_t body = one.frame_size - kNumberSize;
    if (seen.size() != sent.size() || load_be32(number.data()) != sent_++) {
      fail("a frame is out of order", label_);
    }
    if (std::memcmp(seen.data() + kVirtioNetHeaderSize, sent.data() + kVirtioNetHeaderSize, body) !=
        0) {
      fail("a frame is not what was sent", label_);
    }
    if (seen[1] != sent[1]) fail("a large segment was cut", label_);
  }

  double stream_to_tap(const Case& one, size_t frames, bool look) {
    const std::vector<uint8_t> frame = make_frame(one.frame_size);
    const size_t record = kRecordHeaderSize + frame.size();
    std::vector<uint8_t> records(record * one.burst);
    for (size_t i = 0; i < one.burst; ++i) {
      encode_record_header(RecordType::kOffloadedFrame, frame.size(), &records[i * record]);
      std::copy(frame.begin(), frame.end(), &records[i * record + kRecordHeaderSize]);
    }
    UniqueFd watcher;
    if (look) watcher = open_packet_socket(interface_, ETH_P_ALL);
    const uint64_t before = received_frames(interface_);
    uint64_t written = 0;
    std::vector<double> bursts;
    for (size_t done = 0; done < frames; done += one.burst) {
      for (size_t i = 0; i < one.burst; ++i) {
        set_number(std::span(records).subspan(i * record, record),
                   sent_ + static_cast<uint32_t>(i));
      }
      if (::write(pair_.theirs.get(), records.data(), records.size()) !=
          static_cast<ssize_t>(records.size())) {
        die("write to the stream");
      }
      bursts.push_back(time([&] {
        if (to_tap_->run(buffer_) != ReceiveProgress::kIdle) fail("the pump stopped", label_);
      }));
      written += one.burst;
      if (look) {
        check_behind_tap(one, watcher.get(), frame);
      } else {
        sent_ += static_cast<uint32_t>(one.burst);
      }
    }
    if (received_frames(interface_) - before != written) fail("the TAP lost frames", label_);
    return spread_of(bursts).median / static_cast<double>(one.burst);
  }

  void check_behind_tap(const Case& one, int watcher, std::span<const uint8_t> frame) {
    for (size_t i = 0; i < one.burst; ++i) {
      const ssize_t size = ::read(watcher, scratch_.data(), scratch_.size());
      if (size < 0) fail("a frame is missing behind the TAP", label_);
      check_frame(one, Bytes(scratch_.data(), static_cast<size_t>(size)), frame);
    }
  }

  const char* label_;
  const Kind kind_;
  std::string interface_;
  BurstBuffer& buffer_;
  TapDevice tap_;
  PlainTap plain_{tap_};
  StreamPair pair_;
  StreamSocket socket_;
  std::vector<uint8_t> scratch_;
  RelayCounters counters_;
  NoObserver observer_;
  UniqueFd sender_;
  std::unique_ptr<UringTap> uring_;
  std::unique_ptr<GatherPump> gather_;
  std::unique_ptr<TapToStream> to_stream_;
  std::unique_ptr<StreamToTap> to_tap_;
  uint32_t sent_ = 0;
};

// ---- What a system call and a request of io_uring cost by themselves

void show_floor() {
  constexpr size_t kCount = 200000;
  constexpr size_t kBatch = 32;
  const UniqueFd null(::open("/dev/null", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  uint8_t byte = 0;
  const iovec one{&byte, 1};
  Ring ring(kBatch, null.get());
  const auto ns_each = [](auto work) {
    std::vector<double> samples;
    for (int round = 0; round < 7; ++round) {
      const Clock::time_point start = Clock::now();
      work();
      samples.push_back(static_cast<double>((Clock::now() - start).count()) / kCount);
    }
    std::nth_element(samples.begin(), samples.begin() + 3, samples.end());
    return samples[3];
  };
  const double call = ns_each([&] {
    for (size_t i = 0; i < kCount; ++i) {
      if (::writev(null.get(), &one, 1) != 1) die("writev(/dev/null)");
    }
  });
  const auto batches = [&](size_t batch) {
    return ns_each([&, batch] {
      for (size_t i = 0; i < kCount; i += batch) {
        for (size_t k = 0; k < batch; ++k) ring.queue(IORING_OP_WRITE, &byte, 1);
        ring.submit();
        for (; ring.front() != nullptr; ring.pop()) {
        }
      }
    });
  };
  std::printf("to /dev/null, ns each: writev %.0f, io_uring one by one %.0f, %zu a submit %.0f\n",
              call, batches(1), kBatch, batches(kBatch));
}

// ---- Rounds

void run(size_t rounds, size_t frames) {
  if (::unshare(CLONE_NEWNET) < 0) die("unshare(CLONE_NEWNET)");
  // Nobody but us sends on the TAPs.
  const UniqueFd no_ipv6(
      ::open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC));
  if (no_ipv6 && ::write(no_ipv6.get(), "1", 1) != 1) die("disable_ipv6");
  show_floor();

  BurstBuffer buffer;
  using Kind = Contender::Kind;
  std::vector<std::unique_ptr<Contender>> contenders;
  const auto add = [&](const char* label, Kind kind) {
    contenders.push_back(
        std::make_unique<Contender>(label, kind, "u" + std::to_string(contenders.size()), buffer));
  };
  add("plain", Kind::kPlain);
  add("plain again", Kind::kPlain);
  add("product", Kind::kProduct);
  add("io_uring", Kind::kBatch);
  add("multishot", Kind::kMultishot);
  add("gathered", Kind::kGather);

  for (const Case& one : kCases) {
    const size_t count = one.frame_size > 1514 ? frames / 8 : frames;
    std::vector<std::vector<double>> ns(contenders.size());
    // The first round warms up, and looks closer.
    for (size_t round = 0; round <= rounds; ++round) {
      for (size_t i = 0; i < contenders.size(); ++i) {
        const size_t at = (i + round) % contenders.size();
        if (!contenders[at]->runs(one)) continue;
        const size_t bursts = (count + one.burst - 1) / one.burst;
        const double each = contenders[at]->measure(one, bursts * one.burst, round == 0);
        if (round > 0) ns[at].push_back(each);
      }
    }
    std::printf("\n%s, ns per frame\n", one.name);
    for (size_t i = 0; i < contenders.size(); ++i) {
      if (ns[i].empty()) continue;
      std::vector<double> ratios;
      for (size_t round = 0; round < rounds; ++round) ratios.push_back(ns[i][round] / ns[0][round]);
      const Spread each = spread_of(ns[i]);
      const Spread ratio = spread_of(ratios);
      std::printf("  %-12s %8.0f ± %-6.0f of plain: %.2f ± %.2f\n", contenders[i]->label(),
                  each.median, each.half, ratio.median, ratio.half);
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace arca::bench

int main(int argc, char** argv) {
  const size_t rounds = argc > 1 ? static_cast<size_t>(std::atoll(argv[1])) : 11;
  const size_t frames = argc > 2 ? static_cast<size_t>(std::atoll(argv[2])) : 12000;
  if (argc > 3 || rounds == 0 || frames == 0) {
    std::fprintf(stderr, "Usage: %s [ROUNDS [FRAMES]]\n", argv[0]);
    return 2;
  }
  arca::bench::run(rounds, frames);
  return 0;
}
