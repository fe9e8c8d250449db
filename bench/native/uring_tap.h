// A TAP read through io_uring, behind the pumps' FramePort.
//
// Theory of operation. A FramePort is asked for one frame at a time, so what makes one system call
// of many stands behind it. Frames land in slots of our own, since where the next one belongs in
// the burst buffer is known only when the size of the one before it is; the pump's read copies one
// out (or, for a pump of its own, they stay there and are sent from there). Writes are the
// product's (io/write_ring.h).
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "io/ports.h"
#include "record/coalescer.h"
#include "record/ethernet.h"
#include "record/record.h"
#include "record/virtio_net.h"
#include "uring_ring.h"

namespace arca::bench {

class UringReader {
 public:
  enum class Reads : uint8_t {
    kBatch,      // READ_FIXED, as many as the last turn found and one, each for a slot (5.1)
    kMultishot,  // one READ_MULTISHOT that stays, and a ring of provided buffers (6.7)
  };
  // Room for a record header stands before each frame.
  struct Taken {
    IoOutcome outcome;
    uint8_t* frame = nullptr;  // with its virtio-net header; valid while keeps_frames()
  };
  static constexpr unsigned kSlots = 64;

  // `tap` is non-blocking.
  UringReader(int tap, Reads reads)
      : reads_(reads), slots_(kSlots * kSlotSize), ring_(kSlots, tap), provided_(kProvidedSize) {
    const iovec all{slots_.bytes(), slots_.size()};
    if (reads_ == Reads::kBatch) {
      ring_.register_with(IORING_REGISTER_BUFFERS, &all, 1);
      return;
    }
    io_uring_buf_reg group{};
    group.ring_addr = reinterpret_cast<uint64_t>(provided_.bytes());
    group.ring_entries = kSlots;
    ring_.register_with(IORING_REGISTER_PBUF_RING, &group, 1);
    for (unsigned i = 0; i < kSlots; ++i) provide(i);
    arm();
  }

  // Whether the next take() leaves the frames of earlier ones where they are.
  bool keeps_frames() const { return reads_ == Reads::kBatch && (next_ < asked_ || drained_); }

  Taken take() { return reads_ == Reads::kBatch ? take_of_batch() : take_of_multishot(); }

 private:
  // Not a multiple of a page: else the beginnings of all slots would share a few lines of the
  // cache.
  static constexpr size_t kSlotSize = 17 * 4096 + 5 * 64;
  static_assert(kSlotSize >= kRecordHeaderSize + kVirtioNetHeaderSize + kLargestFrame);
  static constexpr size_t kProvidedSize = kSlots * sizeof(io_uring_buf);

  uint8_t* frame_of(unsigned slot) const {
    return slots_.bytes() + slot * kSlotSize + kRecordHeaderSize;
  }
  static constexpr size_t room() { return kSlotSize - kRecordHeaderSize; }

  static Taken taken(int result, uint8_t* frame) {
    if (result < 0) return {judge_tap_errno(-result), nullptr};
    return {{.kind = IoOutcome::Kind::kMoved, .size = static_cast<size_t>(result), .error = 0},
            frame};
  }

  Taken take_of_batch() {
    for (;;) {
      while (next_ < asked_) {
        const unsigned slot = next_++;
        if (results_[slot] == -EAGAIN) continue;
        ++turn_;
        return taken(results_[slot], frame_of(slot));
      }
      if (drained_) {
        window_ = std::min(turn_ + 1, kSlots);
        turn_ = 0;
        drained_ = false;
        return taken(-EAGAIN, nullptr);
      }
      if (asked_ == window_) window_ = std::min(2 * window_, kSlots);
      ask();
    }
  }

  void ask() {
    for (unsigned i = 0; i < window_; ++i) {
      io_uring_sqe& request = ring_.queue(IORING_OP_READ_FIXED, frame_of(i), room());
      request.buf_index = 0;
      request.rw_flags = RWF_NOWAIT;
      request.user_data = i;
    }
    ring_.submit();
    asked_ = window_;
    next_ = 0;
    for (unsigned i = 0; i < asked_; ++i, ring_.pop()) {
      const io_uring_cqe* done = ring_.front();
      if (done == nullptr) die("a read was not done with its submission");
      results_[done->user_data] = done->res;
    }
    drained_ = results_[asked_ - 1] == -EAGAIN;
  }

  Taken take_of_multishot() {
    if (borrowed_ < kSlots) provide(std::exchange(borrowed_, kSlots));
    for (;;) {
      if (const io_uring_cqe* done = ring_.front()) {
        const io_uring_cqe seen = *done;
        ring_.pop();
        armed_ = (seen.flags & IORING_CQE_F_MORE) != 0;
        if (seen.res == -ENOBUFS) continue;
        if (seen.res < 0) return taken(seen.res, nullptr);
        borrowed_ = seen.flags >> IORING_CQE_BUFFER_SHIFT;
        return taken(seen.res, frame_of(borrowed_));
      }
      if (!armed_) {
        arm();
      } else if (ring_.has_work()) {
        ring_.submit();
      } else {
        return taken(-EAGAIN, nullptr);
      }
    }
  }

  void arm() {
    io_uring_sqe& request = ring_.queue(kOpReadMultishot, nullptr, 0);
    request.flags |= IOSQE_BUFFER_SELECT;
    request.buf_group = 0;
    ring_.submit();
    armed_ = true;
  }

  void provide(unsigned slot) {
    // The first entry's `resv` is the ring's tail.
    auto* entries = reinterpret_cast<io_uring_buf*>(provided_.bytes());
    io_uring_buf& entry = entries[provided_tail_ & (kSlots - 1)];
    entry.addr = reinterpret_cast<uint64_t>(frame_of(slot));
    entry.len = static_cast<uint32_t>(room());
    entry.bid = static_cast<uint16_t>(slot);
    std::atomic_ref(entries[0].resv).store(++provided_tail_, std::memory_order_release);
  }

  const Reads reads_;
  Pages slots_;
  Ring ring_;
  // kBatch
  std::array<int, kSlots> results_{};
  unsigned window_ = 2;
  unsigned asked_ = 0;
  unsigned next_ = 0;
  unsigned turn_ = 0;
  bool drained_ = false;
  // kMultishot
  Pages provided_;
  uint16_t provided_tail_ = 0;
  unsigned borrowed_ = kSlots;
  bool armed_ = false;
};

class UringTap final : public FramePort {
 public:
  UringTap(int tap, UringReader::Reads reads) : reader_(tap, reads) {}

  IoOutcome read_frame(std::span<const iovec> room) override {
    const UringReader::Taken taken = reader_.take();
    if (taken.outcome.kind != IoOutcome::Kind::kMoved) return taken.outcome;
    size_t at = 0;
    for (const iovec& piece : room) {
      const size_t size = std::min(piece.iov_len, taken.outcome.size - at);
      std::memcpy(piece.iov_base, taken.frame + at, size);
      at += size;
    }
    return {.kind = IoOutcome::Kind::kMoved, .size = at, .error = 0};
  }
  IoOutcome write_frame(std::span<const iovec>) override { die("only reads are tried"); }

 private:
  UringReader reader_;
};

}  // namespace arca::bench
