// A ring of io_uring(7) by bare system calls: only what `uring.cc` tries. Debian 12's header is
// that of kernel 6.1; what came later is declared here, with its kernel.
#pragma once

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "io/unique_fd.h"

namespace arca::bench {

inline constexpr uint8_t kOpReadMultishot = 49;        // IORING_OP_READ_MULTISHOT, 6.7
inline constexpr uint32_t kSetupNoSqArray = 1U << 16;  // IORING_SETUP_NO_SQARRAY, 6.6

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// Anonymous memory from a page's beginning, touched.
class Pages {
 public:
  explicit Pages(size_t size) : size_(size) {
    memory_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) die("mmap");
    std::memset(memory_, 0, size);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { ::munmap(memory_, size_); }

  uint8_t* bytes() const { return static_cast<uint8_t*>(memory_); }
  size_t size() const { return size_; }

 private:
  void* memory_;
  size_t size_;
};

// One thread's. The descriptor that the requests are for is registered (file 0), as is the ring's
// own. No SQPOLL: a kernel thread that spins for each ring would burn a processor.
class Ring {
 public:
  Ring(unsigned entries, int file) {
    io_uring_params params{};
    // SINGLE_ISSUER 6.0, DEFER_TASKRUN 6.1: completions are worked on only when we ask for them,
    // and TASKRUN_FLAG (5.19) tells when there is something to ask for.
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_TASKRUN_FLAG | kSetupNoSqArray;
    fd_.reset(static_cast<int>(::syscall(__NR_io_uring_setup, entries, &params)));
    if (!fd_) die("io_uring_setup");
    if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0) die("no IORING_FEAT_SINGLE_MMAP");

    rings_size_ = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    rings_ = map(rings_size_, IORING_OFF_SQ_RING);
    sqes_size_ = params.sq_entries * sizeof(io_uring_sqe);
    sqes_ = reinterpret_cast<io_uring_sqe*>(map(sqes_size_, IORING_OFF_SQES));
    sq_tail_ = at(params.sq_off.tail);
    sq_flags_ = at(params.sq_off.flags);
    cq_head_ = at(params.cq_off.head);
    cq_tail_ = at(params.cq_off.tail);
    cqes_ = reinterpret_cast<io_uring_cqe*>(rings_ + params.cq_off.cqes);
    sq_mask_ = params.sq_entries - 1;
    cq_mask_ = params.cq_entries - 1;

    register_with(IORING_REGISTER_FILES, &file, 1);
    io_uring_rsrc_update own{};
    own.offset = ~0U;
    own.data = static_cast<uint64_t>(fd_.get());
    register_with(IORING_REGISTER_RING_FDS, &own, 1);
    registered_index_ = own.offset;
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    ::munmap(sqes_, sqes_size_);
    ::munmap(rings_, rings_size_);
  }

  void register_with(unsigned operation, const void* what, unsigned count) {
    if (::syscall(__NR_io_uring_register, fd_.get(), operation, what, count) < 0) {
      die("io_uring_register");
    }
  }

  unsigned queued() const { return queued_; }
  bool full() const { return queued_ > sq_mask_; }

  // A request that goes out with the next submit(); not when full(). What is read or written is
  // done, or refused with EAGAIN, within that submit(), in order: O_NONBLOCK alone would let the
  // kernel wait for a TAP by itself, which RWF_NOWAIT forbids (a TAP takes it since about 6.4).
  io_uring_sqe& queue(uint8_t operation, const void* address, size_t size) {
    io_uring_sqe& request = sqes_[(tail_ + queued_) & sq_mask_];
    ++queued_;
    std::memset(&request, 0, sizeof request);
    request.opcode = operation;
    request.flags = IOSQE_FIXED_FILE;
    request.fd = 0;
    request.addr = reinterpret_cast<uint64_t>(address);
    request.len = static_cast<uint32_t>(size);
    return request;
  }

  // One system call: everything queued goes out, and work that waits is done.
  void submit() {
    tail_ += queued_;
    std::atomic_ref(*sq_tail_).store(tail_, std::memory_order_release);
    const long taken = ::syscall(__NR_io_uring_enter, registered_index_, queued_, 0,
                                 IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING, nullptr, 0);
    if (taken != static_cast<long>(queued_)) die("io_uring_enter");
    queued_ = 0;
  }

  // Whether the kernel has work to do before there are completions: submit() lets it.
  bool has_work() const {
    return (std::atomic_ref(*sq_flags_).load(std::memory_order_relaxed) & IORING_SQ_TASKRUN) != 0;
  }

  // The oldest completion, or null. Stays until pop().
  const io_uring_cqe* front() const {
    if (head_ == std::atomic_ref(*cq_tail_).load(std::memory_order_acquire)) return nullptr;
    return &cqes_[head_ & cq_mask_];
  }
  void pop() { std::atomic_ref(*cq_head_).store(++head_, std::memory_order_release); }

 private:
  uint8_t* map(size_t size, off_t offset) const {
    void* memory =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), offset);
    if (memory == MAP_FAILED) die("mmap of a ring");
    return static_cast<uint8_t*>(memory);
  }
  uint32_t* at(uint32_t offset) const { return reinterpret_cast<uint32_t*>(rings_ + offset); }

  UniqueFd fd_;
  uint8_t* rings_ = nullptr;
  size_t rings_size_ = 0;
  io_uring_sqe* sqes_ = nullptr;
  size_t sqes_size_ = 0;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* sq_flags_ = nullptr;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  io_uring_cqe* cqes_ = nullptr;
  uint32_t sq_mask_ = 0;
  uint32_t cq_mask_ = 0;
  uint32_t registered_index_ = 0;
  uint32_t tail_ = 0;
  uint32_t head_ = 0;
  uint32_t queued_ = 0;
};

}  // namespace arca::bench
