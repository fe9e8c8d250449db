#include "relay/worker.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

namespace arca {
namespace {

// A thread that asks for less at a time waits less for its turn, and needs no privilege for it
// (EEVDF, Linux 6.12; before that the kernel takes no notice).
constexpr uint64_t kSliceNs = 100'000;

// sched_setattr(2); glibc 2.36 has no wrapper for it.
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;
  uint64_t deadline;
  uint64_t period;
};

// Of the calling thread. Who gave the process another policy (chrt(1)) knows better; niceness
// stays.
void ask_for_short_slices() {
  SchedulingAttributes attributes{};
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;
  attributes.runtime = kSliceNs;
  // Refused by a sandbox at most, and then the slices are the usual ones.
  ::syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::start(std::chrono::microseconds busy_poll) {
  Result<UniqueFd> epoll = EventLoop::make_epoll();
  if (!epoll.ok()) return epoll.error();
  Result<UniqueFd> wakeup = EventLoop::make_wakeup();
  if (!wakeup.ok()) return wakeup.error();
  std::unique_ptr<Worker> worker(
      new Worker(std::move(epoll.value()), std::move(wakeup.value()), busy_poll));

  // Signals are the main thread's business.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  worker->thread_ = std::thread([loop = &worker->loop_] {
    ask_for_short_slices();
    loop->run();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return worker;
}

void Worker::stop() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace arca
