// A thread with an event loop and the burst buffer that its pumps share.
#pragma once

#include <memory>
#include <thread>

#include "io/event_loop.h"
#include "relay/burst_buffer.h"

namespace arca {

class Worker {
 public:
  static Result<std::unique_ptr<Worker>> start(std::chrono::microseconds busy_poll);
  ~Worker() { stop(); }

  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Stops the loop and joins the thread. Not from that thread. Twice is fine.
  void stop();

  EventLoop& loop() { return loop_; }
  BurstBuffer& buffer() { return buffer_; }

 private:
  Worker(UniqueFd epoll, UniqueFd wakeup, std::chrono::microseconds busy_poll)
      : loop_(std::move(epoll), std::move(wakeup), busy_poll) {}

  EventLoop loop_;
  BurstBuffer buffer_;
  std::thread thread_;
};

}  // namespace arca
