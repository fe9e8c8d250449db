// Joins consecutive TCP segments of a flow into one large frame with a virtio-net header, as a
// network card with receive offload does: the TAP then takes one write for many segments, and the
// stack behind it one walk.
//
// Theory of operation. Frames of one receive are offered in order. A TCP data segment opens a train
// or joins the train of its flow; whatever can't join sends the flow's train off first, so that the
// order within a flow is that of the wire. When the receive is used up every train is sent off:
// nothing waits for a later one. Only what the kernel's own segmentation would turn back into the
// very same bytes is joined: checksums right, headers alike but for what segmentation counts up
// (sequence number, IPv4 identification), PSH on the last segment alone.
//
// Pure. Holds views into the frames that it was offered, no bytes but headers: the frames must live
// until flush().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "record/bytes.h"
#include "record/ethernet.h"
#include "record/virtio_net.h"

namespace arca {

// Ethernet, IPv6 and TCP with all its options.
inline constexpr size_t kLargestHeaders = kEthernetHeaderSize + 40 + 60;

// What goes to the TAP as one frame: `pieces` in order, the first holding the headers.
struct Train {
  VirtioNetHeader header;
  std::span<const Bytes> pieces;
  size_t frames = 0;       // that were joined
  size_t frame_bytes = 0;  // of the frames as they came
};

class Coalescer {
 public:
  // The most pieces that a train has: the headers and the payloads.
  static constexpr size_t kMostPieces = 65;

  Coalescer() = default;
  Coalescer(const Coalescer&) = delete;
  Coalescer& operator=(const Coalescer&) = delete;

  // Takes a frame of at least kEthernetHeaderSize bytes whose checksums are complete. Calls
  // emit(const Train&) for what must go before it or is done with it; a frame that can't be joined
  // is emitted as a train of one, as it came.
  template <typename Emit>
  void add(Bytes frame, Emit&& emit) {
    Segment segment;
    switch (classify(frame, segment)) {
      case Kind::kOther:
        emit_single(frame, emit);
        return;
      case Kind::kTcpOther:
        if (Slot* slot = find(segment)) send_off(*slot, emit);
        emit_single(frame, emit);
        return;
      case Kind::kTcpData:
        break;
    }
    Slot* slot = find(segment);
    if (slot != nullptr && !joins(*slot, segment)) {
      send_off(*slot, emit);
      slot = nullptr;
    }
    if (slot != nullptr) {
      join(*slot, segment);
    } else {
      slot = free_slot(emit);
      open(*slot, segment);
    }
    if (is_complete(*slot, segment)) send_off(*slot, emit);
  }

  // Sends every train off, in the order in which they were opened.
  template <typename Emit>
  void flush(Emit&& emit) {
    while (Slot* slot = oldest()) send_off(*slot, emit);
  }

  bool empty() const { return used_ == 0; }

 private:
  static constexpr size_t kSlots = 16;
  static constexpr size_t kMostSegments = kMostPieces - 1;

  enum class Kind : uint8_t {
    kOther,     // no TCP that we know
    kTcpOther,  // of a flow, but never joined: no payload, flags, options of IP, wrong checksum
    kTcpData,
  };

  // A TCP segment as it lies in its frame.
  struct Segment {
    Bytes frame;
    uint8_t ip_version = 0;
    size_t tcp_at = 0;  // bytes from the start of the frame
    size_t payload_at = 0;
    uint32_t sequence = 0;
    bool push = false;

    size_t payload_size() const { return frame.size() - payload_at; }
    Bytes headers() const { return frame.first(payload_at); }
    Bytes payload() const { return frame.subspan(payload_at); }
  };

  struct Slot {
    bool used = false;
    uint64_t opened = 0;  // counts up: tells the order of slots
    Segment first;
    size_t segment_size = 0;  // payload of every segment but the last
    uint32_t next_sequence = 0;
    uint16_t next_id = 0;
    size_t frame_bytes = 0;
    size_t total = 0;  // bytes of headers and payloads
    size_t count = 0;
    bool push = false;
    std::array<Bytes, kMostPieces> pieces;  // [0]: headers
    std::array<uint8_t, kLargestHeaders> headers;
  };

  static Kind classify(Bytes frame, Segment& segment);
  static Kind classify_tcp(Segment& segment, uint64_t pseudo_sum);
  static bool same_flow(const Segment& a, const Segment& b);
  static bool joins(const Slot& slot, const Segment& segment);
  static bool is_complete(const Slot& slot, const Segment& segment);
  static void join(Slot& slot, const Segment& segment);
  void open(Slot& slot, const Segment& segment);
  Slot* find(const Segment& segment);
  Slot* oldest();
  // The train of a slot; rewrites its headers for more than one segment.
  static Train finish(Slot& slot);

  template <typename Emit>
  void emit_single(Bytes frame, Emit&& emit) {
    const Bytes pieces[] = {frame};
    emit(Train{.header = {}, .pieces = pieces, .frames = 1, .frame_bytes = frame.size()});
  }

  template <typename Emit>
  void send_off(Slot& slot, Emit&& emit) {
    emit(finish(slot));
    slot.used = false;
    --used_;
  }

  template <typename Emit>
  Slot* free_slot(Emit&& emit) {
    if (used_ == kSlots) send_off(*oldest(), emit);
    for (Slot& slot : slots_) {
      if (!slot.used) return &slot;
    }
    return nullptr;  // never: one was just freed
  }

  std::array<Slot, kSlots> slots_;
  size_t used_ = 0;
  uint64_t opened_ = 0;
};

}  // namespace arca
