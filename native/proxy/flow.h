// One direction of a proxied connection: bytes from a source to a sink, in order, until one of the
// two ends it. It makes no decision about sockets: whoever runs it passes the end on.
#pragma once

#include <vector>

#include "io/ports.h"

namespace arca {

class Flow {
 public:
  enum class State : uint8_t {
    kOpen,
    kEnded,       // the source said so, and everything was delivered
    kSinkGone,    // the sink takes nothing any more
    kSourceGone,  // the source was reset
  };

  // Moves what can be moved now, through `scratch`. True: there may be more at once, and others
  // have their turn first. False: it goes on when the source or the sink tells that it is ready, or
  // it is over.
  //
  // What the sink does not take is kept, scratch.size() bytes at most, and the source is not read
  // until that is out: so a slow reader slows its writer.
  bool run(ByteStream& source, ByteStream& sink, MutableBytes scratch);

  // The sink was seen to be gone without a write.
  void lose_sink();

  State state() const { return state_; }
  bool is_open() const { return state_ == State::kOpen; }
  // Bytes that the sink took since this was asked last.
  uint64_t take_delivered();

 private:
  enum class Delivery : uint8_t { kDone, kSinkFull, kSinkGone };

  Delivery deliver_kept(ByteStream& sink);
  Delivery deliver_fresh(ByteStream& sink, Bytes bytes);
  Delivery send(ByteStream& sink, Bytes& bytes);
  void end(State state);

  State state_ = State::kOpen;
  std::vector<uint8_t> kept_;  // received, and not taken by the sink yet; no memory otherwise
  size_t kept_at_ = 0;
  uint64_t delivered_ = 0;
};

}  // namespace arca
