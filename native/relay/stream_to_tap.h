// The pump from a stream to a TAP.
//
// Theory of operation. One large receive per turn; each whole record in it is checked and written
// to the TAP, one write a frame, since a TAP takes no more; an unfinished record is kept by the
// assembler. The peer is hostile: what can't be delivered is dropped and counted, what breaks the
// protocol ends the link. A TAP never makes its writer wait, so nothing is buffered beyond the
// turn: single frames are queued, and the TAP takes all that are queued at once (WriteRing).
#pragma once

#include <optional>

#include "io/ports.h"
#include "record/coalescer.h"
#include "record/control.h"
#include "record/hello.h"
#include "record/record_assembler.h"
#include "relay/burst_buffer.h"
#include "relay/counters.h"

namespace arca {

struct ReceivePolicy {
  RecordLimits limits;
  Offloads deliverable = kOffloadNone;  // what is behind the TAP takes these
  size_t mtu = 1500;                    // bytes, L3; larger frames are dropped
  bool allow_tagged = false;            // let frames with a VLAN tag of their own pass
  uint64_t own_nonce = 0;               // of the HELLO that this end sent
};

enum class ReceiveProgress : uint8_t {
  kIdle,
  kEndOfStream,
  kStreamGone,
  kBreach,
  kTapGone,
};

// Told on the pump's thread, during run().
class RecordObserver {
 public:
  virtual void on_first_frame() = 0;  // the first record was no HELLO
  virtual void on_hello(const Hello& hello) = 0;
  virtual void on_control(const Control& control) = 0;

 protected:
  ~RecordObserver() = default;
};

class StreamToTap {
 public:
  StreamToTap(ByteStream& stream, FramePort& tap, const ReceivePolicy& policy,
              DirectionCounters& counters, RecordObserver& observer)
      : stream_(stream),
        tap_(tap),
        policy_(policy),
        counters_(counters),
        observer_(observer),
        assembler_(policy.limits) {}

  ReceiveProgress run(BurstBuffer& buffer);

  // What is behind the TAP takes these from now on, and the peer will be told. Records with others
  // that were offered before are dropped, not a breach: they may be under way.
  void set_deliverable(Offloads offloads);

  // errno of kStreamGone and kTapGone.
  int error() const { return error_; }
  Breach breach() const { return breach_; }
  // Whether the stream ended inside a record.
  bool has_unfinished() const { return assembler_.has_unfinished(); }
  size_t owned_bytes() const { return assembler_.owned_bytes(); }

 private:
  IoOutcome receive(MutableBytes bulk);
  std::optional<Breach> take_record(const Record& record, BurstBuffer& buffer);
  void take_hello(Bytes frame);
  std::optional<Drop> check_frame(const VirtioNetHeader& header, Bytes frame) const;
  void deliver(const VirtioNetHeader& header, Bytes frame, BurstBuffer& buffer);
  bool can_join(const VirtioNetHeader& header) const;
  void flush_trains(BurstBuffer& buffer);
  void take_train(const Train& train, BurstBuffer& buffer);
  void write_now(const Train& train);
  void write_queued(FrameQueue& queue, WriteRing& ring);
  void settle(const IoOutcome& outcome, size_t frames, size_t frame_bytes);

  ByteStream& stream_;
  FramePort& tap_;
  ReceivePolicy policy_;
  DirectionCounters& counters_;
  RecordObserver& observer_;
  RecordAssembler assembler_;
  bool seen_first_ = false;
  bool tap_gone_ = false;
  int error_ = 0;
  Breach breach_ = Breach::kUnknownType;
};

}  // namespace arca
