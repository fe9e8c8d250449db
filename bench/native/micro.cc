// Micro-benchmarks of the core: what one frame costs, apart from the kernel's network stack.
//
//   micro --list
//   micro CASE FRAMES     prints {"case":…,"frames":…,"ns":…}: time inside the code that is
//   measured
//
// Pumps run on socket pairs: SOCK_SEQPACKET stands for the TAP, since it keeps the bounds of frames
// too, SOCK_STREAM for the stream. Filling and emptying them is not timed. Under callgrind, run
// each case twice with different FRAMES: the difference is free of what start and end cost.

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
#include "record/record_assembler.h"
#include "record/virtio_net.h"
#include "relay/stream_to_tap.h"
#include "relay/tap_to_stream.h"

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

std::vector<uint8_t> make_records(size_t count, size_t frame_size) {
  const std::vector<uint8_t> frame = make_frame(frame_size);
  std::vector<uint8_t> stream;
  for (size_t i = 0; i < count; ++i) {
    uint8_t header[kRecordHeaderSize];
    encode_record_header(RecordType::kFrame, frame.size(), header);
    stream.insert(stream.end(), header, header + sizeof header);
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  return stream;
}

class Timer {
 public:
  template <typename Work>
  void time(Work work) {
    const Clock::time_point start = Clock::now();
    work();
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

long long pump_stream_to_tap(size_t frames, size_t frame_size) {
  SocketPair tap(SOCK_SEQPACKET);
  SocketPair stream(SOCK_STREAM);
  const std::vector<uint8_t> records = make_records(kFramesPerTurn, frame_size);

  SocketPort port(tap.ours.get());
  StreamSocket socket(std::move(stream.ours));
  DirectionCounters counters;
  NoObserver observer;
  StreamToTap pump(socket, port, ReceivePolicy{}, counters, observer);
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
    {"tap-to-stream-64", [](size_t frames) { return pump_tap_to_stream(frames, 64); }},
    {"tap-to-stream-1514", [](size_t frames) { return pump_tap_to_stream(frames, 1514); }},
    {"stream-to-tap-64", [](size_t frames) { return pump_stream_to_tap(frames, 64); }},
    {"stream-to-tap-1514", [](size_t frames) { return pump_stream_to_tap(frames, 1514); }},
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
