#include "relay/stream_to_tap.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <random>

#include "fakes.h"

using namespace arca;
using namespace arca::test;

namespace {

constexpr uint64_t kOwnNonce = 42;

struct Observed final : RecordObserver {
  int first_frames = 0;
  std::vector<Hello> hellos;
  std::vector<Control> controls;

  void on_first_frame() override { ++first_frames; }
  void on_hello(const Hello& hello) override { hellos.push_back(hello); }
  void on_control(const Control& control) override { controls.push_back(control); }
};

struct Rig {
  explicit Rig(const ReceivePolicy& policy = {.limits = {}, .mtu = 1500, .own_nonce = kOwnNonce})
      : pump(stream, tap, policy, counters, observed) {}

  FakeStream stream;
  FakeTap tap;
  DirectionCounters counters;
  Observed observed;
  StreamToTap pump;
  BurstBuffer buffer;

  ReceiveProgress run() { return pump.run(buffer); }
  // Runs until the stream has nothing more or the link must end.
  ReceiveProgress drain() {
    for (;;) {
      const ReceiveProgress progress = run();
      if (progress != ReceiveProgress::kIdle || stream.arrivals.empty()) return progress;
    }
  }
  uint64_t drops(Drop drop) const { return counters.drops[static_cast<size_t>(drop)].get(); }
};

ByteVector with_zero_header(const ByteVector& frame) {
  ByteVector bytes(kVirtioNetHeaderSize);
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  return bytes;
}

void append(ByteVector& out, const ByteVector& more) {
  out.insert(out.end(), more.begin(), more.end());
}

ByteVector tagged_frame(size_t size) {
  ByteVector frame = make_frame(size);
  frame[12] = 0x81;
  frame[13] = 0x00;
  return frame;
}

}  // namespace

TEST_CASE("StreamToTap writes each frame of a receive, with an empty header") {
  Rig rig;
  ByteVector bytes;
  std::vector<ByteVector> expected;
  for (uint8_t i = 0; i < 10; ++i) {
    append(bytes, make_record(RecordType::kFrame, make_frame(60 + i, i)));
    expected.push_back(with_zero_header(make_frame(60 + i, i)));
  }
  rig.stream.arrivals.push_back(bytes);
  CHECK(rig.run() == ReceiveProgress::kIdle);
  CHECK(rig.tap.written == expected);
  CHECK(rig.counters.frames.get() == 10);
  CHECK(rig.counters.bursts.get() == 1);
  CHECK(rig.observed.first_frames == 1);
}

TEST_CASE("StreamToTap gives the same frames wherever the stream is cut") {
  ByteVector bytes;
  std::vector<ByteVector> expected;
  for (uint8_t i = 0; i < 3; ++i) {
    append(bytes, make_record(RecordType::kFrame, make_frame(14 + i * 20, i)));
    expected.push_back(with_zero_header(make_frame(14 + i * 20, i)));
  }
  for (size_t cut = 1; cut < bytes.size(); ++cut) {
    CAPTURE(cut);
    Rig rig;
    const auto middle = bytes.begin() + static_cast<ptrdiff_t>(cut);
    rig.stream.arrivals.emplace_back(bytes.begin(), middle);
    rig.stream.arrivals.emplace_back(middle, bytes.end());
    CHECK(rig.drain() == ReceiveProgress::kIdle);
    CHECK(rig.tap.written == expected);
    CHECK(rig.pump.owned_bytes() == 0);
  }
}

TEST_CASE("StreamToTap reads a stream that comes byte by byte") {
  Rig rig;
  ByteVector bytes;
  for (uint8_t i = 0; i < 3; ++i) append(bytes, make_record(RecordType::kFrame, make_frame(60, i)));
  for (const uint8_t byte : bytes) rig.stream.arrivals.push_back({byte});
  CHECK(rig.drain() == ReceiveProgress::kIdle);
  CHECK(rig.tap.written.size() == 3);
  CHECK(rig.pump.owned_bytes() == 0);
}

TEST_CASE("StreamToTap owns no more than the unfinished record") {
  Rig rig;
  ByteVector head = make_record(RecordType::kFrame, make_frame(1000));
  head.resize(500);
  rig.stream.arrivals.push_back(head);
  CHECK(rig.run() == ReceiveProgress::kIdle);
  CHECK(rig.pump.has_unfinished());
  CHECK(rig.pump.owned_bytes() == 1004);
}

TEST_CASE("StreamToTap delivers what came before a breach, and nothing after") {
  struct {
    ByteVector bad;
    Breach breach;
  } const cases[] = {
      {{0, 0, 0, 0}, Breach::kTooShort},
      {{0, 0, 0, 13}, Breach::kTooShort},
      {{0, 0xFF, 0xFF, 0xFF}, Breach::kTooLong},
      {{0x10, 0, 0, 0}, Breach::kUnknownType},
      {{'G', 'E', 'T', ' '}, Breach::kUnknownType},
      {make_record(RecordType::kControl, {0, 1, 0, 3, 1, 2, 3}), Breach::kMalformedControl},
  };
  for (const auto& [bad, breach] : cases) {
    CAPTURE(breach_word(breach));
    Rig rig;
    ByteVector bytes = make_record(RecordType::kFrame, make_frame(60));
    append(bytes, bad);
    append(bytes, make_record(RecordType::kFrame, make_frame(61)));
    rig.stream.arrivals.push_back(bytes);
    CHECK(rig.run() == ReceiveProgress::kBreach);
    CHECK(rig.pump.breach() == breach);
    CHECK(rig.tap.written == only(with_zero_header(make_frame(60))));
  }
}

TEST_CASE("StreamToTap drops and counts what the container must not send") {
  Rig rig;
  ByteVector bytes;
  append(bytes, make_record(RecordType::kFrame, tagged_frame(100)));
  append(bytes, make_record(RecordType::kFrame, make_frame(1515)));
  append(bytes, make_record(RecordType::kFrame, make_frame(1514)));
  ByteVector other_magic = encode_hello({.nonce = 1});
  other_magic[14] ^= 1;
  append(bytes, make_record(RecordType::kFrame, other_magic));
  append(bytes, make_record(RecordType::kFrame, encode_hello({.nonce = kOwnNonce})));
  rig.stream.arrivals.push_back(bytes);
  CHECK(rig.run() == ReceiveProgress::kIdle);
  CHECK(rig.drops(Drop::kTagged) == 1);
  CHECK(rig.drops(Drop::kOversize) == 1);
  CHECK(rig.drops(Drop::kBadHello) == 1);
  CHECK(rig.drops(Drop::kHelloEcho) == 1);
  CHECK(rig.observed.hellos.empty());
  CHECK(rig.tap.written == only(with_zero_header(make_frame(1514))));
}

TEST_CASE("StreamToTap lets tagged frames pass where that is wanted") {
  Rig rig({.limits = {}, .mtu = 1500, .allow_tagged = true, .own_nonce = kOwnNonce});
  ByteVector bytes = make_record(RecordType::kFrame, tagged_frame(1518));
  append(bytes, make_record(RecordType::kFrame, tagged_frame(1519)));
  rig.stream.arrivals.push_back(bytes);
  CHECK(rig.run() == ReceiveProgress::kIdle);
  CHECK(rig.tap.written.size() == 1);
  CHECK(rig.drops(Drop::kOversize) == 1);
}

TEST_CASE("StreamToTap keeps HELLO and control records from the TAP") {
  Rig rig;
  const Hello hello{.nonce = 7, .accepts = kOffloadChecksum, .largest_record = 1600};
  ByteVector bytes = make_record(RecordType::kFrame, encode_hello(hello));
  append(bytes, make_record(RecordType::kControl,
                            encode_control({.ping = 99, .pong = {}, .goodbye = {}})));
  append(bytes, make_record(RecordType::kFrame, make_frame(60)));
  rig.stream.arrivals.push_back(bytes);
  CHECK(rig.run() == ReceiveProgress::kIdle);
  REQUIRE(rig.observed.hellos.size() == 1);
  CHECK(rig.observed.hellos[0] == hello);
  REQUIRE(rig.observed.controls.size() == 1);
  CHECK(rig.observed.controls[0].ping == 99);
  CHECK(rig.observed.first_frames == 0);
  CHECK(rig.tap.written.size() == 1);
}

TEST_CASE("StreamToTap hands agreed offloads to the TAP as they came") {
  const ByteVector header{1, 1, 54, 0, 0xB4, 0x05, 34, 0, 16, 0};
  ByteVector payload = header;
  ByteVector large = make_frame(60000);
  large[14] = 0x45;  // IPv4 without options
  large[20] = large[21] = 0;
  large[23] = 6;  // TCP
  append(payload, large);
  const ByteVector record = make_record(RecordType::kOffloadedFrame, payload);

  SUBCASE("agreed") {
    Rig rig({.limits = {.accepts = kOffloadChecksum | kOffloadTso4},
             .deliverable = kOffloadChecksum | kOffloadTso4,
             .mtu = 1500,
             .own_nonce = kOwnNonce});
    rig.stream.arrivals.push_back(record);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.tap.written == only(payload));
  }
  SUBCASE("not agreed") {
    Rig rig;
    rig.stream.arrivals.push_back(record);
    CHECK(rig.run() == ReceiveProgress::kBreach);
    CHECK(rig.pump.breach() == Breach::kOffloadNotAgreed);
    CHECK(rig.tap.written.empty());
  }
  SUBCASE("with a checksum at a place of the peer's choice") {
    Rig rig({.limits = {.accepts = kOffloadChecksum | kOffloadTso4},
             .deliverable = kOffloadChecksum | kOffloadTso4,
             .mtu = 1500,
             .own_nonce = kOwnNonce});
    ByteVector forged = record;
    forged[4 + 6] = 26;  // csum_start: the source address
    forged[4 + 8] = 0;
    rig.stream.arrivals.push_back(forged);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.drops(Drop::kMisplacedChecksum) == 1);
    CHECK(rig.tap.written.empty());
  }
  SUBCASE("withdrawn while they were under way") {
    Rig rig({.limits = {.accepts = kOffloadChecksum | kOffloadTso4},
             .deliverable = kOffloadChecksum | kOffloadTso4,
             .mtu = 1500,
             .own_nonce = kOwnNonce});
    rig.pump.set_deliverable(kOffloadNone);
    rig.stream.arrivals.push_back(record);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.drops(Drop::kWithdrawn) == 1);
    rig.pump.set_deliverable(kOffloadChecksum | kOffloadTso4);
    rig.stream.arrivals.push_back(record);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.tap.written == only(payload));
  }
  SUBCASE("with segments larger than the MTU") {
    Rig rig({.limits = {.accepts = kOffloadChecksum | kOffloadTso4},
             .deliverable = kOffloadChecksum | kOffloadTso4,
             .mtu = 1400,
             .own_nonce = kOwnNonce});
    rig.stream.arrivals.push_back(record);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.drops(Drop::kOversize) == 1);
    CHECK(rig.tap.written.empty());
  }
}

TEST_CASE("StreamToTap goes on after a frame that the TAP refuses") {
  Rig rig;
  ByteVector bytes;
  for (uint8_t i = 0; i < 3; ++i) append(bytes, make_record(RecordType::kFrame, make_frame(60, i)));
  rig.stream.arrivals.push_back(bytes);
  rig.tap.write_outcomes = {outcome_of(IoOutcome::Kind::kDropped, EIO),
                            outcome_of(IoOutcome::Kind::kWouldBlock), moved(0)};
  CHECK(rig.run() == ReceiveProgress::kIdle);
  CHECK(rig.drops(Drop::kTapRefused) == 1);
  CHECK(rig.drops(Drop::kTapFull) == 1);
  CHECK(rig.tap.written == only(with_zero_header(make_frame(60, 2))));
}

TEST_CASE("StreamToTap hands the single frames of a receive over together") {
  const ByteVector header{1, 1, 54, 0, 0xB4, 0x05, 34, 0, 16, 0};
  ByteVector segment = header;
  append(segment, make_frame(3000));
  segment[10 + 14] = 0x45;  // IPv4 without options
  segment[10 + 20] = segment[10 + 21] = 0;
  segment[10 + 23] = 6;  // TCP
  Rig rig({.limits = {.accepts = kOffloadChecksum | kOffloadTso4},
           .deliverable = kOffloadChecksum | kOffloadTso4,
           .mtu = 4000,
           .own_nonce = kOwnNonce});
  ByteVector bytes;
  std::vector<ByteVector> expected;
  const auto add = [&](size_t size, uint8_t seed) {
    append(bytes, make_record(RecordType::kFrame, make_frame(size, seed)));
    expected.push_back(with_zero_header(make_frame(size, seed)));
  };
  SUBCASE("in order around large ones, which go alone") {
    add(60, 1);
    add(FrameQueue::kLargestQueued, 2);
    add(FrameQueue::kLargestQueued + 1, 3);
    add(60, 4);
    append(bytes, make_record(RecordType::kOffloadedFrame, segment));
    expected.push_back(segment);
    add(60, 5);
    rig.stream.arrivals.push_back(bytes);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.tap.batches == std::vector<size_t>{2, 1, 1});
    CHECK(rig.counters.frames.get() == 6);
    CHECK(rig.counters.bytes.get() == 3 * 60 + 2 * FrameQueue::kLargestQueued + 1 + 3000);
  }
  SUBCASE("no more than the queue holds") {
    for (size_t i = 0; i < 2 * FrameQueue::kMostFrames + 1; ++i) add(60, static_cast<uint8_t>(i));
    rig.stream.arrivals.push_back(bytes);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.tap.batches ==
          std::vector<size_t>{FrameQueue::kMostFrames, FrameQueue::kMostFrames, 1});
  }
  SUBCASE("nothing of one receive is left for the next") {
    add(60, 1);
    add(60, 2);
    rig.stream.arrivals.push_back(bytes);
    rig.stream.arrivals.push_back(make_record(RecordType::kFrame, make_frame(60, 3)));
    expected.push_back(with_zero_header(make_frame(60, 3)));
    CHECK(rig.drain() == ReceiveProgress::kIdle);
    CHECK(rig.tap.batches == std::vector<size_t>{2, 1});
  }
  CHECK(rig.tap.written == expected);
}

TEST_CASE("StreamToTap counts what came before the TAP was lost in a batch, and nothing after") {
  Rig rig;
  ByteVector bytes;
  for (uint8_t i = 0; i < 3; ++i) append(bytes, make_record(RecordType::kFrame, make_frame(60, i)));
  rig.stream.arrivals.push_back(bytes);
  rig.tap.write_outcomes = {moved(70), outcome_of(IoOutcome::Kind::kGone, EBADFD), moved(70)};
  CHECK(rig.run() == ReceiveProgress::kTapGone);
  CHECK(rig.pump.error() == EBADFD);
  CHECK(rig.counters.frames.get() == 1);
  CHECK(rig.counters.bytes.get() == 60);
}

TEST_CASE("StreamToTap tells how a link ended") {
  Rig rig;
  SUBCASE("end of stream between records") {
    rig.stream.after_arrivals = outcome_of(IoOutcome::Kind::kEndOfStream);
    CHECK(rig.run() == ReceiveProgress::kEndOfStream);
    CHECK_FALSE(rig.pump.has_unfinished());
  }
  SUBCASE("end of stream inside a record") {
    rig.stream.arrivals.push_back({0, 0, 0, 60, 1, 2});
    rig.stream.after_arrivals = outcome_of(IoOutcome::Kind::kEndOfStream);
    CHECK(rig.run() == ReceiveProgress::kIdle);
    CHECK(rig.run() == ReceiveProgress::kEndOfStream);
    CHECK(rig.pump.has_unfinished());
  }
  SUBCASE("reset") {
    rig.stream.after_arrivals = outcome_of(IoOutcome::Kind::kGone, ECONNRESET);
    CHECK(rig.run() == ReceiveProgress::kStreamGone);
    CHECK(rig.pump.error() == ECONNRESET);
  }
  SUBCASE("the TAP lost") {
    rig.stream.arrivals.push_back(make_record(RecordType::kFrame, make_frame(60)));
    rig.tap.write_outcomes = {outcome_of(IoOutcome::Kind::kGone, EBADFD)};
    CHECK(rig.run() == ReceiveProgress::kTapGone);
    CHECK(rig.pump.error() == EBADFD);
  }
}

TEST_CASE("StreamToTap reads nothing but records and breaches out of random bytes") {
  for (uint32_t seed = 1; seed <= 500; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Rig rig({.limits = {.accepts = kOffloadChecksum | kOffloadTso4 | kOffloadTso6},
             .deliverable = kOffloadChecksum | kOffloadTso4 | kOffloadTso6,
             .mtu = 1500,
             .own_nonce = kOwnNonce});
    for (int i = 0; i < 20; ++i) {
      ByteVector bytes(1 + random() % 300);
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
      // Often a header that can be accepted, so that the checks behind it are reached.
      if (bytes.size() > 30 && random() % 2 == 0) {
        bytes[0] = static_cast<uint8_t>(random() % 3);
        bytes[1] = bytes[2] = 0;
        bytes[3] = static_cast<uint8_t>(14 + random() % 100);
      }
      rig.stream.arrivals.push_back(bytes);
    }
    const ReceiveProgress progress = rig.drain();
    CHECK((progress == ReceiveProgress::kIdle || progress == ReceiveProgress::kBreach));
    CHECK(rig.pump.owned_bytes() <= kRecordHeaderSize + kLargestRecordPayload);
    for (const ByteVector& written : rig.tap.written) {
      CHECK(written.size() >= kVirtioNetHeaderSize + kEthernetHeaderSize);
    }
  }
}
