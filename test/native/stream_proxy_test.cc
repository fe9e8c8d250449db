// A proxy with real Unix sockets on both sides and its own thread.
#include "proxy/stream_proxy.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "net.h"

using namespace arca;
using namespace arca::test;

namespace {

constexpr size_t kMebibyte = 1024 * 1024;

// What a proxy told, as lines, in order.
class RefusalLog final : public StreamProxyObserver {
 public:
  // Empty after the deadline.
  std::string next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kDeadline, [this] { return !lines_.empty(); })) return "";
    std::string line = std::move(lines_.front());
    lines_.pop_front();
    return line;
  }
  bool empty() {
    const std::lock_guard lock(mutex_);
    return lines_.empty();
  }

  void on_refused(ProxyRefusal refusal, const Peer& peer, const Error& error,
                  uint64_t count) override {
    CHECK(peer.transport == Transport::kUnix);
    CHECK(peer.pid == ::getpid());
    add(std::string(refusal_word(refusal)) + (error.code == 0 ? "" : " " + error_name(error.code)),
        count);
  }
  void on_accept_failed(const Error& error, uint64_t count) override {
    add("accept-failed " + error_name(error.code), count);
  }

 private:
  void add(const std::string& line, uint64_t count) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(line + " x" + std::to_string(count));
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> lines_;
};

// A proxy between the Unix sockets `in` and `out` of a directory, and the target's end.
struct ProxyBench {
  explicit ProxyBench(size_t most_connections = 64) {
    StreamProxyOptions options;
    options.listen = {.transport = Transport::kUnix, .path = scratch / "in"};
    options.target_path = scratch / "out";
    options.most_connections = most_connections;
    Result<std::unique_ptr<StreamProxy>> started = StreamProxy::start(options, log);
    REQUIRE(started.ok());
    proxy = std::move(started.value());
  }

  UniqueFd call() { return connect_to(scratch / "in"); }
  UniqueFd answer() {
    if (!wait_for(target.get(), POLLIN)) return {};
    return UniqueFd(::accept4(target.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  uint64_t refused(ProxyRefusal refusal) const {
    return proxy->counters().refused[static_cast<size_t>(refusal)].load();
  }
  bool comes_to_rest(uint64_t open = 0) {
    return eventually([&] { return proxy->counters().open.load() == open; });
  }

  ScratchDirectory scratch;
  RefusalLog log;
  UniqueFd target = listen_at(scratch / "out");
  std::unique_ptr<StreamProxy> proxy;
};

bool send_all(const UniqueFd& fd, const ByteVector& bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t size = ::send(fd.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (size < 0) return false;
    at += static_cast<size_t>(size);
  }
  return true;
}

// Up to `size` bytes; fewer when the stream ended or the deadline passed.
ByteVector receive(const UniqueFd& fd, size_t size) {
  ByteVector bytes(size);
  size_t at = 0;
  while (at < size && wait_for(fd.get(), POLLIN)) {
    const ssize_t got = ::recv(fd.get(), bytes.data() + at, size - at, 0);
    if (got <= 0) break;
    at += static_cast<size_t>(got);
  }
  bytes.resize(at);
  return bytes;
}

bool is_at_end(const UniqueFd& fd) {
  uint8_t byte = 0;
  return wait_for(fd.get(), POLLIN) && ::recv(fd.get(), &byte, 1, 0) == 0;
}

ByteVector text(const std::string& words) { return {words.begin(), words.end()}; }

// CPU time of this process, milliseconds.
int64_t cpu_ms() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto ms = [](const timeval& time) { return time.tv_sec * 1000 + time.tv_usec / 1000; };
  return ms(usage.ru_utime) + ms(usage.ru_stime);
}

}  // namespace

TEST_CASE("StreamProxy: both ways, and each end in its turn") {
  ProxyBench bench;
  UniqueFd caller = bench.call();
  UniqueFd target = bench.answer();
  REQUIRE(send_all(caller, text("ask")));
  CHECK(receive(target, 3) == text("ask"));
  // The caller has no more to say; the target still has.
  REQUIRE(::shutdown(caller.get(), SHUT_WR) == 0);
  CHECK(is_at_end(target));
  REQUIRE(send_all(target, text("answer")));
  CHECK(receive(caller, 6) == text("answer"));
  CHECK(bench.proxy->counters().open.load() == 1);
  target.reset();
  CHECK(is_at_end(caller));
  CHECK(bench.comes_to_rest());
  CHECK(bench.proxy->counters().accepted.load() == 1);
  CHECK(bench.proxy->counters().bytes_to_target.load() == 3);
  CHECK(bench.proxy->counters().bytes_from_target.load() == 6);
  CHECK(bench.log.empty());
}

TEST_CASE("StreamProxy: what was sent before a close arrives") {
  ProxyBench bench;
  const ByteVector bytes = make_frame(kMebibyte / 2);
  SUBCASE("of the caller") {
    UniqueFd caller = bench.call();
    UniqueFd target = bench.answer();
    std::thread sender([&] {
      send_all(caller, bytes);
      caller.reset();
    });
    CHECK(receive(target, bytes.size()) == bytes);
    CHECK(is_at_end(target));
    sender.join();
  }
  SUBCASE("of the target") {
    UniqueFd caller = bench.call();
    UniqueFd target = bench.answer();
    std::thread sender([&] {
      send_all(target, bytes);
      target.reset();
    });
    CHECK(receive(caller, bytes.size()) == bytes);
    CHECK(is_at_end(caller));
    sender.join();
  }
  CHECK(bench.comes_to_rest());
}

TEST_CASE("StreamProxy: a caller that is gone takes its connection to the target along") {
  ProxyBench bench;
  UniqueFd caller = bench.call();
  UniqueFd target = bench.answer();
  caller.reset();
  CHECK(is_at_end(target));
  // Nothing of it was said to be half a close: what it is sent now goes nowhere.
  CHECK(bench.comes_to_rest());
  CHECK_FALSE(send_all(target, ByteVector(1)));
}

TEST_CASE("StreamProxy: who does not read any more is told to who writes") {
  ProxyBench bench;
  UniqueFd caller = bench.call();
  UniqueFd target = bench.answer();
  REQUIRE(::shutdown(target.get(), SHUT_RD) == 0);
  CHECK(eventually([&] { return !send_all(caller, ByteVector(1000)); }));
  // The other way goes on.
  REQUIRE(send_all(target, text("answer")));
  CHECK(receive(caller, 6) == text("answer"));
  CHECK(bench.proxy->counters().open.load() == 1);
}

TEST_CASE("StreamProxy: a reader that is slow slows its writer, and nobody else") {
  ProxyBench bench;
  UniqueFd caller = bench.call();
  UniqueFd target = bench.answer();
  const int flags = ::fcntl(caller.get(), F_GETFL);
  REQUIRE(::fcntl(caller.get(), F_SETFL, flags | O_NONBLOCK) == 0);
  const ByteVector bytes = make_frame(64 * 1024);
  size_t taken = 0;
  const auto fill = [&] {
    for (;;) {
      const ssize_t size = ::send(caller.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size < 0) return;
      taken += static_cast<size_t>(size);
    }
  };
  // It is full when it takes no more for a while.
  size_t before = 0;
  do {
    before = taken;
    fill();
    ::poll(nullptr, 0, 50);
  } while (taken != before);
  CHECK(taken < 8 * kMebibyte);

  const int64_t cpu_before = cpu_ms();
  ::poll(nullptr, 0, 200);
  CHECK(cpu_ms() - cpu_before < 100);  // and it does not spin meanwhile

  UniqueFd other_caller = bench.call();
  UniqueFd other_target = bench.answer();
  REQUIRE(send_all(other_caller, text("ask")));
  CHECK(receive(other_target, 3) == text("ask"));

  // The slow one loses nothing, and its writer may go on.
  CHECK(receive(target, taken).size() == taken);
  CHECK(wait_for(caller.get(), POLLOUT));
}

TEST_CASE("StreamProxy does not spin on a side that hung up while the other does not read") {
  ProxyBench bench;
  UniqueFd caller = bench.call();
  UniqueFd target = bench.answer();
  const int flags = ::fcntl(target.get(), F_GETFL);
  REQUIRE(::fcntl(target.get(), F_SETFL, flags | O_NONBLOCK) == 0);
  const ByteVector bytes(64 * 1024);
  size_t taken = 0;
  const auto grows = [&] {
    const size_t before = taken;
    ssize_t size = 0;
    while ((size = ::send(target.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL)) > 0) {
      taken += static_cast<size_t>(size);
    }
    ::poll(nullptr, 0, 50);
    return taken != before;
  };
  while (grows()) {
  }
  target.reset();
  const int64_t cpu_before = cpu_ms();
  ::poll(nullptr, 0, 300);
  CHECK(cpu_ms() - cpu_before < 150);
  CHECK(bench.proxy->counters().open.load() == 1);
  CHECK(receive(caller, taken).size() == taken);
  CHECK(is_at_end(caller));
  CHECK(bench.comes_to_rest());
}

TEST_CASE("StreamProxy: callers beyond the limit are refused, and counted") {
  ProxyBench bench(2);
  UniqueFd callers[] = {bench.call(), bench.call()};
  UniqueFd targets[] = {bench.answer(), bench.answer()};
  REQUIRE(bench.comes_to_rest(2));
  for (int i = 0; i < 3; ++i) {
    UniqueFd refused = bench.call();
    REQUIRE(refused);
    CHECK(is_at_end(refused));
  }
  CHECK(bench.refused(ProxyRefusal::kBusy) == 3);
  CHECK(bench.log.next() == "busy x1");
  CHECK(bench.log.next() == "busy x2");  // a second later, together
  callers[0].reset();
  REQUIRE(bench.comes_to_rest(1));
  UniqueFd next = bench.call();
  UniqueFd next_target = bench.answer();
  REQUIRE(send_all(next, text("ask")));
  CHECK(receive(next_target, 3) == text("ask"));
}

TEST_CASE("StreamProxy: without a target callers are refused, and served when it is back") {
  ProxyBench bench;
  bench.target.reset();
  UniqueFd refused = bench.call();
  CHECK(is_at_end(refused));
  CHECK(bench.log.next() == "target-unreachable ECONNREFUSED x1");
  REQUIRE(::unlink((bench.scratch / "out").c_str()) == 0);
  refused = bench.call();
  CHECK(is_at_end(refused));
  CHECK(bench.log.next() == "target-unreachable ENOENT x1");
  CHECK(bench.refused(ProxyRefusal::kTargetUnreachable) == 2);
  bench.target = listen_at(bench.scratch / "out");
  UniqueFd caller = bench.call();
  UniqueFd target = bench.answer();
  REQUIRE(send_all(caller, text("ask")));
  CHECK(receive(target, 3) == text("ask"));
}

TEST_CASE("StreamProxy: of vsock, only the CIDs that are named may call") {
  const Peer vsock{.transport = Transport::kVsock, .cid = 3, .port = 1000, .pid = 0};
  CHECK(may_call(vsock, {3}));
  CHECK(may_call(vsock, {2, 3}));
  CHECK_FALSE(may_call(vsock, {2}));
  CHECK_FALSE(may_call(vsock, {}));
  CHECK(may_call({.transport = Transport::kUnix, .cid = 0, .port = 0, .pid = 7}, {}));
}

TEST_CASE("StreamProxy: a flood that is refused is told once a second") {
  ProxyBench bench(1);
  UniqueFd caller = bench.call();
  UniqueFd target = bench.answer();
  REQUIRE(bench.comes_to_rest(1));
  for (int i = 0; i < 200; ++i) REQUIRE(bench.call());
  REQUIRE(eventually([&] { return bench.refused(ProxyRefusal::kBusy) == 200; }));
  CHECK(bench.log.next() == "busy x1");
  CHECK(bench.log.next() == "busy x199");
  CHECK(bench.log.empty());
}

TEST_CASE("StreamProxy waits for descriptors, says so, and does not spin") {
  ProxyBench bench;
  UniqueFd warm_up = bench.call();  // whatever is made once is made
  UniqueFd warm_target = bench.answer();
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  UniqueFd caller(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::vector<UniqueFd> fillers;
  rlimit low = before;
  low.rlim_cur = count_descriptors() + 8;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  for (;;) {
    UniqueFd filler(::dup(caller.get()));
    if (!filler) break;
    fillers.push_back(std::move(filler));
  }
  const sockaddr_un address = unix_address(bench.scratch / "in");
  REQUIRE(::connect(caller.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
          0);
  const std::string told = bench.log.next();
  const int64_t cpu_before = cpu_ms();
  ::poll(nullptr, 0, 200);
  const int64_t cpu = cpu_ms() - cpu_before;
  fillers.clear();
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(told == "accept-failed EMFILE x1");
  CHECK(cpu < 100);
  UniqueFd target = bench.answer();
  REQUIRE(send_all(caller, text("ask")));
  CHECK(receive(target, 3) == text("ask"));
}

TEST_CASE("StreamProxy: stop closes everything, and the address is free at once") {
  const size_t descriptors = count_descriptors();
  const size_t threads = count_threads();
  {
    ProxyBench bench;
    std::vector<UniqueFd> callers;
    std::vector<UniqueFd> targets;
    for (int i = 0; i < 10; ++i) {
      callers.push_back(bench.call());
      targets.push_back(bench.answer());
    }
    // One of them in the middle of something that its reader does not take.
    const int flags = ::fcntl(callers[0].get(), F_GETFL);
    REQUIRE(::fcntl(callers[0].get(), F_SETFL, flags | O_NONBLOCK) == 0);
    const ByteVector bytes(kMebibyte);
    while (::send(callers[0].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
    }
    bench.proxy->stop();
    bench.proxy->stop();
    CHECK(bench.proxy->counters().open.load() == 0);
    for (int i = 1; i < 10; ++i) {
      CHECK(is_at_end(callers[static_cast<size_t>(i)]));
      CHECK(is_at_end(targets[static_cast<size_t>(i)]));
    }
    CHECK_FALSE(exists(bench.scratch / "in"));
    CHECK_FALSE(bench.call());
    Result<Listener> next =
        Listener::open({.transport = Transport::kUnix, .path = bench.scratch / "in"});
    CHECK(next.ok());
  }
  CHECK(count_descriptors() == descriptors);
  CHECK(eventually([&] { return count_threads() == threads; }));
}

TEST_CASE("StreamProxy: an address in use is refused, and nothing is left") {
  ProxyBench bench;
  const size_t descriptors = count_descriptors();
  const size_t threads = count_threads();
  StreamProxyOptions options;
  options.listen = {.transport = Transport::kUnix, .path = bench.scratch / "in"};
  options.target_path = bench.scratch / "out";
  Result<std::unique_ptr<StreamProxy>> second = StreamProxy::start(options, bench.log);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().code == EADDRINUSE);
  CHECK(count_descriptors() == descriptors);
  CHECK(count_threads() == threads);
}

TEST_CASE("StreamProxy: callers that come and go at random leave nothing behind") {
  ProxyBench bench;
  {  // what is made once is made
    UniqueFd caller = bench.call();
    UniqueFd target = bench.answer();
  }
  REQUIRE(eventually([&] { return bench.proxy->counters().accepted.load() == 1; }));
  REQUIRE(bench.comes_to_rest());
  const size_t descriptors = count_descriptors();
  std::thread echo([&] {
    for (int i = 0; i < 200; ++i) {
      UniqueFd target = bench.answer();
      if (i % 3 == 0) continue;  // hangs up at once
      const ByteVector bytes = receive(target, 100);
      if (i % 3 == 1) send_all(target, bytes);
    }
  });
  for (int i = 0; i < 200; ++i) {
    UniqueFd caller = bench.call();
    if (i % 5 == 0) continue;
    send_all(caller, ByteVector(100, static_cast<uint8_t>(i)));
    if (i % 5 == 1) continue;
    const ByteVector echoed = receive(caller, 100);
    const bool is_whole = echoed.empty() || echoed == ByteVector(100, static_cast<uint8_t>(i));
    CHECK(is_whole);
  }
  echo.join();
  CHECK(bench.comes_to_rest());
  CHECK(count_descriptors() == descriptors);
  CHECK(bench.proxy->counters().accepted.load() == 201);
}
