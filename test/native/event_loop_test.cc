#include "io/event_loop.h"

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <future>
#include <memory>
#include <string>
#include <thread>

#include "test_bytes.h"

using namespace arca;
using namespace arca::test;
using namespace std::chrono_literals;

namespace {

constexpr auto kDeadline = 30s;  // of every wait; sanitizers are slow

// A loop on a thread of its own.
class RunningLoop {
 public:
  RunningLoop() : loop_(make_loop()), thread_([this] { run(); }) {}
  ~RunningLoop() { stop(); }

  EventLoop& loop() { return *loop_; }

  // False if the loop did not end in time.
  bool stop() {
    if (!thread_.joinable()) return true;
    loop_->stop();
    const bool ended = ended_.get_future().wait_for(kDeadline) == std::future_status::ready;
    if (ended) {
      thread_.join();
    } else {
      thread_.detach();
    }
    return ended;
  }

  // Runs `task` on the loop's thread and waits for it.
  bool ask(EventLoop::Task task) {
    auto done = std::make_shared<std::promise<void>>();
    if (!loop_->post([task = std::move(task), done] {
          task();
          done->set_value();
        })) {
      return false;
    }
    return done->get_future().wait_for(kDeadline) == std::future_status::ready;
  }

  static std::unique_ptr<EventLoop> make_loop() {
    return std::make_unique<EventLoop>(std::move(EventLoop::make_epoll().value()),
                                       std::move(EventLoop::make_wakeup().value()));
  }

 private:
  void run() {
    loop_->run();
    ended_.set_value();
  }

  std::unique_ptr<EventLoop> loop_;
  std::promise<void> ended_;
  std::thread thread_;
};

UniqueFd ready_fd() { return UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }

class Handler final : public EventHandler {
 public:
  std::function<void(uint32_t)> act = [](uint32_t) {};
  int calls = 0;

  void on_events(uint32_t events) override {
    ++calls;
    act(events);
  }
};

class Work final : public Runnable {
 public:
  std::function<void()> act = [] {};
  int calls = 0;

  void run_again() override {
    ++calls;
    act();
  }
};

}  // namespace

TEST_CASE("EventLoop runs what many threads post, each thread's tasks in order") {
  constexpr int kThreads = 8;
  constexpr int kTasks = 3000;
  RunningLoop running;
  std::array<int, kThreads> next{};
  int disorder = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTasks; ++i) {
        running.loop().post([&, t, i] {
          if (next[t] != i) ++disorder;
          next[t] = i + 1;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(running.stop());
  CHECK(disorder == 0);
  for (const int count : next) CHECK(count == kTasks);
}

TEST_CASE("EventLoop loses no wake-up") {
  RunningLoop running;
  // Each task is posted to a loop that is about to sleep, or already does.
  for (int i = 0; i < 20000; ++i) REQUIRE(running.ask([] {}));
}

TEST_CASE("EventLoop wakes for two threads that post at the same moment") {
  RunningLoop running;
  std::atomic<int> ran{0};
  const auto post_many = [&] {
    for (int i = 0; i < 5000; ++i) {
      std::promise<void> done;
      running.loop().post([&] {
        ran.fetch_add(1);
        done.set_value();
      });
      if (done.get_future().wait_for(kDeadline) != std::future_status::ready) std::abort();
    }
  };
  std::thread other(post_many);
  post_many();
  other.join();
  CHECK(ran.load() == 10000);
}

TEST_CASE("EventLoop runs tasks that a task posts") {
  RunningLoop running;
  std::promise<int> depth;
  std::function<void(int)> descend = [&](int level) {
    if (level == 1000) return depth.set_value(level);
    running.loop().post([&, level] { descend(level + 1); });
  };
  running.loop().post([&] { descend(0); });
  std::future<int> reached = depth.get_future();
  REQUIRE(reached.wait_for(kDeadline) == std::future_status::ready);
  CHECK(reached.get() == 1000);
}

TEST_CASE("EventLoop runs before its end what was posted before stop()") {
  auto loop = RunningLoop::make_loop();
  int ran = 0;
  for (int i = 0; i < 100; ++i) CHECK(loop->post([&] { ++ran; }));
  loop->stop();
  CHECK_FALSE(loop->post([&] { ran += 1000; }));
  loop->run();
  CHECK(ran == 100);
}

TEST_CASE("EventLoop: what post() took has run when run() returns, whenever stop() came") {
  Random random(test_seed());
  for (int round = 0; round < 400; ++round) {
    CAPTURE(round);
    RunningLoop running;
    std::atomic<uint64_t> taken{0};
    uint64_t ran = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (running.loop().post([&] { ++ran; })) taken.fetch_add(1);
      });
    }
    const size_t enough = random.between(0, 200);
    while (taken.load() < enough) std::this_thread::yield();
    REQUIRE(running.stop());
    for (std::thread& thread : threads) thread.join();
    REQUIRE(ran == taken.load());
  }
}

TEST_CASE("EventLoop: stop() twice, and from within a task") {
  RunningLoop running;
  running.loop().post([&] {
    running.loop().stop();
    running.loop().stop();
  });
  CHECK(running.stop());
}

TEST_CASE("EventLoop ends with timers and work pending") {
  RunningLoop running;
  Work work;
  work.act = [&] { running.loop().run_soon(&work); };
  CHECK(running.ask([&] {
    running.loop().schedule(1h, [] { std::abort(); });
    running.loop().run_soon(&work);
  }));
  CHECK(running.stop());
}

TEST_CASE("EventLoop runs timers in the order of their times") {
  RunningLoop running;
  std::string order;
  std::promise<void> last;
  const auto start = EventLoop::Clock::now();
  REQUIRE(running.ask([&] {
    EventLoop& loop = running.loop();
    loop.schedule(30ms, [&] {
      order += 'd';
      last.set_value();
    });
    loop.schedule(10ms, [&] { order += 'b'; });
    loop.schedule(20ms, [&] { order += 'c'; });
    loop.schedule(0ms, [&] { order += 'a'; });
  }));
  REQUIRE(last.get_future().wait_for(kDeadline) == std::future_status::ready);
  CHECK(order == "abcd");
  CHECK(EventLoop::Clock::now() - start >= 30ms);
}

TEST_CASE("EventLoop runs timers of one moment in the order in which they were set") {
  auto loop = RunningLoop::make_loop();
  std::string order;
  for (char name = 'a'; name <= 'e'; ++name) {
    loop->schedule(0ms, [&order, name] { order += name; });
  }
  loop->schedule(1ms, [&] { loop->stop(); });
  loop->run();
  CHECK(order == "abcde");
}

TEST_CASE("EventLoop: a cancelled timer does not run, and cancelling is always safe") {
  auto loop = RunningLoop::make_loop();
  std::string order;
  EventLoop::TimerId own = 0;
  const EventLoop::TimerId victim = loop->schedule(0ms, [&] { order += 'x'; });
  loop->cancel(victim);
  loop->cancel(victim);
  loop->cancel(0);
  EventLoop::TimerId later = 0;
  own = loop->schedule(1ms, [&] {
    order += 'a';
    loop->cancel(own);    // runs at this moment
    loop->cancel(later);  // due, perhaps in this very round
    loop->schedule(0ms, [&] { order += 'b'; });
    loop->schedule(2ms, [&] { loop->stop(); });
  });
  later = loop->schedule(1ms, [&] { order += 'y'; });
  loop->run();
  CHECK(order == "ab");
}

TEST_CASE("EventLoop does not spin while it waits for a timer") {
  auto loop = RunningLoop::make_loop();
  rusage before{};
  rusage after{};
  loop->schedule(0ms, [&] { ::getrusage(RUSAGE_THREAD, &before); });
  loop->schedule(150ms, [&] {
    ::getrusage(RUSAGE_THREAD, &after);
    loop->stop();
  });
  loop->run();
  CHECK(after.ru_nvcsw - before.ru_nvcsw <= 5);
  const auto micros = [](const rusage& usage) {
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
  };
  CHECK(micros(after) - micros(before) < 75000);
}

TEST_CASE("EventLoop: remove() in one handler silences another of the same batch") {
  auto loop = RunningLoop::make_loop();
  const UniqueFd fds[] = {ready_fd(), ready_fd(), ready_fd()};
  std::array<std::unique_ptr<Handler>, 3> handlers;
  int calls = 0;
  for (size_t i = 0; i < 3; ++i) {
    handlers[i] = std::make_unique<Handler>();
    handlers[i]->act = [&, i](uint32_t) {
      ++calls;
      // Whichever comes first takes all, itself included, out of the loop; the others are
      // destroyed, so that AddressSanitizer sees a stale call.
      for (size_t k = 0; k < 3; ++k) loop->remove(fds[k].get(), handlers[k].get());
      for (size_t k = 0; k < 3; ++k) {
        if (k != i) handlers[k].reset();
      }
      loop->schedule(1ms, [&] { loop->stop(); });
    };
    REQUIRE(loop->add(fds[i].get(), EPOLLIN, handlers[i].get()).ok());
  }
  loop->run();
  CHECK(calls == 1);
}

TEST_CASE("EventLoop: a handler that is added during dispatch gets no event of the batch") {
  auto loop = RunningLoop::make_loop();
  const UniqueFd fds[] = {ready_fd(), ready_fd()};
  UniqueFd quiet(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Handler handlers[2];
  Handler fresh;
  for (size_t i = 0; i < 2; ++i) {
    handlers[i].act = [&, i](uint32_t) {
      const size_t victim = 1 - i;
      for (size_t k = 0; k < 2; ++k) loop->remove(fds[k].get(), &handlers[k]);
      // The victim's handler is used anew, for a descriptor that has nothing.
      CHECK(loop->add(quiet.get(), EPOLLIN, &handlers[victim]).ok());
      handlers[victim].act = [](uint32_t) {};
      loop->schedule(1ms, [&] { loop->stop(); });
    };
    REQUIRE(loop->add(fds[i].get(), EPOLLIN, &handlers[i]).ok());
  }
  loop->run();
  CHECK(handlers[0].calls + handlers[1].calls == 1);
}

TEST_CASE("EventLoop: one handler with two descriptors is silenced for both") {
  auto loop = RunningLoop::make_loop();
  const UniqueFd fds[] = {ready_fd(), ready_fd()};
  auto handler = std::make_unique<Handler>();
  int calls = 0;
  handler->act = [&](uint32_t) {
    ++calls;
    for (const UniqueFd& fd : fds) loop->remove(fd.get(), handler.get());
    loop->schedule(1ms, [&] { loop->stop(); });
  };
  for (const UniqueFd& fd : fds) REQUIRE(loop->add(fd.get(), EPOLLIN, handler.get()).ok());
  loop->run();
  CHECK(calls == 1);
}

TEST_CASE("EventLoop tells what add() and modify() could not do") {
  auto loop = RunningLoop::make_loop();
  Handler handler;
  CHECK(loop->add(-1, EPOLLIN, &handler).error().code == EBADF);
  const UniqueFd fd = ready_fd();
  CHECK(loop->modify(fd.get(), EPOLLIN, &handler).error().code == ENOENT);
  CHECK(loop->add(fd.get(), EPOLLIN, &handler).ok());
  CHECK(loop->add(fd.get(), EPOLLIN, &handler).error().code == EEXIST);
  loop->remove(fd.get(), &handler);
  loop->remove(fd.get(), &handler);
}

TEST_CASE("EventLoop gives descriptors, timers and tasks their turn between work") {
  auto loop = RunningLoop::make_loop();
  Work work;
  Handler handler;
  const UniqueFd fd = ready_fd();
  bool timer = false;
  bool task = false;
  work.act = [&] {
    if (timer && task && handler.calls > 0) {
      loop->stop();
    } else {
      loop->run_soon(&work);
    }
  };
  REQUIRE(loop->add(fd.get(), EPOLLIN, &handler).ok());
  loop->schedule(5ms, [&] { timer = true; });
  loop->post([&] { task = true; });
  loop->run_soon(&work);
  loop->run_soon(&work);  // is there already
  loop->run();
  CHECK(work.calls > 1);
}

TEST_CASE("EventLoop: run_soon() and forget() while work runs") {
  auto loop = RunningLoop::make_loop();
  auto first = std::make_unique<Work>();
  auto second = std::make_unique<Work>();
  auto third = std::make_unique<Work>();
  int third_calls = 0;
  int first_calls = 0;
  first->act = [&] {
    if (++first_calls == 2) {
      // Forgets itself and its own next turn, and is gone.
      loop->run_soon(first.get());
      loop->forget(first.get());
      loop->schedule(1ms, [&] { loop->stop(); });
      return;
    }
    loop->forget(second.get());
    second.reset();
    loop->run_soon(first.get());
  };
  third->act = [&] {
    ++third_calls;
    loop->forget(third.get());
  };
  for (Work* work : {first.get(), second.get(), third.get()}) loop->run_soon(work);
  loop->run();
  CHECK(first_calls == 2);
  CHECK(third_calls == 1);
}

TEST_CASE("EventLoop: work that was forgotten and asked for again runs once") {
  auto loop = RunningLoop::make_loop();
  Work work;
  loop->run_soon(&work);
  loop->forget(&work);
  loop->forget(&work);
  loop->run_soon(&work);
  loop->schedule(2ms, [&] { loop->stop(); });
  loop->run();
  CHECK(work.calls == 1);
}

TEST_CASE("EventLoop: one that polls busily takes events, tasks and timers, and ends") {
  EventLoop loop(std::move(EventLoop::make_epoll().value()),
                 std::move(EventLoop::make_wakeup().value()), 500us);
  const UniqueFd fd = ready_fd();
  Handler handler;
  std::vector<int> seen;
  handler.act = [&](uint32_t) {
    loop.remove(fd.get(), &handler);
    seen.push_back(1);
    // Longer than it polls: it has to sleep, and to wake.
    loop.schedule(5ms, [&] {
      seen.push_back(2);
      loop.post([&] {
        seen.push_back(3);
        loop.stop();
      });
    });
  };
  REQUIRE(loop.add(fd.get(), EPOLLIN, &handler).ok());
  loop.run();
  CHECK(seen == std::vector<int>{1, 2, 3});
}
