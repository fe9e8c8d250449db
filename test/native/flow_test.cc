#include "proxy/flow.h"

#include <doctest/doctest.h>

#include "fakes.h"

using namespace arca;
using namespace arca::test;

namespace {

using Kind = IoOutcome::Kind;

// A flow between two scripted streams, with little room.
struct FlowBench {
  static constexpr size_t kRoom = 64;

  Flow flow;
  FakeStream source;
  FakeStream sink;
  ByteVector scratch = ByteVector(kRoom);

  bool run() { return flow.run(source, sink, scratch); }
};

}  // namespace

TEST_CASE("Flow: what comes in goes out, in order") {
  FlowBench bench;
  const ByteVector bytes = make_frame(150);
  bench.source.arrivals = {bytes};
  CHECK_FALSE(bench.run());
  CHECK(bench.sink.all_sent() == bytes);
  CHECK(bench.flow.is_open());
  CHECK(bench.flow.take_delivered() == 150);
  CHECK(bench.flow.take_delivered() == 0);
}

TEST_CASE("Flow: a sink of any capacity gets every byte once, and no more is held than the room") {
  const ByteVector bytes = make_frame(500);
  for (size_t capacity = 1; capacity <= 130; ++capacity) {
    CAPTURE(capacity);
    FlowBench bench;
    bench.sink.capacity = capacity;
    bench.source.arrivals = {bytes};
    size_t received = 0;
    for (int turn = 0; turn < 1000 && bench.sink.all_sent().size() < bytes.size(); ++turn) {
      bench.run();
      const size_t left = bench.source.arrivals.empty() ? 0 : bench.source.arrivals.front().size();
      received = bytes.size() - left;
      REQUIRE(received - bench.sink.all_sent().size() <= FlowBench::kRoom);
      bench.sink.drain();
    }
    CHECK(bench.sink.all_sent() == bytes);
    CHECK(bench.flow.take_delivered() == bytes.size());
  }
}

TEST_CASE("Flow: a source that never runs dry gives way to others") {
  FlowBench bench;
  bench.source.arrivals = {ByteVector(FlowBench::kRoom * 100)};
  CHECK(bench.run());
  CHECK(bench.sink.all_sent().size() < FlowBench::kRoom * 100);
  int turns = 1;
  while (bench.run()) ++turns;
  CHECK(turns > 10);
  CHECK(bench.sink.all_sent().size() == FlowBench::kRoom * 100);
}

TEST_CASE("Flow: the end is told when everything before it was delivered") {
  FlowBench bench;
  bench.source.arrivals = {ByteVector(40, 1)};
  bench.source.after_arrivals = outcome_of(Kind::kEndOfStream);
  bench.sink.capacity = 30;
  bench.run();
  CHECK(bench.flow.is_open());
  bench.run();
  CHECK(bench.flow.is_open());
  bench.sink.drain();
  bench.run();
  CHECK(bench.flow.state() == Flow::State::kEnded);
  CHECK(bench.sink.all_sent() == ByteVector(40, 1));
}

TEST_CASE("Flow: a sink that is gone ends it, with fresh bytes and with kept ones") {
  FlowBench bench;
  bench.source.arrivals = {ByteVector(40, 1), ByteVector(40, 2)};
  SUBCASE("fresh") {
    bench.sink.send_outcomes = {outcome_of(Kind::kGone, EPIPE)};
    CHECK_FALSE(bench.run());
  }
  SUBCASE("kept") {
    bench.sink.send_outcomes = {outcome_of(Kind::kWouldBlock), outcome_of(Kind::kGone, EPIPE)};
    bench.run();
    CHECK(bench.flow.is_open());
    CHECK_FALSE(bench.run());
  }
  SUBCASE("seen without a write") { bench.flow.lose_sink(); }
  CHECK(bench.flow.state() == Flow::State::kSinkGone);
  CHECK_FALSE(bench.run());
  CHECK(bench.sink.sends.empty());
}

TEST_CASE("Flow: a source that was reset ends it, after what came before") {
  FlowBench bench;
  bench.source.arrivals = {ByteVector(10, 1)};
  bench.source.after_arrivals = outcome_of(Kind::kGone, ECONNRESET);
  CHECK_FALSE(bench.run());
  CHECK(bench.flow.state() == Flow::State::kSourceGone);
  CHECK(bench.sink.all_sent() == ByteVector(10, 1));
}

TEST_CASE("Flow: over is over") {
  FlowBench bench;
  bench.source.after_arrivals = outcome_of(Kind::kEndOfStream);
  bench.run();
  bench.flow.lose_sink();
  CHECK(bench.flow.state() == Flow::State::kEnded);
  bench.source.arrivals = {ByteVector(10, 1)};
  CHECK_FALSE(bench.run());
  CHECK(bench.sink.sends.empty());
}
