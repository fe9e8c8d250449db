// Relays with real TAPs, Unix sockets and worker threads, in network namespaces of their own.
#include "relay/relay.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "net.h"
#include "record/control.h"
#include "test_bytes.h"

using namespace arca;
using namespace arca::test;

namespace {

// What a relay told, as lines, in order.
class EventLog final : public RelayObserver {
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
  // Skips what comes before `line`.
  bool wait_for_line(const std::string& line) {
    for (;;) {
      const std::string told = next();
      if (told == line) return true;
      if (told.empty()) return false;
    }
  }
  Hello hello() {
    const std::lock_guard lock(mutex_);
    return hello_;
  }
  Agreement agreement() {
    const std::lock_guard lock(mutex_);
    return agreement_;
  }
  int hello_count() {
    const std::lock_guard lock(mutex_);
    return hello_count_;
  }
  // HELLOs are counted, and told as lines up to so many.
  void tell_hellos(int most) { most_hellos_ = most; }

  void on_peer_connected(const Peer&, const Agreement& agreement) override {
    const std::lock_guard lock(mutex_);
    agreement_ = agreement;
    add(agreement.plain ? "connected plain" : "connected arca");
  }
  void on_hello(const Peer&, const Hello& hello, const Agreement& agreement) override {
    const std::lock_guard lock(mutex_);
    hello_ = hello;
    agreement_ = agreement;
    if (++hello_count_ <= most_hellos_) add("hello");
  }
  void on_peer_gone(const Peer&, const LinkEnd& end) override {
    const std::lock_guard lock(mutex_);
    add(std::string("gone ") + link_end_word(end.kind) +
        (end.detail.empty() ? "" : ": " + end.detail));
  }
  void on_peer_refused(const Peer&, Refusal refusal) override {
    const std::lock_guard lock(mutex_);
    add(std::string("refused ") + refusal_word(refusal));
  }
  void on_dial_failed(const Error& error) override {
    const std::lock_guard lock(mutex_);
    add("dial-failed " + error_name(error.code));
  }
  void on_tap_lost(int error) override {
    const std::lock_guard lock(mutex_);
    add("tap-lost " + error_name(error));
  }

 private:
  void add(std::string line) {
    lines_.push_back(std::move(line));
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> lines_;
  Hello hello_;
  Agreement agreement_;
  int hello_count_ = 0;
  int most_hellos_ = 1000;
};

RelayOptions default_options() {
  RelayOptions options;
  options.link.hello.largest_record = kLargestRecordPayload;
  return options;
}

// A relay with a TAP of its own, as arca-relay makes it.
class TestRelay {
 public:
  TestRelay(Engine& engine, const std::string& tap, const RelayOptions& options = default_options())
      : tap_(tap) {
    Result<TapInterface> made = TapInterface::create(tap);
    REQUIRE(made.ok());
    const auto mtu = static_cast<uint32_t>(options.link.mtu);
    REQUIRE(bring_up_silent(made.value(), mtu).ok());
    relay_.emplace(engine, std::move(made.value()), options, events);
  }
  ~TestRelay() { close(); }

  Relay* operator->() { return &*relay_; }
  const std::string& tap() const { return tap_; }

  Status listen(const std::string& path) {
    return relay_->listen({.transport = Transport::kUnix, .path = path});
  }
  Status dial(const std::string& path) {
    return relay_->dial({.transport = Transport::kUnix, .path = path});
  }

  // False if it did not close in time.
  bool close() {
    if (!relay_) return true;
    struct Closed {
      std::mutex mutex;
      std::condition_variable changed;
      bool done = false;
    };
    const auto closed = std::make_shared<Closed>();
    relay_->close([closed] {
      const std::lock_guard lock(closed->mutex);
      closed->done = true;
      closed->changed.notify_all();
    });
    std::unique_lock lock(closed->mutex);
    if (!closed->changed.wait_for(lock, kDeadline, [&] { return closed->done; })) {
      std::abort();  // the relay can't be destroyed under its threads
    }
    relay_.reset();
    return true;
  }
  // After the engine stopped.
  void drop() { relay_.reset(); }

  EventLog events;

 private:
  std::string tap_;
  std::optional<Relay> relay_;
};

std::unique_ptr<Engine> start_engine(size_t workers) {
  return std::move(Engine::start({.worker_count = workers, .busy_poll = {}}).value());
}

// A frame that no stack takes for its own, told from others by `number`.
ByteVector test_frame(uint32_t number, size_t size = 100) {
  ByteVector frame = make_frame(std::max(size, size_t{18}), static_cast<uint8_t>(number));
  frame[12] = 0x88;
  frame[13] = 0xB6;  // IEEE 802 local experimental 2
  store_be32(frame.data() + 14, number);
  return frame;
}

ByteVector hello_of(Hello hello) {
  if (hello.nonce == 0) hello.nonce = 0x1122334455667788;
  return encode_hello(hello);
}

ByteVector ping_of(uint64_t cookie) {
  return encode_control({.ping = cookie, .pong = {}, .goodbye = {}});
}

// The peer's next record that is no HELLO of the relay's.
PeerRecord next_record(ScriptedPeer& peer) {
  for (;;) {
    PeerRecord record = peer.receive();
    if (record.type != 0 || !is_hello_frame(record.payload)) return record;
  }
}

const std::vector<size_t> kWorkerCounts = {1, 2, 3};

struct ThreadUse {
  std::chrono::nanoseconds cpu{0};
  long switches = 0;
};

// What the workers of an engine used so far.
ThreadUse use_of(const std::vector<Worker*>& workers) {
  std::mutex mutex;
  std::condition_variable changed;
  size_t answers = 0;
  ThreadUse use;
  for (Worker* worker : workers) {
    worker->loop().post([&] {
      rusage usage{};
      ::getrusage(RUSAGE_THREAD, &usage);
      timespec cpu{};
      ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
      const std::lock_guard lock(mutex);
      use.cpu += std::chrono::seconds(cpu.tv_sec) + std::chrono::nanoseconds(cpu.tv_nsec);
      use.switches += usage.ru_nvcsw;
      ++answers;
      changed.notify_all();
    });
  }
  std::unique_lock lock(mutex);
  REQUIRE(changed.wait_for(lock, kDeadline, [&] { return answers == workers.size(); }));
  return use;
}

}  // namespace

TEST_CASE("Relay: frames cross both ways, byte for byte, and the carrier follows the peer" *
          needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    RelayOptions options = default_options();
    options.link.mtu = options.link.receive_mtu = 9000;
    TestRelay relay(*engine, "tap0", options);
    const PacketSocket host("tap0");
    CHECK_FALSE(has_carrier("tap0"));
    REQUIRE(relay.listen(scratch / "s").ok());
    CHECK_FALSE(has_carrier("tap0"));

    ScriptedPeer peer(scratch / "s");
    REQUIRE(peer.connected());
    REQUIRE(eventually([] { return has_carrier("tap0"); }));
    const PeerRecord first = peer.receive();
    CHECK(first.type == 0);
    CHECK(is_hello_frame(first.payload));

    for (const size_t size : {14, 15, 60, 1514, 9014}) {
      CAPTURE(size);
      const ByteVector frame = make_frame(size, 3);
      REQUIRE(peer.send(RecordType::kFrame, frame));
      CHECK(host.receive() == frame);
      REQUIRE(host.send(frame));
      CHECK(next_record(peer) == PeerRecord{0, frame});
    }
    CHECK(relay.events.next() == "connected plain");
    CHECK(relay->counters().peer_up.load());
    peer.hang_up();
    CHECK(relay.events.next() == "gone end-of-stream");
    CHECK(eventually([] { return !has_carrier("tap0"); }));
    CHECK(eventually([&] { return !relay->counters().peer_up.load(); }));
    CHECK(relay->counters().peers_connected.get() == 1);
    CHECK(relay->counters().tap_to_stream.frames.get() == 5);
    CHECK(relay->counters().stream_to_tap.frames.get() == 5);
    CHECK(relay.close());
    CHECK_FALSE(has_interface("tap0"));
    CHECK_FALSE(exists(scratch / "s"));
  }
}

TEST_CASE("Relay: a peer that says nothing is known as plain all the same" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  REQUIRE(relay.listen(scratch / "s").ok());
  const ScriptedPeer peer(scratch / "s");
  CHECK(relay.events.next() == "connected plain");
}

TEST_CASE("Relay: a second peer is refused, and the first notices nothing" * needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    TestRelay relay(*engine, "tap0");
    const PacketSocket host("tap0");
    REQUIRE(relay.listen(scratch / "s").ok());
    ScriptedPeer first(scratch / "s");
    REQUIRE(first.send(RecordType::kFrame, test_frame(1)));
    CHECK(relay.events.next() == "connected plain");
    ScriptedPeer second(scratch / "s");
    CHECK(second.is_over());
    CHECK(relay.events.next() == "refused busy");
    REQUIRE(first.send(RecordType::kFrame, test_frame(2)));
    CHECK(host.receive() == test_frame(1));
    CHECK(host.receive() == test_frame(2));
    CHECK(relay->counters().refused_busy.get() == 1);
    CHECK(relay->counters().peers_connected.get() == 1);
    first.hang_up();
    CHECK(relay.events.next().substr(0, 5) == "gone ");
    ScriptedPeer third(scratch / "s");
    REQUIRE(third.send(RecordType::kFrame, test_frame(3)));
    CHECK(relay.events.next() == "connected plain");
    CHECK(host.receive() == test_frame(3));
  }
}

TEST_CASE("Relay: a second peer replaces the first, if that is the policy" * needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    RelayOptions options = default_options();
    options.replace_second_peer = true;
    TestRelay relay(*engine, "tap0", options);
    const PacketSocket host("tap0");
    REQUIRE(relay.listen(scratch / "s").ok());
    ScriptedPeer first(scratch / "s");
    REQUIRE(first.send(RecordType::kFrame, hello_of({})));
    CHECK(relay.events.next() == "connected arca");
    CHECK(relay.events.next() == "hello");
    ScriptedPeer second(scratch / "s");
    REQUIRE(second.send(RecordType::kFrame, test_frame(2)));
    CHECK(relay.events.next() == "gone replaced: by another peer");
    CHECK(relay.events.next() == "connected plain");
    CHECK(host.receive() == test_frame(2));
    CHECK(has_carrier("tap0"));
    const PeerRecord goodbye = next_record(first);
    CHECK(goodbye.type == 2);
    CHECK(decode_control(goodbye.payload)->goodbye->reason == GoodbyeReason::kReplaced);
    CHECK(first.is_over());
    CHECK(relay->counters().peers_connected.get() == 2);
  }
}

TEST_CASE("Relay: of many peers that replace each other the last one stays" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  RelayOptions options = default_options();
  options.replace_second_peer = true;
  TestRelay relay(*engine, "tap0", options);
  const PacketSocket host("tap0");
  REQUIRE(relay.listen(scratch / "s").ok());
  std::vector<std::unique_ptr<ScriptedPeer>> peers;
  for (int i = 0; i < 50; ++i) peers.push_back(std::make_unique<ScriptedPeer>(scratch / "s"));
  for (size_t i = 0; i + 1 < peers.size(); ++i) {
    while (peers[i]->receive().type >= 0) {
    }
  }
  REQUIRE(peers.back()->send(RecordType::kFrame, test_frame(7)));
  CHECK(host.receive() == test_frame(7));
  // For each that was told as connected, that it is gone; and nobody but the last one is left.
  int connected = 0;
  int gone = 0;
  while (connected < gone + 1 || !relay.events.empty()) {
    const std::string line = relay.events.next();
    REQUIRE_FALSE(line.empty());
    if (line == "connected plain") {
      CHECK(connected == gone);
      ++connected;
    } else {
      CHECK(line == "gone replaced: by another peer");
      ++gone;
    }
  }
  CHECK(relay->counters().peers_connected.get() == static_cast<uint64_t>(connected));
}

TEST_CASE("Relay: offloads that one peer agreed to do not outlive its link" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  RelayOptions options = default_options();
  options.replace_second_peer = true;
  options.link.offloads = kOffloadChecksum | kOffloadTso4;
  TestRelay relay(*engine, "tap0", options);
  REQUIRE(relay.listen(scratch / "s").ok());
  const auto offload = [] {
    ethtool_value value{.cmd = ETHTOOL_GTSO, .data = 0};
    ifreq request = request_for("tap0");
    request.ifr_data = reinterpret_cast<char*>(&value);
    REQUIRE(ask_interface(SIOCETHTOOL, request));
    return value.data != 0;
  };
  CHECK_FALSE(offload());
  ScriptedPeer first(scratch / "s");
  REQUIRE(first.send(RecordType::kFrame, hello_of({.accepts = kOffloadChecksum | kOffloadTso4})));
  CHECK(relay.events.next() == "connected arca");
  CHECK(relay.events.next() == "hello");
  CHECK(offload());
  SUBCASE("when it goes") {
    first.hang_up();
    CHECK(relay.events.next().substr(0, 5) == "gone ");
    CHECK(eventually([&] { return !offload(); }));
  }
  SUBCASE("when a plain peer replaces it") {
    ScriptedPeer second(scratch / "s");
    REQUIRE(second.send(RecordType::kFrame, test_frame(1)));
    CHECK(relay.events.next() == "gone replaced: by another peer");
    CHECK(relay.events.next() == "connected plain");
    CHECK_FALSE(offload());
  }
}

TEST_CASE("Relay: 500 flaps leave nothing" * needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    TestRelay relay(*engine, "tap0");
    REQUIRE(relay.listen(scratch / "s").ok());
    const auto flap = [&](int i) {
      ScriptedPeer peer(scratch / "s");
      REQUIRE(peer.connected());
      if (i % 3 == 0) REQUIRE(peer.send(RecordType::kFrame, test_frame(1)));
      if (i % 3 == 1) REQUIRE(peer.send({0, 0, 1, 0, 7, 7}));
      peer.hang_up();
      REQUIRE(relay.events.next() == "connected plain");
      const std::string gone = relay.events.next();
      // A peer that leaves unread what we sent resets.
      const bool known = gone == "gone end-of-stream" || gone == "gone reset: ECONNRESET" ||
                         gone == "gone reset: EPIPE" ||
                         gone == "gone end-of-stream: inside a record";
      CAPTURE(gone);
      REQUIRE(known);
      REQUIRE(eventually([&] { return !relay->counters().peer_up.load(); }));
    };
    for (int i = 0; i < 20; ++i) flap(i);
    const size_t descriptors = count_descriptors();
    const size_t memory = allocated_bytes();
    for (int i = 0; i < 500; ++i) flap(i);
    CHECK(count_descriptors() == descriptors);
    CHECK(allocated_bytes() <= memory + 64 * 1024);
    CHECK_FALSE(has_carrier("tap0"));
    CHECK(relay->counters().peers_connected.get() == 520);
  }
}

TEST_CASE("Relay: a breach ends the link with its reason, and the next peer is served" *
          needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  const PacketSocket host("tap0");
  REQUIRE(relay.listen(scratch / "s").ok());
  struct {
    Breach breach;
    ByteVector bytes;
  } const cases[] = {
      {Breach::kUnknownType, {9, 0, 0, 14}},
      {Breach::kTooShort, {0, 0, 0, 0}},
      {Breach::kTooShort, {0, 0, 0, 13}},
      {Breach::kTooLong, {0, 0xFF, 0xFF, 0xFF}},
      {Breach::kMalformedControl, make_record(RecordType::kControl, {0, 1, 0, 200})},
      {Breach::kOffloadNotAgreed,
       [] {
         ByteVector payload{0, 1, 54, 0, 0xB4, 5, 34, 0, 16, 0};
         const ByteVector frame = test_frame(0, 3000);
         payload.insert(payload.end(), frame.begin(), frame.end());
         return make_record(RecordType::kOffloadedFrame, payload);
       }()},
  };
  uint32_t number = 0;
  for (const auto& each : cases) {
    CAPTURE(static_cast<int>(each.breach));
    ScriptedPeer peer(scratch / "s");
    REQUIRE(peer.send(RecordType::kFrame, hello_of({})));
    ByteVector bytes = make_record(RecordType::kFrame, test_frame(++number));
    bytes.insert(bytes.end(), each.bytes.begin(), each.bytes.end());
    const ByteVector lost = make_record(RecordType::kFrame, test_frame(1000));
    bytes.insert(bytes.end(), lost.begin(), lost.end());
    REQUIRE(peer.send(bytes));
    CHECK(host.receive() == test_frame(number));
    CHECK(relay.events.next() == "connected arca");
    CHECK(relay.events.next() == "hello");
    CHECK(relay.events.next() == std::string("gone breach: ") + breach_word(each.breach));
    const PeerRecord goodbye = next_record(peer);
    REQUIRE(goodbye.type == 2);
    CHECK(decode_control(goodbye.payload)->goodbye->reason == GoodbyeReason::kBreach);
    CHECK(peer.is_over());
  }
  const auto& breaches = relay->counters().breaches;
  CHECK(breaches[static_cast<size_t>(Breach::kTooShort)].get() == 2);
  CHECK(breaches[static_cast<size_t>(Breach::kUnknownType)].get() == 1);
  CHECK(relay->counters().peers_connected.get() == std::size(cases));
}

TEST_CASE("Relay: goodbye in both directions" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  REQUIRE(relay.listen(scratch / "s").ok());
  {
    ScriptedPeer peer(scratch / "s");
    REQUIRE(peer.send(RecordType::kFrame, hello_of({})));
    const Goodbye goodbye{.reason = GoodbyeReason::kStopped, .detail = "up\ngrade"};
    const ByteVector record = make_record(
        RecordType::kControl, encode_control({.ping = {}, .pong = {}, .goodbye = goodbye}));
    ByteVector many;
    for (int i = 0; i < 1000; ++i) many.insert(many.end(), record.begin(), record.end());
    REQUIRE(peer.send(many));
    CHECK(relay.events.wait_for_line("gone goodbye: stopped: up?grade"));
    CHECK(next_record(peer).type == 2);
    CHECK(peer.is_over());
  }
  ScriptedPeer peer(scratch / "s");
  REQUIRE(peer.send(RecordType::kFrame, hello_of({})));
  CHECK(relay.events.next() == "connected arca");
  CHECK(relay.close());
  const PeerRecord goodbye = next_record(peer);
  REQUIRE(goodbye.type == 2);
  CHECK(decode_control(goodbye.payload)->goodbye->reason == GoodbyeReason::kStopped);
  CHECK(peer.is_over());
}

TEST_CASE("Relay: a plain peer gets frames and nothing else, also at the end" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  REQUIRE(relay.listen(scratch / "s").ok());
  ScriptedPeer peer(scratch / "s");
  REQUIRE(peer.send(RecordType::kControl, ping_of(5)));  // from a plain peer: not answered
  REQUIRE(peer.send(RecordType::kFrame, test_frame(1)));
  CHECK(relay.events.next() == "connected plain");
  CHECK(relay.close());
  CHECK(is_hello_frame(peer.receive().payload));
  CHECK(peer.is_over());
}

TEST_CASE("Relay against relay: HELLO, the interface's configuration, and frames" * needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    RelayOptions telling = default_options();
    telling.link.hello.mtu = 1450;
    InterfaceConfig& config = telling.link.hello.interface_config;
    config.mac = parse_mac("02:00:00:00:00:07");
    config.mtu = 1450;
    config.addresses = {*parse_prefix("10.9.0.2/24"), *parse_prefix("fd00::2/64")};
    config.gateways = {*parse_ip("10.9.0.1")};
    config.dns = {*parse_ip("10.9.0.53")};
    TestRelay relay(*engine, "tapr", telling);
    RelayOptions dialling = default_options();
    dialling.link.hello.mac = parse_mac("02:00:00:00:00:09");
    TestRelay container(*engine, "tapc", dialling);
    REQUIRE(container.dial(scratch / "s").ok());
    CHECK(container.events.next() == "dial-failed ENOENT");

    REQUIRE(relay.listen(scratch / "s").ok());
    CHECK(container.events.next() == "connected arca");
    CHECK(container.events.next() == "hello");
    CHECK(container.events.hello().interface_config == config);
    CHECK(container.events.agreement().peer_mtu == 1450);
    CHECK(relay.events.next() == "connected arca");
    CHECK(relay.events.next() == "hello");
    CHECK(relay.events.agreement().peer_mac == parse_mac("02:00:00:00:00:09"));

    const PacketSocket left("tapr");
    const PacketSocket right("tapc");
    for (uint32_t i = 0; i < 200; ++i) {
      REQUIRE(left.send(test_frame(i, 60 + i)));
      REQUIRE(right.send(test_frame(i + 1000, 60 + i)));
      CHECK(right.receive() == test_frame(i, 60 + i));
      CHECK(left.receive() == test_frame(i + 1000, 60 + i));
    }
    CHECK(relay.close());
    CHECK(container.events.next() == "gone goodbye: stopped");
    CHECK(eventually([] { return !has_carrier("tapc"); }));
    CHECK(container.events.next() == "dial-failed ENOENT");
  }
}

TEST_CASE("Relay: a dialler comes back, and does not hammer" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  int tries = 0;
  const UniqueFd server = listen_at(scratch / "s");
  REQUIRE(relay.dial(scratch / "s").ok());
  SUBCASE("a listener that hangs up at once: 10 ms, then twice as long each time") {
    const auto until = Clock::now() + 1200ms;
    while (Clock::now() < until) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
      pollfd one{server.get(), POLLIN, 0};
      if (::poll(&one, 1, static_cast<int>(left.count())) != 1) break;
      UniqueFd accepted(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
      ++tries;
    }
    CHECK(tries >= 3);
    CHECK(tries <= 8);
  }
  SUBCASE("a link that lasted: soon") {
    UniqueFd accepted(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ::poll(nullptr, 0, 1100);  // what makes a link worth its name is its age
    accepted.reset();
    const auto start = Clock::now();
    REQUIRE(wait_for(server.get(), POLLIN));
    CHECK(Clock::now() - start < 500ms);
  }
}

TEST_CASE("Relay: a dialler that finds nobody sleeps between its tries, and tells it once" *
          needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(1);
  TestRelay relay(*engine, "tap0");
  const std::vector<Worker*> workers{&engine->place().home};
  const ThreadUse before = use_of(workers);
  REQUIRE(relay.dial(scratch / "none").ok());
  CHECK(relay.events.next() == "dial-failed ENOENT");
  ::poll(nullptr, 0, 1000);
  const ThreadUse after = use_of(workers);
  CHECK(after.switches - before.switches <= 15);
  CHECK(relay.events.empty());
  listen_at(scratch / "none");  // stale: another reason
  CHECK(relay.events.next() == "dial-failed ECONNREFUSED");
}

TEST_CASE("Relay: with dial_once a dialler gives up" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  RelayOptions options = default_options();
  options.dial_once = true;
  TestRelay relay(*engine, "tap0", options);
  SUBCASE("when it finds nobody") {
    REQUIRE(relay.dial(scratch / "s").ok());
    CHECK(relay.events.next() == "dial-failed ENOENT");
    const UniqueFd server = listen_at(scratch / "s");
    pollfd one{server.get(), POLLIN, 0};
    CHECK(::poll(&one, 1, 300) == 0);
  }
  SUBCASE("when its link is lost") {
    const UniqueFd server = listen_at(scratch / "s");
    REQUIRE(relay.dial(scratch / "s").ok());
    REQUIRE(wait_for(server.get(), POLLIN));
    UniqueFd(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
    CHECK(relay.events.next() == "connected plain");
    CHECK(relay.events.next().substr(0, 5) == "gone ");
    CHECK(relay.events.next() == "dial-failed ECONNRESET");
  }
}

TEST_CASE("Relay: a peer that does not read costs it bounded memory, and nobody else anything" *
          needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    TestRelay relay(*engine, "tap0");
    const PacketSocket host("tap0");
    REQUIRE(relay.listen(scratch / "s").ok());
    ScriptedPeer peer(scratch / "s");
    REQUIRE(peer.send(RecordType::kFrame, hello_of({})));
    CHECK(relay.events.next() == "connected arca");

    const size_t memory = allocated_bytes();
    const auto stalls = [&] { return relay->counters().tap_to_stream.stalls.get(); };
    uint32_t poured = 0;
    const auto pour = [&] { host.send(test_frame(++poured, 1500)); };
    while (stalls() == 0 && poured < 1000000) pour();
    REQUIRE(stalls() > 0);
    for (int i = 0; i < 20000; ++i) pour();
    CHECK(allocated_bytes() <= memory + 512 * 1024);
    CHECK(relay->tap_statistics().tx_dropped > 1000);

    // The other direction.
    for (uint32_t i = 0; i < 2000; ++i) {
      REQUIRE(peer.send(RecordType::kFrame, test_frame(i)));
      if (i % 100 != 99) continue;
      for (uint32_t k = i - 99; k <= i; ++k) REQUIRE(host.receive() == test_frame(k));
    }

    // Recovery: whole frames in order, and after them what is sent now.
    uint32_t last = 0;
    const ByteVector marker = test_frame(0xFFFFFFFF, 64);
    bool marked = false;
    for (;;) {
      const PeerRecord record = next_record(peer);
      REQUIRE(record.type == 0);
      if (record.payload == marker) break;
      const uint32_t number = load_be32(record.payload.data() + 14);
      REQUIRE(number > last);
      REQUIRE(record.payload == test_frame(number, 1500));
      last = number;
      if (!marked) marked = host.send(marker);  // once the TAP has room again
    }
    CHECK(marked);
  }
}

TEST_CASE("Relay: a peer that neither reads nor goes does not hold up close()" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  const PacketSocket host("tap0");
  REQUIRE(relay.listen(scratch / "s").ok());
  ScriptedPeer peer(scratch / "s");
  REQUIRE(peer.send(RecordType::kFrame, hello_of({})));
  CHECK(relay.events.next() == "connected arca");
  while (relay->counters().tap_to_stream.stalls.get() == 0) host.send(test_frame(1, 1500));
  const auto start = Clock::now();
  CHECK(relay.close());
  CHECK(Clock::now() - start < 1s);
}

TEST_CASE("Relay: a peer that sends byte by byte" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  const PacketSocket host("tap0");
  REQUIRE(relay.listen(scratch / "s").ok());
  ScriptedPeer peer(scratch / "s");
  for (uint32_t i = 0; i < 20; ++i) {
    for (const uint8_t byte : make_record(RecordType::kFrame, test_frame(i, 60))) {
      REQUIRE(peer.send(ByteVector{byte}));
    }
    CHECK(host.receive() == test_frame(i, 60));
  }
}

TEST_CASE("Relay: pings are answered, a flood of them costs bounded memory" * needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    TestRelay relay(*engine, "tap0");
    REQUIRE(relay.listen(scratch / "s").ok());
    ScriptedPeer peer(scratch / "s");
    REQUIRE(peer.send(RecordType::kFrame, hello_of({})));
    for (const uint64_t cookie : {1, 2, 3}) {
      REQUIRE(peer.send(RecordType::kControl, ping_of(cookie)));
      const PeerRecord pong = next_record(peer);
      REQUIRE(pong.type == 2);
      CHECK(decode_control(pong.payload)->pong == cookie);
    }

    ByteVector flood;
    for (uint64_t i = 0; i < 4096; ++i) {
      const ByteVector ping = make_record(RecordType::kControl, ping_of(1000 + i));
      flood.insert(flood.end(), ping.begin(), ping.end());
    }
    const size_t before = allocated_bytes();
    size_t most = 0;
    for (int i = 0; i < 200; ++i) {
      REQUIRE(peer.send(flood));
      most = std::max(most, allocated_bytes());
    }
    CHECK(most <= before + 512 * 1024);
    // Once it reads again, it is answered again.
    std::optional<uint64_t> last;
    while (last != 77) {
      REQUIRE(peer.send(RecordType::kControl, ping_of(77)));
      const PeerRecord pong = next_record(peer);
      REQUIRE(pong.type == 2);
      last = decode_control(pong.payload)->pong;
    }
  }
}

TEST_CASE("Relay: a flood of HELLOs costs bounded memory, and the last one counts" * needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    TestRelay relay(*engine, "tap0");
    relay.events.tell_hellos(0);
    REQUIRE(relay.listen(scratch / "s").ok());
    ScriptedPeer peer(scratch / "s");
    ByteVector flood;
    for (uint16_t i = 0; i < 1024; ++i) {
      const ByteVector hello =
          make_record(RecordType::kFrame, hello_of({.mtu = static_cast<uint16_t>(1000 + i)}));
      flood.insert(flood.end(), hello.begin(), hello.end());
    }
    const size_t before = allocated_bytes();
    const auto start = Clock::now();
    size_t most = 0;
    for (int i = 0; i < 100; ++i) {
      REQUIRE(peer.send(flood));
      most = std::max(most, allocated_bytes());
    }
    // The pong says that the HELLO before it was taken (docs/protocol.md, section 8.3).
    REQUIRE(peer.send(RecordType::kFrame, hello_of({.mtu = 777})));
    REQUIRE(peer.send(RecordType::kControl, ping_of(5)));
    CHECK(next_record(peer).type == 2);
    CHECK(relay.events.agreement().peer_mtu == 777);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
    CHECK(most <= before + 512 * 1024);
    // What is told goes to logs: the peer can't fill them.
    CHECK(relay.events.hello_count() <= 3 + took.count() / 15);
  }
}

TEST_CASE("Relay: a TAP that is deleted under it is told as lost" * needs_root()) {
  const OwnNamespace own;
  for (const size_t workers : kWorkerCounts) {
    CAPTURE(workers);
    ScratchDirectory scratch;
    const auto engine = start_engine(workers);
    TestRelay relay(*engine, "tap0");
    REQUIRE(relay.listen(scratch / "s").ok());
    SUBCASE("with a peer") {
      ScriptedPeer peer(scratch / "s");
      REQUIRE(peer.send(RecordType::kFrame, test_frame(1)));
      CHECK(relay.events.next() == "connected plain");
      REQUIRE(delete_interface("tap0"));
      CHECK(relay.events.next() == "gone tap-lost: EBADFD");
      CHECK(relay.events.next() == "tap-lost EBADFD");
      CHECK(is_hello_frame(peer.receive().payload));
      CHECK(peer.is_over());
    }
    SUBCASE("with a peer that does not read") {
      ScriptedPeer peer(scratch / "s");
      REQUIRE(peer.send(RecordType::kFrame, test_frame(1)));
      CHECK(relay.events.next() == "connected plain");
      {
        const PacketSocket host("tap0");
        while (relay->counters().tap_to_stream.stalls.get() == 0) host.send(test_frame(1, 1500));
        for (int i = 0; i < 2000; ++i) host.send(test_frame(1, 1500));
      }
      const uint64_t dropped = relay->tap_statistics().tx_dropped;
      CHECK(dropped > 0);
      REQUIRE(delete_interface("tap0"));
      CHECK(relay.events.next() == "gone tap-lost: EBADFD");
      CHECK(relay.events.next() == "tap-lost EBADFD");
      CHECK(relay->tap_statistics().tx_dropped == dropped);  // counters never go back
    }
    SUBCASE("before a peer came") {
      REQUIRE(delete_interface("tap0"));
      CHECK(relay.events.next() == "tap-lost EBADFD");
    }
    SUBCASE("after a peer went") {
      ScriptedPeer peer(scratch / "s");
      peer.hang_up();
      CHECK(relay.events.next() == "connected plain");
      CHECK(relay.events.next().substr(0, 5) == "gone ");
      REQUIRE(eventually([&] { return !relay->counters().peer_up.load(); }));
      REQUIRE(delete_interface("tap0"));
      CHECK(relay.events.next() == "tap-lost EBADFD");
    }
    // Whoever comes then is turned away, and it is told once.
    ScriptedPeer late(scratch / "s");
    CHECK(late.is_over());
    CHECK(relay.close());
    CHECK(relay.events.empty());
  }
}

TEST_CASE("Relay: listen() and dial() that can't be" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(2);
  TestRelay relay(*engine, "tap0");
  const UniqueFd other = listen_at(scratch / "taken");
  CHECK(relay.listen(scratch / "taken").error().code == EADDRINUSE);
  REQUIRE(relay.listen(scratch / "s").ok());  // a failure leaves it as it was
  CHECK(relay.listen(scratch / "t").error().code == EALREADY);
  CHECK_FALSE(exists(scratch / "t"));
  CHECK(relay.dial(scratch / "taken").error().code == EALREADY);
  CHECK(connect_to(scratch / "s"));
}

TEST_CASE("Relay: close() at any moment completes and leaves nothing" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  Random random(test_seed());
  const auto engine = start_engine(3);
  size_t descriptors = count_descriptors();
  for (int round = 0; round < 150; ++round) {
    CAPTURE(round);
    {
      RelayOptions options = default_options();
      options.replace_second_peer = random.one_in(2);
      TestRelay relay(*engine, "tap0", options);
      const bool dials = random.one_in(3);
      const UniqueFd server = dials ? listen_at(scratch / "s") : UniqueFd();
      if (dials) {
        REQUIRE(relay.dial(scratch / "s").ok());
      } else {
        REQUIRE(relay.listen(scratch / "s").ok());
      }
      const size_t kind = random.between(0, 2);
      const auto pause = std::chrono::microseconds(random.between(0, 4000));
      std::thread meddler([&, kind] {
        if (dials) return;
        for (int i = 0; i < 3; ++i) {
          ScriptedPeer peer(scratch / "s");
          if (!peer.connected()) return;
          if (kind > 0) ::send(peer.fd(), "\0\0\0\1", 4, MSG_NOSIGNAL | MSG_DONTWAIT);
          if (kind > 1) {
            const ByteVector bytes(20000, 0);
            ::send(peer.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
          }
        }
      });
      std::this_thread::sleep_for(pause);  // the point of this test: any moment
      CHECK(relay.close());
      meddler.join();
    }
    ::unlink((scratch / "s").c_str());
    REQUIRE_FALSE(has_interface("tap0"));
    REQUIRE(count_descriptors() == descriptors);
  }
}

TEST_CASE("Engine: stop() with links up and frames moving, then the relays go" * needs_root()) {
  const OwnNamespace own;
  const size_t descriptors = count_descriptors();
  const size_t threads = count_threads();
  for (const size_t workers : kWorkerCounts) {
    for (int round = 0; round < 5; ++round) {
      CAPTURE(workers);
      ScratchDirectory scratch;
      auto engine = start_engine(workers);
      TestRelay listening(*engine, "tapr");
      TestRelay dialling(*engine, "tapc");
      REQUIRE(listening.listen(scratch / "s").ok());
      REQUIRE(dialling.dial(scratch / "s").ok());
      CHECK(listening.events.next() == "connected arca");
      const PacketSocket host("tapr");
      std::atomic<bool> stop{false};
      std::thread pourer([&] {
        while (!stop.load()) host.send(test_frame(1, 1500));
      });
      CHECK(eventually([&] { return dialling->counters().stream_to_tap.frames.get() > 100; }));
      engine->stop();
      engine->stop();
      listening.drop();
      dialling.drop();
      stop.store(true);
      pourer.join();
    }
  }
  CHECK_FALSE(has_interface("tapr"));
  CHECK_FALSE(has_interface("tapc"));
  CHECK(count_descriptors() == descriptors);
  CHECK(count_threads() == threads);
}

TEST_CASE("Engine: 200 relays, of which the idle ones cost nothing" * needs_root()) {
  const OwnNamespace own;
  constexpr uint32_t kFrames = 20000;
  // CPU time and sleeps of both workers for the same frames through one relay of `count`.
  const auto measure = [&](size_t count) {
    ScratchDirectory scratch;
    const auto engine = start_engine(2);
    std::vector<std::unique_ptr<TestRelay>> relays;
    std::vector<std::unique_ptr<ScriptedPeer>> peers;
    for (size_t i = 0; i < count; ++i) {
      const std::string name = "tap" + std::to_string(i);
      relays.push_back(std::make_unique<TestRelay>(*engine, name));
      REQUIRE(relays.back()->listen(scratch / name).ok());
      peers.push_back(std::make_unique<ScriptedPeer>(scratch / name));
      REQUIRE(peers.back()->send(RecordType::kFrame, test_frame(1)));
    }
    for (const auto& relay : relays) REQUIRE(relay->events.next() == "connected plain");
    const Engine::Placement placement = engine->place();
    const std::vector<Worker*> workers{&placement.home, &placement.other};

    ByteVector burst;
    for (uint32_t i = 0; i < 100; ++i) {
      const ByteVector record = make_record(RecordType::kFrame, test_frame(i));
      burst.insert(burst.end(), record.begin(), record.end());
    }
    const ThreadUse start = use_of(workers);
    for (uint32_t i = 0; i < kFrames / 100; ++i) REQUIRE(peers[0]->send(burst));
    REQUIRE(eventually(
        [&] { return (*relays[0])->counters().stream_to_tap.frames.get() == kFrames + 1; }));
    const ThreadUse busy = use_of(workers);
    ::poll(nullptr, 0, 300);  // idle: what is measured is that nothing happens
    const ThreadUse idle = use_of(workers);
    CHECK(idle.switches - busy.switches <= 6);
    CHECK(idle.cpu - busy.cpu < 20ms);
    return busy.cpu - start.cpu;
  };
  const auto alone = measure(1);
  const auto among_many = measure(200);
  CAPTURE(alone.count());
  CAPTURE(among_many.count());
  CHECK(among_many < alone * 3 / 2 + 20ms);
}

TEST_CASE("Engine: two busy relays share a worker fairly" * needs_root()) {
  const OwnNamespace own;
  ScratchDirectory scratch;
  const auto engine = start_engine(1);
  TestRelay greedy(*engine, "tap0");
  TestRelay modest(*engine, "tap1");
  REQUIRE(greedy.listen(scratch / "g").ok());
  REQUIRE(modest.listen(scratch / "m").ok());
  ScriptedPeer pouring(scratch / "g");
  ScriptedPeer asking(scratch / "m");
  const PacketSocket host("tap1");
  std::atomic<bool> stop{false};
  std::thread pourer([&] {
    ByteVector burst;
    for (uint32_t i = 0; i < 500; ++i) {
      const ByteVector record = make_record(RecordType::kFrame, test_frame(i, 1500));
      burst.insert(burst.end(), record.begin(), record.end());
    }
    while (!stop.load() && pouring.send(burst)) {
    }
  });
  for (uint32_t i = 0; i < 200; ++i) {
    CHECK(asking.send(RecordType::kFrame, test_frame(i)));
    CHECK(host.receive() == test_frame(i));
    CHECK(host.send(test_frame(i)));
    CHECK(next_record(asking) == PeerRecord{0, test_frame(i)});
  }
  stop.store(true);
  pourer.join();
}
