#include "relay/worker.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

namespace arca {
namespace {

// Of ovs-vswitchd, where ovs-ctl starts it.
constexpr int32_t kNiceness = -10;
// A thread that asks for less at a time waits less for its turn (EEVDF). Linux 6.12; before that it
// takes no notice.
constexpr uint64_t kSliceNs = 100'000;

// sched_setattr(2); glibc 2.36 has no wrapper for it.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
};

// The calling thread goes before those whose frames it moves, or they would wait for each other's
// turns. What it may not have, it does without: a higher priority needs CAP_SYS_NICE.
void prefer_this_thread() {
  SchedulingAttributes attributes;
  attributes.nice = kNiceness;
  attributes.runtime = kSliceNs;
  if (::syscall(SYS_sched_setattr, 0, &attributes, 0) == 0) return;
  attributes.nice = 0;
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
    prefer_this_thread();
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
