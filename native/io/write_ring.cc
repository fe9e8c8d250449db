#include "io/write_ring.h"

#include <linux/fs.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace arca {
namespace {

// glibc has no wrappers for these.
int setup(unsigned entries, io_uring_params& params) {
  return static_cast<int>(::syscall(SYS_io_uring_setup, entries, &params));
}

long enter(int ring, size_t submit, size_t complete) {
  return ::syscall(SYS_io_uring_enter, ring, submit, complete, IORING_ENTER_GETEVENTS, nullptr, 0);
}

void* map(int ring, size_t size, off_t offset) {
  void* memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);
  return memory == MAP_FAILED ? nullptr : memory;
}

uint32_t load_acquire(uint32_t* value) {
  return std::atomic_ref(*value).load(std::memory_order_acquire);
}

void store_release(uint32_t* at, uint32_t value) {
  std::atomic_ref(*at).store(value, std::memory_order_release);
}

}  // namespace

size_t WriteRing::write(int fd, std::span<const Bytes> writes, std::span<int32_t> results) {
  if (!is_open()) return 0;
  const size_t tried = submit(fd, writes.first(std::min(writes.size(), kMostWrites)));
  if (tried == 0) return 0;
  collect(results.first(tried));
  const auto unsupported = [](int32_t result) { return result == -EOPNOTSUPP; };
  if (std::all_of(results.begin(), results.begin() + static_cast<ptrdiff_t>(tried), unsupported)) {
    give_up({"RWF_NOWAIT", EOPNOTSUPP});
    return 0;
  }
  return tried;
}

bool WriteRing::is_open() {
  if (state() != State::kUntried) return state() == State::kOpen;
  if (Status status = open(); !status.ok()) {
    give_up(status.error());
    return false;
  }
  state_.store(State::kOpen, std::memory_order_relaxed);
  return true;
}

Status WriteRing::open() {
  io_uring_params params{};
  // SUBMIT_ALL (5.18): a request that is refused does not hold up those behind it.
  // SINGLE_ISSUER (6.0): no other thread may use it.
  params.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER;
  UniqueFd fd(setup(kMostWrites, params));
  if (!fd) return last_error("io_uring_setup");
  if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0) return Error{"io_uring_setup", ENOSYS};

  rings_size_ = std::max(params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe),
                         params.sq_off.array + params.sq_entries * sizeof(uint32_t));
  rings_ = static_cast<uint8_t*>(map(fd.get(), rings_size_, IORING_OFF_SQ_RING));
  if (rings_ == nullptr) return last_error("mmap(IORING_OFF_SQ_RING)");
  requests_size_ = params.sq_entries * sizeof(io_uring_sqe);
  requests_ = static_cast<io_uring_sqe*>(map(fd.get(), requests_size_, IORING_OFF_SQES));
  if (requests_ == nullptr) return last_error("mmap(IORING_OFF_SQES)");

  const auto at = [this](uint32_t offset) { return reinterpret_cast<uint32_t*>(rings_ + offset); };
  submit_tail_ = at(params.sq_off.tail);
  complete_head_ = at(params.cq_off.head);
  complete_tail_ = at(params.cq_off.tail);
  completions_ = reinterpret_cast<io_uring_cqe*>(rings_ + params.cq_off.cqes);
  submit_mask_ = params.sq_entries - 1;
  complete_mask_ = params.cq_entries - 1;
  // Requests go out in the order in which they stand.
  uint32_t* order = at(params.sq_off.array);
  for (uint32_t i = 0; i < params.sq_entries; ++i) order[i] = i;
  fd_ = std::move(fd);
  return Done{};
}

void WriteRing::give_up(const Error& error) {
  unmap();
  fd_.reset();
  refusal_.store(error.code, std::memory_order_relaxed);
  state_.store(State::kRefused, std::memory_order_relaxed);
}

void WriteRing::unmap() {
  if (requests_ != nullptr) ::munmap(requests_, requests_size_);
  if (rings_ != nullptr) ::munmap(rings_, rings_size_);
  requests_ = nullptr;
  rings_ = nullptr;
}

// How many the kernel took; those that it did not are taken back.
size_t WriteRing::submit(int fd, std::span<const Bytes> writes) {
  const uint32_t start = *submit_tail_;
  for (size_t i = 0; i < writes.size(); ++i) {
    io_uring_sqe& request = requests_[(start + i) & submit_mask_];
    std::memset(&request, 0, sizeof request);
    request.opcode = IORING_OP_WRITE;
    request.fd = fd;
    request.addr = reinterpret_cast<uint64_t>(writes[i].data());
    request.len = static_cast<uint32_t>(writes[i].size());
    request.rw_flags = RWF_NOWAIT;
    request.user_data = i;
  }
  store_release(submit_tail_, start + static_cast<uint32_t>(writes.size()));
  long taken;
  do {
    taken = enter(fd_.get(), writes.size(), writes.size());
  } while (taken < 0 && errno == EINTR);
  if (taken < 0) {
    const Error error = last_error("io_uring_enter");
    store_release(submit_tail_, start);
    // Short of memory for the moment; anything else will be so the next time.
    if (error.code != EAGAIN && error.code != ENOMEM && error.code != EBUSY) give_up(error);
    return 0;
  }
  store_release(submit_tail_, start + static_cast<uint32_t>(taken));
  return static_cast<size_t>(taken);
}

void WriteRing::collect(std::span<int32_t> results) {
  uint32_t head = *complete_head_;
  for (size_t collected = 0; collected < results.size();) {
    if (head == load_acquire(complete_tail_)) {
      // Not seen: every request is done with its submission. The frames' memory is the kernel's
      // until it is.
      enter(fd_.get(), 0, results.size() - collected);
      continue;
    }
    const io_uring_cqe& completion = completions_[head & complete_mask_];
    results[completion.user_data] = completion.res;
    store_release(complete_head_, ++head);
    ++collected;
  }
}

}  // namespace arca
