#include "relay/tap_to_stream.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <random>

#include "fakes.h"
#include "record/control.h"
#include "record/hello.h"

using namespace arca;
using namespace arca::test;

namespace {

struct Rig {
  FakeTap tap;
  FakeStream stream;
  DirectionCounters counters;
  TapToStream pump{tap, stream, counters};
  BurstBuffer buffer;

  SendProgress run() { return pump.run(buffer); }
  uint64_t drops(Drop drop) const { return counters.drops[static_cast<size_t>(drop)].get(); }
};

const ByteVector kGsoHeader{1, 1, 54, 0, 0xB4, 0x05, 34, 0, 16, 0};

}  // namespace

TEST_CASE("TapToStream sends all waiting frames in one send") {
  Rig rig;
  std::vector<ByteVector> frames;
  for (uint8_t i = 0; i < 10; ++i) {
    frames.push_back(make_frame(60 + i, i));
    rig.tap.add_frame(frames.back());
  }
  CHECK(rig.run() == SendProgress::kIdle);
  CHECK(rig.stream.sends.size() == 1);
  CHECK(split_records(rig.stream.all_sent()) == frames);
  CHECK(rig.counters.frames.get() == 10);
  CHECK(rig.counters.bytes.get() == 645);
  CHECK(rig.counters.bursts.get() == 1);
  CHECK(rig.pump.owned_bytes() == 0);
}

TEST_CASE("TapToStream never sends more than a burst at once") {
  Rig rig;
  rig.pump.set_policy({.burst_size = 4096, .expected_frame = 1514});
  std::vector<ByteVector> frames;
  for (uint8_t i = 0; i < 20; ++i) {
    frames.push_back(make_frame(i % 3 == 0 ? 9000 : 1514, i));
    rig.tap.add_frame(frames.back());
  }
  while (rig.run() == SendProgress::kMore) {
  }
  for (const ByteVector& send : rig.stream.sends) CHECK(send.size() <= 4096);
  CHECK(split_records(rig.stream.all_sent()) == frames);
}

TEST_CASE("TapToStream with one frame a send keeps header and body together") {
  Rig rig;
  rig.pump.set_policy({.burst_size = 1, .one_frame_per_send = true});
  for (uint8_t i = 0; i < 5; ++i) rig.tap.add_frame(make_frame(100, i));
  CHECK(rig.run() == SendProgress::kIdle);
  REQUIRE(rig.stream.sends.size() == 5);
  for (uint8_t i = 0; i < 5; ++i) {
    CHECK(rig.stream.sends[i] == make_record(RecordType::kFrame, make_frame(100, i)));
  }
}

TEST_CASE("TapToStream keeps what a full stream did not take, and reads nothing more") {
  Rig rig;
  rig.stream.capacity = 150;
  for (uint8_t i = 0; i < 4; ++i) rig.tap.add_frame(make_frame(100, i));
  CHECK(rig.run() == SendProgress::kBlocked);
  CHECK(rig.counters.stalls.get() == 1);
  CHECK(rig.pump.owned_bytes() >= 4 * 104 - 150);

  rig.tap.add_frame(make_frame(100, 9));
  const size_t reads = rig.tap.read_calls;
  CHECK(rig.run() == SendProgress::kBlocked);
  CHECK(rig.tap.read_calls == reads);

  for (int i = 0; i < 10 && rig.run() == SendProgress::kBlocked; ++i) rig.stream.drain();
  std::vector<ByteVector> expected;
  for (uint8_t i = 0; i < 4; ++i) expected.push_back(make_frame(100, i));
  expected.push_back(make_frame(100, 9));
  CHECK(split_records(rig.stream.all_sent()) == expected);
  CHECK(rig.pump.owned_bytes() == 0);
}

TEST_CASE("TapToStream delivers every frame whole and in order for any capacity") {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Rig rig;
    rig.pump.set_policy({.burst_size = 1000 + random() % 5000});
    std::vector<ByteVector> frames;
    for (int i = 0; i < 60; ++i) {
      frames.push_back(make_frame(14 + random() % 1501, static_cast<uint8_t>(random())));
      rig.tap.add_frame(frames.back());
    }
    for (;;) {
      rig.stream.capacity = 1 + random() % 8000;
      rig.stream.drain();
      const SendProgress progress = rig.run();
      CHECK(rig.pump.owned_bytes() <= 2 * 8000);
      if (progress == SendProgress::kIdle) break;
    }
    REQUIRE(split_records(rig.stream.all_sent()) == frames);
  }
}

TEST_CASE("TapToStream gives others a turn") {
  Rig rig;
  SUBCASE("after some small bursts") {
    rig.pump.set_policy({.burst_size = 200});
    for (int i = 0; i < 100; ++i) rig.tap.add_frame(make_frame(150));
  }
  SUBCASE("after a few of the largest") {
    rig.pump.set_policy({.burst_size = kLargestBurst});
    for (int i = 0; i < 100; ++i) rig.tap.add_frame(make_frame(60000));
  }
  CHECK(rig.run() == SendProgress::kMore);
  CHECK(rig.tap.reads.size() > 0);
  CHECK(rig.stream.all_sent().size() <= 3 * kLargestBurst);
}

TEST_CASE("TapToStream ends its burst when every frame is dropped") {
  Rig rig;
  const ByteVector forged = encode_hello({.nonce = 7});
  for (int i = 0; i < 5000; ++i) rig.tap.add_frame(forged);
  int turns = 1;
  while (rig.run() == SendProgress::kMore) ++turns;
  CHECK(turns > 1);
  CHECK(rig.drops(Drop::kForgedHello) == 5000);
  CHECK(rig.stream.sends.empty());
}

TEST_CASE("TapToStream drops and counts what must not leave") {
  Rig rig;
  rig.pump.set_policy({.largest_payload = 500});
  rig.tap.add_frame(encode_hello({.nonce = 7}));
  rig.tap.add_frame(ByteVector(13));
  rig.tap.add_frame(make_frame(501));
  rig.tap.add_frame(make_frame(400), kGsoHeader);
  rig.tap.add_frame(make_frame(500));
  CHECK(rig.run() == SendProgress::kIdle);
  CHECK(rig.drops(Drop::kForgedHello) == 1);
  CHECK(rig.drops(Drop::kRunt) == 1);
  CHECK(rig.drops(Drop::kPeerLimit) == 1);
  CHECK(rig.drops(Drop::kUnsegmented) == 1);
  CHECK(split_records(rig.stream.all_sent()) == only(make_frame(500)));
}

TEST_CASE("TapToStream carries the virtio-net header to a peer that takes it") {
  Rig rig;
  rig.pump.set_policy({.burst_size = 32768, .offloads = kOffloadChecksum | kOffloadTso4});
  const ByteVector large = make_frame(60000);
  rig.tap.add_frame(large, kGsoHeader);
  rig.tap.add_frame(make_frame(60));
  CHECK(rig.run() == SendProgress::kIdle);

  ByteVector expected = kGsoHeader;
  expected.insert(expected.end(), large.begin(), large.end());
  ByteVector small(10);
  const ByteVector frame = make_frame(60);
  small.insert(small.end(), frame.begin(), frame.end());
  const ByteVector sent = rig.stream.all_sent();
  CHECK(split_records(sent) == std::vector{expected, small});
  CHECK(sent[0] == 1);

  SUBCASE("and nothing that was not agreed") {
    ByteVector tso6 = kGsoHeader;
    tso6[1] = kVirtioNetGsoTcp6;
    rig.tap.add_frame(large, tso6);
    CHECK(rig.run() == SendProgress::kIdle);
    CHECK(rig.drops(Drop::kUnsegmented) == 1);
  }
}

TEST_CASE("TapToStream puts queued records between whole records") {
  Rig rig;
  rig.stream.capacity = 50;
  rig.tap.add_frame(make_frame(100));
  CHECK(rig.run() == SendProgress::kBlocked);
  const ByteVector pong = encode_control({.ping = {}, .pong = 5, .goodbye = {}});
  CHECK(rig.pump.queue_record(RecordType::kControl, pong));
  for (int i = 0; i < 5 && rig.run() == SendProgress::kBlocked; ++i) rig.stream.drain();
  CHECK(split_records(rig.stream.all_sent()) == std::vector{make_frame(100), pong});
}

TEST_CASE("TapToStream refuses to collect answers for a peer that does not read") {
  Rig rig;
  rig.stream.capacity = 0;
  const ByteVector pong = encode_control({.ping = {}, .pong = 5, .goodbye = {}});
  int taken = 0;
  while (taken < 100000 && rig.pump.queue_record(RecordType::kControl, pong)) ++taken;
  CHECK(taken > 0);
  CHECK(rig.pump.owned_bytes() <= 16 * 1024);
}

TEST_CASE("TapToStream tells which side is gone") {
  Rig rig;
  SUBCASE("the stream") {
    rig.tap.add_frame(make_frame(100));
    rig.stream.send_outcomes.push_back(outcome_of(IoOutcome::Kind::kGone, EPIPE));
    CHECK(rig.run() == SendProgress::kStreamGone);
    CHECK(rig.pump.error() == EPIPE);
  }
  SUBCASE("the TAP, after what was read before is out") {
    rig.tap.add_frame(make_frame(100));
    rig.tap.reads.push_back({outcome_of(IoOutcome::Kind::kGone, EBADFD), {}});
    CHECK(rig.run() == SendProgress::kTapGone);
    CHECK(rig.pump.error() == EBADFD);
    CHECK(split_records(rig.stream.all_sent()) == only(make_frame(100)));
  }
  SUBCASE("neither, for one bad read") {
    rig.tap.reads.push_back({outcome_of(IoOutcome::Kind::kDropped, EINVAL), {}});
    rig.tap.add_frame(make_frame(100));
    CHECK(rig.run() == SendProgress::kIdle);
    CHECK(split_records(rig.stream.all_sent()) == only(make_frame(100)));
  }
}
