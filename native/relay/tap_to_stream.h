// The pump from a TAP to a stream.
//
// Theory of operation. Frames are read straight into the worker's burst buffer, each behind the
// room for its record header, until the TAP has no more or the burst is full; then one send takes
// them all, at once, without a timer. If the stream takes only a part, the rest becomes the pump's
// own memory, and nothing more is read until it is out: the TAP's queue fills, and the kernel drops
// there and counts it. So memory is bounded by one burst, and an idle pump owns none.
#pragma once

#include <cstdint>
#include <vector>

#include "io/ports.h"
#include "relay/burst_buffer.h"
#include "relay/counters.h"

namespace arca {

// How this end sends. Changes when the peer's HELLO arrives.
struct SendPolicy {
  size_t burst_size = 32 * 1024;  // bytes of one send, at most kLargestBurst
  bool one_frame_per_send = false;
  Offloads offloads = kOffloadNone;  // that the peer takes; with any, records are of type 1
  size_t largest_payload = kLargestRecordPayload;  // that the peer takes
  size_t expected_frame = 1514;  // bytes; the largest frame that the TAP gives usually
};

enum class SendProgress : uint8_t {
  kIdle,     // the TAP has nothing more
  kBlocked,  // the stream is full: run again when it is writable
  kMore,     // the turn is over, there is more
  kStreamGone,
  kTapGone,
};

class TapToStream {
 public:
  TapToStream(FramePort& tap, ByteStream& stream, DirectionCounters& counters)
      : tap_(tap), stream_(stream), counters_(counters) {}

  SendProgress run(BurstBuffer& buffer);

  void set_policy(const SendPolicy& policy) { policy_ = policy; }
  const SendPolicy& policy() const { return policy_; }

  // Puts a whole record before the next frame. False, and nothing queued, while much is waiting:
  // a peer that does not read can't make us collect answers.
  bool queue_record(RecordType type, Bytes payload);
  // The same for this end's own HELLO, which is never refused.
  void queue_hello(Bytes frame);

  // errno of kStreamGone and kTapGone.
  int error() const { return error_; }
  size_t owned_bytes() const { return unsent_.capacity(); }

 private:
  enum class Source : uint8_t { kDrained, kMore, kGone };
  struct Burst {
    size_t size;
    size_t frames;
    size_t frame_bytes;
    Source source;
  };

  bool with_header() const { return policy_.offloads != kOffloadNone; }
  void append_record(RecordType type, Bytes payload);
  SendProgress flush();
  SendProgress send(Bytes bytes);
  Burst fill(MutableBytes room);
  IoOutcome read_frame(uint8_t* record);
  bool accept_frame(const uint8_t* record, size_t frame_size);

  FramePort& tap_;
  ByteStream& stream_;
  DirectionCounters& counters_;
  SendPolicy policy_;
  std::vector<uint8_t> unsent_;
  // Where the virtio-net header goes when the record does not carry it.
  std::array<uint8_t, kVirtioNetHeaderSize> header_{};
  int error_ = 0;
};

}  // namespace arca
