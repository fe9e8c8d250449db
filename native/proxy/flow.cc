#include "proxy/flow.h"

#include <utility>

namespace arca {
namespace {

// A source that never runs dry gives way to others after so many.
constexpr int kReceivesPerTurn = 4;

}  // namespace

bool Flow::run(ByteStream& source, ByteStream& sink, MutableBytes scratch) {
  if (!is_open() || deliver_kept(sink) != Delivery::kDone) return false;
  for (int i = 0; i < kReceivesPerTurn; ++i) {
    const iovec room{scratch.data(), scratch.size()};
    const IoOutcome received = source.receive({&room, 1});
    switch (received.kind) {
      case IoOutcome::Kind::kMoved:
        if (deliver_fresh(sink, scratch.first(received.size)) != Delivery::kDone) return false;
        break;
      case IoOutcome::Kind::kWouldBlock:
        return false;
      case IoOutcome::Kind::kEndOfStream:
        end(State::kEnded);
        return false;
      case IoOutcome::Kind::kDropped:  // no outcome of a stream
      case IoOutcome::Kind::kGone:
        end(State::kSourceGone);
        return false;
    }
  }
  return true;
}

void Flow::lose_sink() {
  if (is_open()) end(State::kSinkGone);
}

uint64_t Flow::take_delivered() { return std::exchange(delivered_, 0); }

Flow::Delivery Flow::deliver_kept(ByteStream& sink) {
  if (kept_.empty()) return Delivery::kDone;
  Bytes rest = Bytes(kept_).subspan(kept_at_);
  const Delivery delivery = send(sink, rest);
  kept_at_ = kept_.size() - rest.size();
  if (delivery == Delivery::kDone) kept_ = {};
  return delivery;
}

Flow::Delivery Flow::deliver_fresh(ByteStream& sink, Bytes bytes) {
  const Delivery delivery = send(sink, bytes);
  if (delivery == Delivery::kSinkFull) {
    kept_.assign(bytes.begin(), bytes.end());
    kept_at_ = 0;
  }
  return delivery;
}

// Until it is full: only then it tells when it takes more. `bytes` becomes what it did not take.
Flow::Delivery Flow::send(ByteStream& sink, Bytes& bytes) {
  while (!bytes.empty()) {
    const IoOutcome sent = sink.send(bytes);
    switch (sent.kind) {
      case IoOutcome::Kind::kMoved:
        delivered_ += sent.size;
        bytes = bytes.subspan(sent.size);
        break;
      case IoOutcome::Kind::kWouldBlock:
        return Delivery::kSinkFull;
      case IoOutcome::Kind::kDropped:  // no outcomes of a send on a stream
      case IoOutcome::Kind::kEndOfStream:
      case IoOutcome::Kind::kGone:
        end(State::kSinkGone);
        return Delivery::kSinkGone;
    }
  }
  return Delivery::kDone;
}

void Flow::end(State state) {
  state_ = state;
  kept_ = {};
}

}  // namespace arca
