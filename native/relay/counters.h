// Counters of one relay. Each has one writer at a time and is read from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "record/record.h"

namespace arca {

// A relaxed counter with a single writer: an addition is a load and a store, no locked instruction.
class Counter {
 public:
  void add(uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Why a frame was not delivered. A reason belongs to one direction; docs/architecture.md lists
// them.
enum class Drop : uint8_t {
  // TAP to stream
  kForgedHello,  // addressed as a HELLO: only the relay may send those
  kRunt,         // shorter than an Ethernet header
  kUnsegmented,  // the kernel had queued it before offloads were switched off
  kPeerLimit,    // larger than what the peer said it takes
  // Stream to TAP
  kTagged,             // carries a VLAN tag of its own
  kOversize,           // larger than the MTU
  kBadHello,           // addressed as a HELLO, but not one that this version can read
  kHelloEcho,          // our own HELLO came back
  kWithdrawn,          // with an offload that the peer was told not to use any more
  kMisplacedChecksum,  // asks the kernel to write a checksum where no transport has one
  kTapRefused,         // the kernel did not take it: interface down, malformed, no memory
  kTapFull,            // the kernel's queue was full
};
inline constexpr size_t kDropCount = 12;
inline constexpr size_t kFirstStreamToTapDrop = static_cast<size_t>(Drop::kTagged);

// The stable word of a reason, for logs and metric labels: "forged-hello".
const char* drop_word(Drop drop);

struct alignas(64) DirectionCounters {
  Counter frames;
  Counter bytes;  // of frames, without record and virtio-net headers
  Counter bursts;
  Counter system_calls;
  Counter stalls;
  std::array<Counter, kDropCount> drops;

  void count_drop(Drop drop, uint64_t count = 1) { drops[static_cast<size_t>(drop)].add(count); }
};

struct RelayCounters {
  DirectionCounters tap_to_stream;
  DirectionCounters stream_to_tap;
  alignas(64) Counter peers_connected;
  Counter refused_busy;
  Counter refused_cid;
  std::array<Counter, kBreachCount> breaches;
  std::atomic<bool> peer_up{false};
};

}  // namespace arca
