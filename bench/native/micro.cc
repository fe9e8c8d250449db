// Micro-benchmarks of the core: what one frame costs, apart from the kernel's network stack.
//
//   micro --list
//   micro CASE FRAMES     prints {"case":…,"frames":…,"ns":…}: time inside the code that is
//   measured
//
// Pumps run on socket pairs: SOCK_SEQPACKET stands for the TAP, since it keeps the bounds of frames
// too, SOCK_STREAM for the stream. Filling and emptying them is not timed. Callgrind with
// --collect-atstart=no counts the instructions of the same parts.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "io/stream_socket.h"
#include "record/checksum.h"
#include "record/coalescer.h"
#include "record/record_assembler.h"
#include "record/virtio_net.h"
#include "relay/stream_to_tap.h"
#include "relay/tap_to_stream.h"

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_TOGGLE_COLLECT
#endif

namespace arca::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSocketBuffer = 4 * 1024 * 1024;
constexpr size_t kFramesPerTurn = 32;

// Keeps the compiler from leaving out what nobody reads.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

struct SocketPair {
  UniqueFd ours;
  UniqueFd theirs;

  explicit SocketPair(int type) {
    int fds[2];
    if (::socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) die("socketpair");
    for (const int fd : fds) {
      if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBuffer, sizeof kSocketBuffer) < 0) {
        ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer);
      }
    }
    ours.reset(fds[0]);
    theirs.reset(fds[1]);
  }
};

class SocketPort final : public FramePort {
 public:
  explicit SocketPort(int fd) : fd_(fd) {}
  IoOutcome read_frame(std::span<const iovec> room) override {
    return outcome(::readv(fd_, room.data(), static_cast<int>(room.size())));
  }
  IoOutcome write_frame(std::span<const iovec> pieces) override {
    return outcome(::writev(fd_, pieces.data(), static_cast<int>(pieces.size())));
  }

 private:
  static IoOutcome outcome(ssize_t result) {
    if (result < 0) return judge_tap_errno(errno);
    return {.kind = IoOutcome::Kind::kMoved, .size = static_cast<size_t>(result), .error = 0};
  }
  int fd_;
};

std::vector<uint8_t> make_frame(size_t size) {
  std::vector<uint8_t> frame(size);
  for (size_t i = 0; i < size; ++i) frame[i] = static_cast<uint8_t>(i * 7);
  // Unicast, IPv4; UDP, so that nothing but the way through is measured.
  const uint8_t head[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45};
  std::copy(std::begin(head), std::end(head), frame.begin());
  if (size > 23) frame[23] = 17;
  return frame;
}

// The number-th segment of a TCP flow over IPv4, full-sized, with timestamps and right checksums.
std::vector<uint8_t> make_segment(uint32_t number) {
  constexpr size_t kIpAt = 14;
  constexpr size_t kTcpAt = kIpAt + 20;
  constexpr size_t kPayload = 1448;
  constexpr uint16_t kSize = 20 + 32 + kPayload;
  std::vector<uint8_t> frame = make_frame(kIpAt + kSize);
  uint8_t* ip = frame.data() + kIpAt;
  uint8_t* tcp = frame.data() + kTcpAt;
  const uint8_t ip_header[20] = {0x45, 0, 0,  0, 0, 0, 0x40, 0, 64, 6,
                                 0,    0, 10, 0, 0, 1, 10,   0, 0,  2};
  std::copy_n(ip_header, sizeof ip_header, ip);
  store_be16(ip + 2, kSize);
  store_be16(ip + 4, static_cast<uint16_t>(number));
  store_be16(ip + 10, static_cast<uint16_t>(~checksum_fold(checksum_add(0, Bytes(ip, 20)))));
  const uint8_t tcp_header[32] = {0x13, 0x89, 0x13, 0x8A, 0, 0, 0, 0, 0, 0, 0,
                                  1,    0x80, 0x10, 1,    0, 0, 0, 0, 0, 1, 1,
                                  8,    10,   0,    0,    0, 1, 0, 0, 0, 1};
  std::copy_n(tcp_header, sizeof tcp_header, tcp);
  store_be32(tcp + 4, number * kPayload);
  const uint64_t pseudo = checksum_add(6 + 32 + kPayload, Bytes(ip + 12, 8));
  store_be16(tcp + 16, static_cast<uint16_t>(
                           ~checksum_fold(checksum_add(pseudo, Bytes(tcp, 32 + kPayload)))));
  return frame;
}

void append_record(std::vector<uint8_t>& stream, const std::vector<uint8_t>& frame) {
  uint8_t header[kRecordHeaderSize];
  encode_record_header(RecordType::kFrame, frame.size(), header);
  stream.insert(stream.end(), header, header + sizeof header);
  stream.insert(stream.end(), frame.begin(), frame.end());
}

std::vector<uint8_t> make_records(size_t count, size_t frame_size) {
  std::vector<uint8_t> stream;
  for (size_t i = 0; i < count; ++i) append_record(stream, make_frame(frame_size));
  return stream;
}

std::vector<uint8_t> make_segment_records(uint32_t count) {
  std::vector<uint8_t> stream;
  for (uint32_t i = 0; i < count; ++i) append_record(stream, make_segment(i));
  return stream;
}

class Timer {
 public:
  template <typename Work>
  void time(Work work) {
    const Clock::time_point start = Clock::now();
    CALLGRIND_TOGGLE_COLLECT;
    work();
    CALLGRIND_TOGGLE_COLLECT;
    total_ += Clock::now() - start;
  }
  long long ns() const { return std::chrono::nanoseconds(total_).count(); }

 private:
  Clock::duration total_{};
};

// Cuts receives of a burst's size into records; their ends fall where they fall.
long long parse(size_t frames, size_t frame_size, size_t receive_size) {
  const std::vector<uint8_t> stream = make_records(4096, frame_size);
  RecordAssembler assembler(RecordLimits{});
  std::vector<uint8_t> bulk(receive_size);
  size_t seen = 0;
  size_t at = 0;
  Timer timer;
  while (seen < frames) {
    const MutableBytes room = assembler.room();
    const size_t size = std::min(room.size() + bulk.size(), stream.size() - at);
    const size_t in_room = std::min(room.size(), size);
    std::copy_n(stream.data() + at, in_room, room.data());
    std::copy_n(stream.data() + at + in_room, size - in_room, bulk.data());
    at = at + size == stream.size() ? 0 : at + size;
    timer.time([&] {
      const auto breach = assembler.accept(size, bulk, [&seen](const Record& record) {
        keep(record.payload.data());
        ++seen;
        return std::optional<Breach>();
      });
      keep(breach);
    });
  }
  return timer.ns();
}

long long check_headers(size_t frames) {
  const VirtioNetHeader header{.flags = kVirtioNetNeedsChecksum,
                               .gso_type = kVirtioNetGsoTcp4,
                               .header_size = 54,
                               .gso_size = 1448,
                               .checksum_start = 34,
                               .checksum_offset = 16};
  uint8_t bytes[kVirtioNetHeaderSize];
  encode_virtio_net(header, bytes);
  Timer timer;
  timer.time([&] {
    for (size_t i = 0; i < frames; ++i) {
      keep(bytes);
      keep(check_virtio_net(decode_virtio_net(bytes), 65000, kOffloadChecksum | kOffloadTso4));
    }
  });
  return timer.ns();
}

// A burst of segments of one flow becomes one train.
long long coalesce(size_t frames) {
  std::vector<std::vector<uint8_t>> segments;
  for (uint32_t i = 0; i < kFramesPerTurn; ++i) segments.push_back(make_segment(i));
  Coalescer coalescer;
  size_t trains = 0;
  const auto emit = [&trains](const Train& train) {
    keep(train.pieces.data());
    ++trains;
  };
  Timer timer;
  size_t turns = 0;
  for (size_t done = 0; done < frames; done += kFramesPerTurn, ++turns) {
    timer.time([&] {
      for (const std::vector<uint8_t>& segment : segments) coalescer.add(segment, emit);
      coalescer.flush(emit);
    });
  }
  if (trains != turns) die("segments were not joined");
  return timer.ns();
}

void drain(int fd, std::vector<uint8_t>& scratch) {
  while (::read(fd, scratch.data(), scratch.size()) > 0) {
  }
}

long long pump_tap_to_stream(size_t frames, size_t frame_size) {
  SocketPair tap(SOCK_SEQPACKET);
  SocketPair stream(SOCK_STREAM);
  std::vector<uint8_t> frame(kVirtioNetHeaderSize);
  const std::vector<uint8_t> body = make_frame(frame_size);
  frame.insert(frame.end(), body.begin(), body.end());

  SocketPort port(tap.ours.get());
  StreamSocket socket(std::move(stream.ours));
  DirectionCounters counters;
  TapToStream pump(port, socket, counters);
  pump.set_policy({.burst_size = 64 * 1024});
  BurstBuffer buffer;
  std::vector<uint8_t> scratch(kSocketBuffer);
  Timer timer;
  for (size_t done = 0; done < frames; done += kFramesPerTurn) {
    for (size_t i = 0; i < kFramesPerTurn; ++i) {
      if (::write(tap.theirs.get(), frame.data(), frame.size()) < 0) die("write");
    }
    timer.time([&] { pump.run(buffer); });
    drain(stream.theirs.get(), scratch);
  }
  if (counters.frames.get() < frames) die("frames are missing");
  return timer.ns();
}

class NoObserver final : public RecordObserver {
 public:
  void on_first_frame() override {}
  void on_hello(const Hello&) override {}
  void on_control(const Control&) override {}
};

// `records` holds kFramesPerTurn of them.
long long pump_stream_to_tap(size_t frames, const std::vector<uint8_t>& records,
                             Offloads deliverable = kOffloadNone) {
  SocketPair tap(SOCK_SEQPACKET);
  SocketPair stream(SOCK_STREAM);

  SocketPort port(tap.ours.get());
  StreamSocket socket(std::move(stream.ours));
  DirectionCounters counters;
  NoObserver observer;
  ReceivePolicy policy;
  policy.deliverable = deliverable;
  StreamToTap pump(socket, port, policy, counters, observer);
  BurstBuffer buffer;
  std::vector<uint8_t> scratch(kSocketBuffer);
  Timer timer;
  for (size_t done = 0; done < frames; done += kFramesPerTurn) {
    if (::write(stream.theirs.get(), records.data(), records.size()) < 0) die("write");
    timer.time([&] { pump.run(buffer); });
    drain(tap.theirs.get(), scratch);
  }
  if (counters.frames.get() < frames) die("frames are missing");
  return timer.ns();
}

struct Case {
  const char* name;
  long long (*run)(size_t frames);
};

constexpr Case kCases[] = {
    {"parse-64", [](size_t frames) { return parse(frames, 64, 65536); }},
    {"parse-1514", [](size_t frames) { return parse(frames, 1514, 65536); }},
    {"check-header", [](size_t frames) { return check_headers(frames); }},
    {"coalesce-1514", coalesce},
    {"tap-to-stream-64", [](size_t frames) { return pump_tap_to_stream(frames, 64); }},
    {"tap-to-stream-1514", [](size_t frames) { return pump_tap_to_stream(frames, 1514); }},
    {"stream-to-tap-64",
     [](size_t frames) { return pump_stream_to_tap(frames, make_records(kFramesPerTurn, 64)); }},
    {"stream-to-tap-1514",
     [](size_t frames) { return pump_stream_to_tap(frames, make_records(kFramesPerTurn, 1514)); }},
    {"stream-to-tap-joined-1514",
     [](size_t frames) {
       return pump_stream_to_tap(frames, make_segment_records(kFramesPerTurn),
                                 kOffloadChecksum | kOffloadTso4 | kOffloadTso6);
     }},
};

}  // namespace
}  // namespace arca::bench

int main(int argc, char** argv) {
  using namespace arca::bench;
  if (argc == 2 && std::string_view(argv[1]) == "--list") {
    for (const Case& one : kCases) std::puts(one.name);
    return 0;
  }
  const size_t frames = argc == 3 ? static_cast<size_t>(std::atoll(argv[2])) : 0;
  for (const Case& one : kCases) {
    if (frames == 0 || std::string_view(argv[1]) != one.name) continue;
    const long long ns = one.run(frames);
    std::printf("{\"case\":\"%s\",\"frames\":%zu,\"ns\":%lld}\n", one.name, frames, ns);
    return 0;
  }
  std::fprintf(stderr, "Usage: %s --list | CASE FRAMES\n", argv[0]);
  return 2;
}
