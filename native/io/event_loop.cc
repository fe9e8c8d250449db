#include "io/event_loop.h"

#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstdlib>

namespace arca {

Result<UniqueFd> EventLoop::make_epoll() {
  UniqueFd fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!fd) return last_error("epoll_create1");
  return fd;
}

Result<UniqueFd> EventLoop::make_wakeup() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return last_error("eventfd");
  return fd;
}

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wakeup, std::chrono::microseconds busy_poll)
    : epoll_(std::move(epoll)), wakeup_(std::move(wakeup)), busy_poll_(busy_poll) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;  // stands for the wake-up
  // Fails only for a bad descriptor or without memory: then nothing can work.
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wakeup_.get(), &event) < 0) std::abort();
}

Status EventLoop::add(int fd, uint32_t events, EventHandler* handler) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = handler;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
    return last_error("epoll_ctl(EPOLL_CTL_ADD)");
  }
  return Done{};
}

Status EventLoop::modify(int fd, uint32_t events, EventHandler* handler) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = handler;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) < 0) {
    return last_error("epoll_ctl(EPOLL_CTL_MOD)");
  }
  return Done{};
}

void EventLoop::remove(int fd, EventHandler* handler) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  for (size_t i = 0; i < event_count_; ++i) {
    if (events_[i].data.ptr == handler) events_[i].events = 0;
  }
}

void EventLoop::run_soon(Runnable* work) {
  if (std::find(work_.begin(), work_.end(), work) == work_.end()) work_.push_back(work);
}

void EventLoop::forget(Runnable* work) {
  std::erase(work_, work);
  std::replace(work_now_.begin(), work_now_.end(), work, static_cast<Runnable*>(nullptr));
}

EventLoop::TimerId EventLoop::schedule(std::chrono::milliseconds delay, Task task) {
  const TimerId timer = next_timer_++;
  timers_.emplace(std::pair(Clock::now() + delay, timer), std::move(task));
  return timer;
}

void EventLoop::cancel(TimerId timer) {
  std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
}

bool EventLoop::post(Task task) { return enqueue(std::move(task), false); }

void EventLoop::stop() {
  enqueue([this] { done_ = true; }, true);
}

// No task may come between the last one and stopping_: it would be taken and never run.
bool EventLoop::enqueue(Task task, bool last) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    stopping_ = last;
    tasks_.push_back(std::move(task));
    if (tasks_.size() > 1) return true;  // a wake-up is under way
  }
  const uint64_t one = 1;
  // EAGAIN: the counter is full, so the loop is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
  return true;
}

void EventLoop::run() {
  while (!done_) {
    dispatch(wait());
    run_timers();
    run_work();
  }
}

// How many events there are, as soon as there are some.
size_t EventLoop::wait() {
  const int timeout_ms = wait_timeout_ms();
  if (timeout_ms != 0 && busy_poll_.count() > 0) {
    if (const size_t count = busy_poll(); count > 0) return count;
  }
  return poll(timeout_ms);
}

size_t EventLoop::poll(int timeout_ms) {
  const int count =
      ::epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), timeout_ms);
  if (count < 0 && errno != EINTR) std::abort();  // EBADF, EFAULT, EINVAL: a fault of ours
  return count < 0 ? 0 : static_cast<size_t>(count);
}

// A timer may be late by as much.
size_t EventLoop::busy_poll() {
  const Clock::time_point until = Clock::now() + busy_poll_;
  do {
    if (const size_t count = poll(0); count > 0) return count;
    // Whoever is to answer may wait for this processor.
    ::sched_yield();
  } while (Clock::now() < until);
  return 0;
}

int EventLoop::wait_timeout_ms() const {
  if (!work_.empty()) return 0;
  if (timers_.empty()) return -1;
  const auto left = timers_.begin()->first.first - Clock::now();
  if (left <= Clock::duration::zero()) return 0;
  // Rounded up: to wake early is to spin.
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
}

void EventLoop::dispatch(size_t count) {
  event_count_ = count;
  bool woken = false;
  for (size_t i = 0; i < count; ++i) {
    const epoll_event event = events_[i];
    if (event.data.ptr == nullptr) {
      woken = true;
    } else if (event.events != 0) {
      static_cast<EventHandler*>(event.data.ptr)->on_events(event.events);
    }
  }
  event_count_ = 0;
  if (woken) run_tasks();
}

void EventLoop::run_tasks() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wakeup_.get(), &count, sizeof count);
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) task();
}

void EventLoop::run_timers() {
  if (timers_.empty()) return;
  const Clock::time_point now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto node = timers_.extract(timers_.begin());
    node.mapped()();
  }
}

void EventLoop::run_work() {
  if (work_.empty()) return;
  work_now_.swap(work_);
  for (Runnable* work : work_now_) {
    if (work != nullptr) work->run_again();
  }
  work_now_.clear();
}

}  // namespace arca
