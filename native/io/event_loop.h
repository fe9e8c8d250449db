// One thread's epoll loop: descriptors, tasks from other threads, and timers.
//
// All of a loop's state belongs to its thread. Only post() and stop() may be called from others.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "io/result.h"
#include "io/unique_fd.h"

namespace arca {

// Told on the loop's thread. Not called any more once its descriptor was removed, also not for
// events that were already collected.
class EventHandler {
 public:
  virtual void on_events(uint32_t events) = 0;

 protected:
  ~EventHandler() = default;
};

// Work that did not end in its turn: run again when every other descriptor had one.
class Runnable {
 public:
  virtual void run_again() = 0;

 protected:
  ~Runnable() = default;
};

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Task = std::function<void()>;
  using TimerId = uint64_t;

  static Result<UniqueFd> make_epoll();
  static Result<UniqueFd> make_wakeup();

  // Descriptors from make_epoll() and make_wakeup().
  // Before it sleeps, the loop asks for events for `busy_poll`: less latency, more processor time.
  EventLoop(UniqueFd epoll, UniqueFd wakeup, std::chrono::microseconds busy_poll = {});

  Status add(int fd, uint32_t events, EventHandler* handler);
  Status modify(int fd, uint32_t events, EventHandler* handler);
  void remove(int fd, EventHandler* handler);

  void run_soon(Runnable* work);
  void forget(Runnable* work);

  TimerId schedule(std::chrono::milliseconds delay, Task task);
  void cancel(TimerId timer);

  // Any thread. The task runs on the loop's thread; after stop() it never runs, and false says so.
  bool post(Task task);
  // Any thread. run() returns when the tasks posted before this have run.
  void stop();

  void run();

 private:
  static constexpr size_t kMostEvents = 64;

  bool enqueue(Task task, bool last);
  size_t wait();
  size_t poll(int timeout_ms);
  size_t busy_poll();
  int wait_timeout_ms() const;
  void dispatch(size_t count);
  void run_tasks();
  void run_timers();
  void run_work();

  UniqueFd epoll_;
  UniqueFd wakeup_;
  const std::chrono::microseconds busy_poll_;
  std::array<epoll_event, kMostEvents> events_{};
  size_t event_count_ = 0;
  std::vector<Runnable*> work_;
  std::vector<Runnable*> work_now_;
  std::map<std::pair<Clock::time_point, TimerId>, Task> timers_;
  TimerId next_timer_ = 1;

  std::mutex mutex_;
  std::vector<Task> tasks_;  // under mutex_
  bool stopping_ = false;    // under mutex_
  bool done_ = false;
};

}  // namespace arca
