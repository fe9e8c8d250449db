// Many writes with one system call, by io_uring(7), where the kernel lets us.
//
// Theory of operation. Each write is a request; one io_uring_enter hands all of them over. They are
// done in order and within that call, for RWF_NOWAIT forbids the kernel to put one off: it is
// refused with EAGAIN instead. So a ring holds nothing between two calls, and any number of
// descriptors share it. Many containers may not use io_uring (seccomp, kernel.io_uring_disabled),
// and a TAP takes RWF_NOWAIT since about Linux 6.4: the first refusal is remembered, and everything
// is the caller's to write.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "io/result.h"
#include "io/unique_fd.h"
#include "record/bytes.h"

struct io_uring_cqe;
struct io_uring_sqe;

namespace arca {

// Of the one thread that calls write(). The ring itself is made by the first call that wants it.
class WriteRing {
 public:
  static constexpr size_t kMostWrites = 64;

  enum class State : uint8_t { kUntried, kOpen, kRefused };

  WriteRing() = default;
  WriteRing(const WriteRing&) = delete;
  WriteRing& operator=(const WriteRing&) = delete;
  ~WriteRing() { unmap(); }

  // At most kMostWrites of them; `fd` is non-blocking. `results` tells of each what write(2) would
  // have: bytes, or -errno. Returns how many were tried, the first ones; the others are as if
  // nobody had asked: all of them where the kernel refuses io_uring.
  size_t write(int fd, std::span<const Bytes> writes, std::span<int32_t> results);

  // Any thread.
  State state() const { return state_.load(std::memory_order_relaxed); }
  // The errno of what was refused; 0 if nothing was.
  int refusal() const { return refusal_.load(std::memory_order_relaxed); }

 private:
  bool is_open();
  Status open();
  void give_up(const Error& error);
  void unmap();
  size_t submit(int fd, std::span<const Bytes> writes);
  void collect(std::span<int32_t> results);

  UniqueFd fd_;
  uint8_t* rings_ = nullptr;
  size_t rings_size_ = 0;
  io_uring_sqe* requests_ = nullptr;
  size_t requests_size_ = 0;
  io_uring_cqe* completions_ = nullptr;
  uint32_t* submit_tail_ = nullptr;
  uint32_t* complete_head_ = nullptr;
  uint32_t* complete_tail_ = nullptr;
  uint32_t submit_mask_ = 0;
  uint32_t complete_mask_ = 0;
  std::atomic<State> state_{State::kUntried};
  std::atomic<int> refusal_{0};
};

}  // namespace arca
