// Frames that wait to be written to a TAP together, each in one piece behind its virtio-net header:
// the kernel is quicker with one piece than with two, by more than the copy costs.
//
// Bounded; one a worker.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "io/ports.h"
#include "io/write_ring.h"
#include "record/bytes.h"
#include "record/virtio_net.h"

namespace arca {

class FrameQueue {
 public:
  static constexpr size_t kMostFrames = WriteRing::kMostWrites;
  // An Ethernet frame of the usual MTU. Larger ones gain little by company.
  static constexpr size_t kLargestQueued = 2048;

  bool is_full() const { return count_ == kMostFrames; }

  // Not when it is full, and of at most kLargestQueued bytes.
  void add(const VirtioNetHeader& header, Bytes frame) {
    uint8_t* slot = bytes_.get() + used_;
    encode_virtio_net(header, slot);
    std::copy(frame.begin(), frame.end(), slot + kVirtioNetHeaderSize);
    const size_t size = kVirtioNetHeaderSize + frame.size();
    frames_[count_++] = Bytes(slot, size);
    used_ += (size + kCacheLine - 1) / kCacheLine * kCacheLine;
  }

  // Each with its header before it, as FramePort::write_frames takes them.
  std::span<const Bytes> frames() const { return std::span(frames_).first(count_); }
  // Of frames(), for whoever writes them.
  std::span<IoOutcome> outcomes() { return std::span(outcomes_).first(count_); }

  void clear() { count_ = used_ = 0; }

 private:
  static constexpr size_t kCacheLine = 64;
  static constexpr size_t kSlotSize = kLargestQueued + kCacheLine;
  static_assert(kSlotSize % kCacheLine == 0 && kVirtioNetHeaderSize <= kCacheLine);

  // Not touched before it is used: most links never have so many at once.
  std::unique_ptr<uint8_t[]> bytes_ =
      std::make_unique_for_overwrite<uint8_t[]>(kMostFrames * kSlotSize);
  size_t used_ = 0;
  std::array<Bytes, kMostFrames> frames_;
  std::array<IoOutcome, kMostFrames> outcomes_;
  size_t count_ = 0;
};

}  // namespace arca
