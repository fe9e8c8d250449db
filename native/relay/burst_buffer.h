// The memory that a worker's pumps share: one burst at a time passes through it.
#pragma once

#include <vector>

#include "io/write_ring.h"
#include "record/bytes.h"
#include "record/coalescer.h"
#include "record/record.h"
#include "relay/frame_queue.h"

namespace arca {

inline constexpr size_t kLargestBurst = 256 * 1024;

class BurstBuffer {
 public:
  // Room for a full burst and, since a frame's size is known only once it is read, the largest
  // record behind it.
  BurstBuffer() : bytes_(kLargestBurst + kRecordHeaderSize + kLargestRecordPayload) {}

  MutableBytes bytes() { return bytes_; }
  // Both are empty between two turns.
  Coalescer& coalescer() { return coalescer_; }
  FrameQueue& queue() { return queue_; }
  WriteRing& ring() { return ring_; }

 private:
  std::vector<uint8_t> bytes_;
  Coalescer coalescer_;
  FrameQueue queue_;
  WriteRing ring_;
};

}  // namespace arca
