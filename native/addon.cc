// The border to JavaScript, and the only file that knows N-API: validate, convert, delegate. Its
// types stand in src/native.ts.
//
// Threads: everything here runs on the JavaScript thread, but for the methods of observers, which
// run on a relay's home thread or the proxy's, and do nothing but pass a change of state to a
// ThreadSafeFunction. Nothing crosses per frame.

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <napi.h>
#pragma GCC diagnostic pop

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "io/sd_notify.h"
#include "io/tap_interface.h"
#include "proxy/stream_proxy.h"
#include "relay/engine.h"
#include "relay/relay.h"

namespace arca {
namespace {

constexpr uint32_t kMostWorkers = 64;
constexpr uint32_t kMostProxied = 1024;

void throw_error(Napi::Env env, const std::string& code, const std::string& operation,
                 const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", code);
  error.Set("operation", operation);
  error.ThrowAsJavaScriptException();
}

void throw_error(Napi::Env env, const Error& error) {
  throw_error(env, error_name(error.code), error.operation, describe(error));
}

void throw_argument(Napi::Env env, const std::string& message) {
  throw_error(env, "EINVAL", "argument", message);
}

// Whether a getter or a conversion of the caller's threw: its error stands, ours would be one too
// many.
bool has_thrown(Napi::Env env) { return env.IsExceptionPending(); }

// Calls take(element) for each element of a list until it gives false. False when it did, or when
// there is no list, with the error thrown.
template <typename Take>
bool for_each_element(Napi::Env env, const Napi::Value& value, const std::string& name, Take take) {
  if (!value.IsArray()) {
    throw_argument(env, name + " must be an array");
    return false;
  }
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value element = array.Get(i);
    if (has_thrown(env) || !take(element)) return false;
  }
  return true;
}

// The text of a string; empty for anything else.
std::string text_of(const Napi::Value& value) {
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
}

// The whole number from least to most that a value is.
std::optional<uint32_t> whole_number(const Napi::Value& value, uint32_t least, uint32_t most) {
  if (!value.IsNumber()) return std::nullopt;
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= least && number <= most) || std::trunc(number) != number) return std::nullopt;
  return static_cast<uint32_t>(number);
}

// Reads the properties of one object. The first that does not fit is thrown; after it every read
// gives nothing.
class Reader {
 public:
  // `name` is what messages call the object.
  Reader(Napi::Env env, const Napi::Value& value, const std::string& name) : env_(env) {
    if (value.IsObject()) {
      object_ = value.As<Napi::Object>();
    } else {
      fail(name + " must be an object");
    }
  }

  bool ok() const { return ok_; }

  std::string text(const char* name) {
    const Napi::Value value = get(name);
    if (!ok_) return {};
    if (!value.IsString()) fail(std::string(name) + " must be a string");
    return text_of(value);
  }

  std::optional<std::string> optional_text(const char* name) {
    if (is_absent(name)) return std::nullopt;
    return text(name);
  }

  uint32_t number(const char* name, uint32_t least, uint32_t most) {
    const Napi::Value value = get(name);
    if (!ok_) return least;
    const std::optional<uint32_t> number = whole_number(value, least, most);
    if (number) return *number;
    fail(std::string(name) + " must be a whole number from " + std::to_string(least) + " to " +
         std::to_string(most));
    return least;
  }

  std::optional<uint32_t> optional_number(const char* name, uint32_t least, uint32_t most) {
    if (is_absent(name)) return std::nullopt;
    return number(name, least, most);
  }

  // Calls take(element) for each element of a list that may be absent; it may fail().
  template <typename Take>
  void list(const char* name, Take take) {
    if (is_absent(name)) return;
    const Napi::Value value = get(name);
    if (!ok_) return;
    const bool all = for_each_element(env_, value, name, [&](const Napi::Value& element) {
      take(element);
      return ok_;
    });
    if (!all) stop();
  }

  // A list of strings that `parse` turns into items.
  template <typename Item, typename Parse>
  void parsed_list(const char* name, std::vector<Item>& out, Parse parse) {
    list(name, [&](const Napi::Value& value) {
      const std::string item_text = text_of(value);
      std::optional<Item> item = parse(item_text);
      if (!item) return fail(std::string(name) + " has a bad element: '" + item_text + "'");
      if (out.size() == kMostHelloAddresses) {
        return fail(std::string(name) + " has more than " + std::to_string(kMostHelloAddresses) +
                    " elements");
      }
      out.push_back(*item);
    });
  }

  Napi::Value get(const char* name) {
    if (!ok_) return env_.Undefined();
    const Napi::Value value = object_.Get(name);
    if (!has_thrown(env_)) return value;
    stop();
    return env_.Undefined();
  }

  bool is_absent(const char* name) {
    const Napi::Value value = get(name);
    return value.IsUndefined() || value.IsNull();
  }

  void fail(const std::string& message) {
    if (ok_) throw_argument(env_, message);
    stop();
  }

  // Something was thrown already.
  void stop() { ok_ = false; }

 private:
  Napi::Env env_;
  Napi::Object object_;
  bool ok_ = true;
};

void read_interface_config(Napi::Env env, const Napi::Value& value, Reader& owner,
                           InterfaceConfig& config) {
  Reader reader(env, value, "interfaceConfig");
  if (const std::optional<std::string> mac = reader.optional_text("mac")) {
    config.mac = parse_mac(*mac);
    if (!config.mac) reader.fail("mac must be a unicast MAC: '" + *mac + "'");
  }
  if (const std::optional<uint32_t> mtu = reader.optional_number("mtu", kLeastMtu, kMostMtu)) {
    config.mtu = static_cast<uint16_t>(*mtu);
  }
  reader.parsed_list("addresses", config.addresses, parse_prefix);
  reader.parsed_list("gateways", config.gateways, parse_ip);
  reader.parsed_list("dns", config.dns, parse_ip);
  if (!reader.ok()) owner.stop();
}

void read_cids(Reader& reader, const char* name, std::vector<uint32_t>& out) {
  reader.list(name, [&](const Napi::Value& element) {
    const std::optional<uint32_t> cid = whole_number(element, 0, kVsockCidAny - 1);
    if (!cid) return reader.fail(std::string(name) + " has a bad element");
    out.push_back(*cid);
  });
}

constexpr std::pair<Offloads, const char*> kOffloadWords[] = {
    {kOffloadChecksum, "checksum"},
    {kOffloadTso4, "tso4"},
    {kOffloadTso6, "tso6"},
    {kOffloadUso, "uso"},
};

// A list of words; empty if it is none, with the error thrown.
std::optional<Offloads> read_offloads(Napi::Env env, const Napi::Value& value) {
  Offloads offloads = kOffloadNone;
  const bool all = for_each_element(env, value, "offloads", [&](const Napi::Value& element) {
    const std::string word = text_of(element);
    const auto* found = std::find_if(std::begin(kOffloadWords), std::end(kOffloadWords),
                                     [&](const auto& entry) { return word == entry.second; });
    if (found == std::end(kOffloadWords)) {
      throw_argument(env, "offloads has a bad element: '" + word + "'");
      return false;
    }
    offloads |= found->first;
    return true;
  });
  if (!all) return std::nullopt;
  return offloads;
}

struct NewRelay {
  std::string tap;
  uint32_t mtu = 0;
  RelayOptions options;
};

std::optional<NewRelay> read_relay_options(Napi::Env env, const Napi::Value& value) {
  Reader reader(env, value, "options");
  NewRelay relay;
  relay.tap = reader.text("tap");
  if (!is_interface_name(relay.tap)) {
    reader.fail("tap must be an interface name: 1 to 15 bytes, no space, '/', ':' or '%'");
  }
  relay.mtu = reader.number("mtu", kLeastMtu, kMostMtu);
  relay.options.link.burst_size =
      reader.number("burstBytes", 0, static_cast<uint32_t>(kLargestBurst));
  const std::string policy = reader.text("onSecondPeer");
  if (policy != "refuse" && policy != "replace") {
    reader.fail("onSecondPeer must be 'refuse' or 'replace'");
  }
  relay.options.replace_second_peer = policy == "replace";
  read_cids(reader, "allowedCids", relay.options.allowed_cids);
  Hello& hello = relay.options.link.hello;
  const Napi::Value config = reader.get("interfaceConfig");
  if (reader.ok()) read_interface_config(env, config, reader, hello.interface_config);
  const Napi::Value offloads = reader.get("offloads");
  if (!reader.ok()) return std::nullopt;
  if (!offloads.IsUndefined() && !offloads.IsNull()) {
    const std::optional<Offloads> read = read_offloads(env, offloads);
    if (!read) return std::nullopt;
    relay.options.link.offloads = *read;
  }

  relay.options.link.mtu = relay.mtu;
  relay.options.link.receive_mtu = relay.mtu;
  hello.largest_record = kLargestRecordPayload;
  hello.mtu = static_cast<uint16_t>(relay.mtu);
  return relay;
}

std::optional<Endpoint> read_endpoint(Napi::Env env, const Napi::Value& value) {
  Reader reader(env, value, "endpoint");
  const std::string transport = reader.text("transport");
  Endpoint endpoint;
  if (transport == "vsock") {
    endpoint.transport = Transport::kVsock;
    endpoint.cid = reader.number("cid", 0, kVsockCidAny);
    endpoint.port = reader.number("port", 1, 0xFFFFFFFE);
  } else if (transport == "unix") {
    endpoint.transport = Transport::kUnix;
    endpoint.path = reader.text("path");
    if (!is_unix_path(endpoint.path)) {
      reader.fail("path must have 1 to " + std::to_string(kLongestUnixPath) +
                  " bytes, none of them zero");
    }
  } else {
    reader.fail("transport must be 'vsock' or 'unix'");
  }
  if (!reader.ok()) return std::nullopt;
  return endpoint;
}

const char* transport_word(Transport transport) {
  return transport == Transport::kVsock ? "vsock" : "unix";
}

Napi::Object endpoint_object(Napi::Env env, const Endpoint& endpoint) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("transport", transport_word(endpoint.transport));
  if (endpoint.transport == Transport::kVsock) {
    object.Set("cid", endpoint.cid);
    object.Set("port", endpoint.port);
  } else {
    object.Set("path", endpoint.path);
  }
  return object;
}

Napi::Object peer_object(Napi::Env env, const Peer& peer) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("transport", transport_word(peer.transport));
  if (peer.transport == Transport::kVsock) {
    object.Set("cid", peer.cid);
    object.Set("port", peer.port);
  } else {
    object.Set("pid", peer.pid);
  }
  return object;
}

Napi::Array offload_words(Napi::Env env, Offloads offloads) {
  Napi::Array words = Napi::Array::New(env);
  for (const auto& [bit, word] : kOffloadWords) {
    if ((offloads & bit) != 0) words.Set(words.Length(), word);
  }
  return words;
}

Napi::Object agreement_object(Napi::Env env, const Agreement& agreement) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("protocol", agreement.plain ? "plain" : "arca");
  object.Set("offloads", offload_words(env, agreement.offloads));
  object.Set("largestRecordBytes", static_cast<double>(agreement.largest_payload));
  object.Set("largestBurstBytes", static_cast<double>(agreement.burst_size));
  if (agreement.peer_mtu) object.Set("peerMtu", *agreement.peer_mtu);
  if (agreement.peer_mac) object.Set("peerMac", format_mac(*agreement.peer_mac));
  return object;
}

double number_of(const Counter& counter) { return static_cast<double>(counter.get()); }

Napi::Object direction_object(Napi::Env env, const DirectionCounters& counters, size_t first_drop,
                              size_t end_drop) {
  Napi::Object drops = Napi::Object::New(env);
  for (size_t i = first_drop; i < end_drop; ++i) {
    drops.Set(drop_word(static_cast<Drop>(i)), number_of(counters.drops[i]));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("frames", number_of(counters.frames));
  object.Set("bytes", number_of(counters.bytes));
  object.Set("bursts", number_of(counters.bursts));
  object.Set("systemCalls", number_of(counters.system_calls));
  object.Set("stalls", number_of(counters.stalls));
  object.Set("drops", drops);
  return object;
}

const char* tap_writes_word(WriteRing::State state) {
  switch (state) {
    case WriteRing::State::kUntried:
      return "untried";
    case WriteRing::State::kOpen:
      return "batched";
    case WriteRing::State::kRefused:
      return "refused";
  }
  return "unknown";
}

Napi::Object tap_writes_object(Napi::Env env, const WriteRing& ring) {
  const WriteRing::State state = ring.state();
  Napi::Object object = Napi::Object::New(env);
  object.Set("state", tap_writes_word(state));
  if (state == WriteRing::State::kRefused) object.Set("code", error_name(ring.refusal()));
  return object;
}

Napi::Object counters_object(Napi::Env env, const RelayCounters& counters, const WriteRing& ring,
                             const LinkStatistics& tap) {
  Napi::Object refused = Napi::Object::New(env);
  refused.Set(refusal_word(Refusal::kBusy), number_of(counters.refused_busy));
  refused.Set(refusal_word(Refusal::kCidNotAllowed), number_of(counters.refused_cid));
  Napi::Object breaches = Napi::Object::New(env);
  for (size_t i = 0; i < kBreachCount; ++i) {
    breaches.Set(breach_word(static_cast<Breach>(i)), number_of(counters.breaches[i]));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("tapToStream",
             direction_object(env, counters.tap_to_stream, 0, kFirstStreamToTapDrop));
  object.Set("streamToTap",
             direction_object(env, counters.stream_to_tap, kFirstStreamToTapDrop, kDropCount));
  object.Set("peersConnected", number_of(counters.peers_connected));
  object.Set("peersRefused", refused);
  object.Set("breaches", breaches);
  object.Set("tapWrites", tap_writes_object(env, ring));
  object.Set("tapQueueDrops", static_cast<double>(tap.tx_dropped));
  object.Set("peerUp", counters.peer_up.load(std::memory_order_relaxed) ? 1 : 0);
  return object;
}

// The promise of close(), the same for every call. A Deferred knows its promise only for the length
// of the call that made it: its handle is gone afterwards.
class Closing {
 public:
  bool has_begun() const { return deferred_.has_value(); }

  void begin(Napi::Env env) {
    deferred_ = Napi::Promise::Deferred::New(env);
    promise_ = Napi::Persistent(deferred_->Promise().As<Napi::Object>());
  }
  void finish(Napi::Env env) { deferred_->Resolve(env.Undefined()); }

  Napi::Value promise() const { return promise_.Value(); }

 private:
  std::optional<Napi::Promise::Deferred> deferred_;
  Napi::ObjectReference promise_;
};

// What a native thread has to say, run on the JavaScript thread.
using Event = std::function<void(Napi::Env, Napi::Function)>;

// Any thread.
void pass_event(Napi::ThreadSafeFunction& way, Event event) {
  auto* data = new Event(std::move(event));
  const napi_status status =
      way.NonBlockingCall(data, [](Napi::Env env, Napi::Function function, Event* passed) {
        (*passed)(env, function);
        delete passed;
      });
  if (status != napi_ok) delete data;  // the environment is ending
}

// What the listener throws is an uncaught exception: Node would only warn of it (DEP0168). Not by
// Function::Call, which aborts the process when the environment is being terminated meanwhile.
void call_listener(Napi::Env env, Napi::Function on_event, napi_value event) {
  if (napi_call_function(env, env.Undefined(), on_event, 1, &event, nullptr) == napi_ok) return;
  napi_value thrown = nullptr;
  if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) {
    napi_fatal_exception(env, thrown);
  }
}

class RelayWrap;

class EngineWrap final : public Napi::ObjectWrap<EngineWrap> {
 public:
  static Napi::Function define(Napi::Env env);

  explicit EngineWrap(const Napi::CallbackInfo& info);

  std::shared_ptr<Engine> engine() const { return engine_; }
  void add(RelayWrap* relay) { relays_.insert(relay); }
  void relay_closed(RelayWrap* relay);

 private:
  Napi::Value create_relay(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  void finish_close();

  std::shared_ptr<Engine> engine_;
  std::set<RelayWrap*> relays_;
  Closing closing_;
};

// A relay and its way to JavaScript. It holds itself and its engine while the relay is open, so
// that neither is collected under running threads.
class RelayWrap final : public Napi::ObjectWrap<RelayWrap>, public RelayObserver {
 public:
  static Napi::Function define(Napi::Env env);

  explicit RelayWrap(const Napi::CallbackInfo& info);
  ~RelayWrap() override;

  // After construction: JavaScript's `new` gives no way to hand over native values.
  bool open(Napi::Env env, EngineWrap* engine, NewRelay options, const Napi::Function& on_event);
  Napi::Value begin_close(Napi::Env env);

 private:
  // RelayObserver, on the home thread
  void on_peer_connected(const Peer& peer, const Agreement& agreement) override;
  void on_hello(const Peer& peer, const Hello& hello, const Agreement& agreement) override;
  void on_peer_gone(const Peer& peer, const LinkEnd& end) override;
  void on_peer_refused(const Peer& peer, Refusal refusal) override;
  void on_dial_failed(const Error& error) override;
  void on_tap_lost(int error) override;

  void pass(Event event);
  void tell(std::function<Napi::Object(Napi::Env)> make);
  static void stop_engine(void* self);  // an environment's clean-up hook
  void finish_close(Napi::Env env);

  Napi::Value listen(const Napi::CallbackInfo& info);
  Napi::Value dial(const Napi::CallbackInfo& info);
  Napi::Value set_offloads(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  bool check_open(Napi::Env env);

  EngineWrap* engine_wrap_ = nullptr;
  Napi::ObjectReference engine_reference_;
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<Relay> relay_;
  Napi::ThreadSafeFunction events_;
  Closing closing_;
  std::optional<Agreement> told_;  // home thread: what JavaScript knows of the link
};

// A byte proxy and its way to JavaScript. It holds itself while the proxy runs.
class StreamProxyWrap final : public Napi::ObjectWrap<StreamProxyWrap>, public StreamProxyObserver {
 public:
  static Napi::Function define(Napi::Env env);

  explicit StreamProxyWrap(const Napi::CallbackInfo& info);
  ~StreamProxyWrap() override;

  bool start(Napi::Env env, const StreamProxyOptions& options, const Napi::Function& on_event);

 private:
  // StreamProxyObserver, on the proxy's thread
  void on_refused(ProxyRefusal refusal, const Peer& peer, const Error& error,
                  uint64_t count) override;
  void on_accept_failed(const Error& error, uint64_t count) override;

  void tell(std::function<Napi::Object(Napi::Env)> make);
  static void stop_proxy(void* self);  // an environment's clean-up hook
  void finish_stop(Napi::Env env);
  bool check_started(Napi::Env env);

  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value stop(const Napi::CallbackInfo& info);

  std::unique_ptr<StreamProxy> proxy_;
  Napi::ThreadSafeFunction events_;
  Closing stopping_;
};

// The classes of one environment: the addon may be loaded in several threads at once.
struct Classes {
  Napi::FunctionReference relay;
  Napi::FunctionReference stream_proxy;
};

Napi::Function EngineWrap::define(Napi::Env env) {
  return DefineClass(env, "Engine",
                     {InstanceMethod<&EngineWrap::create_relay>("createRelay"),
                      InstanceMethod<&EngineWrap::close>("close")});
}

EngineWrap::EngineWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EngineWrap>(info) {
  EngineOptions options;
  if (info.Length() > 0 && !info[0].IsUndefined()) {
    Reader reader(info.Env(), info[0], "options");
    if (const auto workers = reader.optional_number("workers", 1, kMostWorkers)) {
      options.worker_count = *workers;
    }
    options.busy_poll = std::chrono::microseconds(
        reader.optional_number("busyPollUs", 0, static_cast<uint32_t>(kLongestBusyPoll.count()))
            .value_or(0));
    if (!reader.ok()) return;
  }
  Result<std::unique_ptr<Engine>> engine = Engine::start(options);
  if (!engine.ok()) {
    throw_error(info.Env(), engine.error());
    return;
  }
  engine_ = std::move(engine.value());
}

Napi::Value EngineWrap::create_relay(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!engine_ || closing_.has_begun()) {
    throw_error(env, "ESHUTDOWN", "createRelay", "the engine is closed");
    return env.Undefined();
  }
  if (info.Length() < 2 || !info[1].IsFunction()) {
    throw_argument(env, "createRelay wants options and a function for events");
    return env.Undefined();
  }
  std::optional<NewRelay> options = read_relay_options(env, info[0]);
  if (!options) return env.Undefined();

  const Napi::Object object = env.GetInstanceData<Classes>()->relay.New({});
  if (env.IsExceptionPending()) return env.Undefined();
  RelayWrap* relay = RelayWrap::Unwrap(object);
  if (!relay->open(env, this, std::move(*options), info[1].As<Napi::Function>())) {
    return env.Undefined();
  }
  return object;
}

Napi::Value EngineWrap::close(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (closing_.has_begun()) return closing_.promise();
  closing_.begin(env);
  for (RelayWrap* relay : relays_) relay->begin_close(env);
  if (relays_.empty()) finish_close();
  return closing_.promise();
}

void EngineWrap::relay_closed(RelayWrap* relay) {
  relays_.erase(relay);
  if (closing_.has_begun() && relays_.empty()) finish_close();
}

void EngineWrap::finish_close() {
  engine_.reset();  // the last one: every relay has let go of it
  closing_.finish(Env());
}

Napi::Function RelayWrap::define(Napi::Env env) {
  return DefineClass(
      env, "Relay",
      {InstanceMethod<&RelayWrap::listen>("listen"), InstanceMethod<&RelayWrap::dial>("dial"),
       InstanceMethod<&RelayWrap::set_offloads>("setOffloads"),
       InstanceMethod<&RelayWrap::counters>("counters"),
       InstanceMethod<&RelayWrap::close>("close")});
}

RelayWrap::RelayWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RelayWrap>(info) {}

// Open here only when the environment ends: stop_engine has joined the threads.
RelayWrap::~RelayWrap() = default;

bool RelayWrap::open(Napi::Env env, EngineWrap* engine, NewRelay options,
                     const Napi::Function& on_event) {
  Result<TapInterface> interface = TapInterface::create(options.tap);
  if (!interface.ok()) {
    throw_error(env, interface.error());
    return false;
  }
  if (!interface.value().tap.supports(options.options.link.offloads)) {
    throw_error(env, {"ioctl(TUNSETOFFLOAD)", EINVAL});
    return false;
  }
  if (Status status = bring_up_silent(interface.value(), options.mtu); !status.ok()) {
    throw_error(env, status.error());
    return false;
  }

  engine_wrap_ = engine;
  engine_ = engine->engine();
  engine_reference_ = Napi::Persistent(engine->Value());
  engine->add(this);
  events_ = Napi::ThreadSafeFunction::New(env, on_event, "arca-relay", 0, 1);
  // Registered after the ThreadSafeFunction, so run before its end: no thread may use it then.
  napi_add_env_cleanup_hook(env, stop_engine, this);
  relay_ = std::make_unique<Relay>(*engine_, std::move(interface.value()), options.options, *this);
  Ref();

  const Napi::Object self = Value();
  self.Set("tap", options.tap);
  self.Set("ifindex", relay_->index());
  return true;
}

void RelayWrap::stop_engine(void* self) {
  auto* relay = static_cast<RelayWrap*>(self);
  relay->engine_->stop();
  relay->relay_.reset();
}

void RelayWrap::pass(Event event) { pass_event(events_, std::move(event)); }

void RelayWrap::tell(std::function<Napi::Object(Napi::Env)> make) {
  pass([make = std::move(make)](Napi::Env env, Napi::Function on_event) {
    call_listener(env, on_event, make(env));
  });
}

void RelayWrap::on_peer_connected(const Peer& peer, const Agreement& agreement) {
  told_ = agreement;
  tell([peer, agreement](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "peer-connected");
    event.Set("peer", peer_object(env, peer));
    event.Set("agreed", agreement_object(env, agreement));
    return event;
  });
}

void RelayWrap::on_hello(const Peer& peer, const Hello&, const Agreement& agreement) {
  if (told_ == agreement) return;
  told_ = agreement;
  tell([peer, agreement](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "peer-updated");
    event.Set("peer", peer_object(env, peer));
    event.Set("agreed", agreement_object(env, agreement));
    return event;
  });
}

void RelayWrap::on_peer_gone(const Peer& peer, const LinkEnd& end) {
  tell([peer, end](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "peer-gone");
    event.Set("peer", peer_object(env, peer));
    event.Set("reason", link_end_word(end.kind));
    event.Set("detail", end.detail);
    return event;
  });
}

void RelayWrap::on_peer_refused(const Peer& peer, Refusal refusal) {
  tell([peer, refusal](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "peer-refused");
    event.Set("peer", peer_object(env, peer));
    event.Set("reason", refusal_word(refusal));
    return event;
  });
}

void RelayWrap::on_dial_failed(const Error& error) {
  tell([error](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "dial-failed");
    event.Set("code", error_name(error.code));
    event.Set("detail", describe(error));
    return event;
  });
}

void RelayWrap::on_tap_lost(int error) {
  tell([error](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "tap-lost");
    event.Set("code", error_name(error));
    event.Set("detail", describe({"TAP device", error}));
    return event;
  });
}

bool RelayWrap::check_open(Napi::Env env) {
  if (relay_ && !closing_.has_begun()) return true;
  throw_error(env, "ESHUTDOWN", "relay", "the relay is closed");
  return false;
}

Napi::Value RelayWrap::listen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!check_open(env)) return env.Undefined();
  const std::optional<Endpoint> endpoint = read_endpoint(env, info[0]);
  if (!endpoint) return env.Undefined();
  if (Status status = relay_->listen(*endpoint); !status.ok()) throw_error(env, status.error());
  return env.Undefined();
}

Napi::Value RelayWrap::dial(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!check_open(env)) return env.Undefined();
  const std::optional<Endpoint> endpoint = read_endpoint(env, info[0]);
  if (!endpoint) return env.Undefined();
  if (endpoint->transport == Transport::kVsock && endpoint->cid == kVsockCidAny) {
    throw_argument(env, "cid must be that of the peer: nobody can be dialled at any CID");
    return env.Undefined();
  }
  if (Status status = relay_->dial(*endpoint); !status.ok()) throw_error(env, status.error());
  return env.Undefined();
}

Napi::Value RelayWrap::set_offloads(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!check_open(env)) return env.Undefined();
  const std::optional<Offloads> offloads = read_offloads(env, info[0]);
  if (offloads) relay_->set_offloads(*offloads);
  return env.Undefined();
}

Napi::Value RelayWrap::counters(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!check_open(env)) return env.Undefined();
  return counters_object(env, relay_->counters(), relay_->write_ring(), relay_->tap_statistics());
}

Napi::Value RelayWrap::close(const Napi::CallbackInfo& info) { return begin_close(info.Env()); }

Napi::Value RelayWrap::begin_close(Napi::Env env) {
  if (closing_.has_begun()) return closing_.promise();
  closing_.begin(env);
  if (relay_) {
    relay_->close(
        [this] { pass([this](Napi::Env js_env, Napi::Function) { finish_close(js_env); }); });
  } else {
    closing_.finish(env);
  }
  return closing_.promise();
}

void RelayWrap::finish_close(Napi::Env env) {
  napi_remove_env_cleanup_hook(env, stop_engine, this);
  relay_.reset();
  engine_.reset();
  events_.Release();
  engine_wrap_->relay_closed(this);
  engine_reference_.Reset();
  closing_.finish(env);
  Unref();
}

Napi::Function StreamProxyWrap::define(Napi::Env env) {
  return DefineClass(env, "StreamProxy",
                     {InstanceMethod<&StreamProxyWrap::stats>("stats"),
                      InstanceMethod<&StreamProxyWrap::stop>("stop")});
}

StreamProxyWrap::StreamProxyWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<StreamProxyWrap>(info) {}

// Runs here only when the environment ends: stop_proxy has joined the thread.
StreamProxyWrap::~StreamProxyWrap() = default;

bool StreamProxyWrap::start(Napi::Env env, const StreamProxyOptions& options,
                            const Napi::Function& on_event) {
  // Before the thread, which may have something to tell at once.
  events_ = Napi::ThreadSafeFunction::New(env, on_event, "arca-proxy", 0, 1);
  Result<std::unique_ptr<StreamProxy>> proxy = StreamProxy::start(options, *this);
  if (!proxy.ok()) {
    events_.Release();
    throw_error(env, proxy.error());
    return false;
  }
  proxy_ = std::move(proxy.value());
  // Registered after the ThreadSafeFunction, so run before its end: no thread may use it then.
  napi_add_env_cleanup_hook(env, stop_proxy, this);
  Ref();
  return true;
}

void StreamProxyWrap::stop_proxy(void* self) {
  static_cast<StreamProxyWrap*>(self)->proxy_->stop();
}

void StreamProxyWrap::tell(std::function<Napi::Object(Napi::Env)> make) {
  pass_event(events_, [this, make = std::move(make)](Napi::Env env, Napi::Function on_event) {
    if (!stopping_.has_begun()) call_listener(env, on_event, make(env));
  });
}

void StreamProxyWrap::on_refused(ProxyRefusal refusal, const Peer& peer, const Error& error,
                                 uint64_t count) {
  tell([refusal, peer, error, count](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "refused");
    event.Set("reason", refusal_word(refusal));
    event.Set("peer", peer_object(env, peer));
    event.Set("count", static_cast<double>(count));
    event.Set("detail", error.code == 0 ? "" : describe(error));
    return event;
  });
}

void StreamProxyWrap::on_accept_failed(const Error& error, uint64_t count) {
  tell([error, count](Napi::Env env) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "accept-failed");
    event.Set("code", error_name(error.code));
    event.Set("count", static_cast<double>(count));
    event.Set("detail", describe(error));
    return event;
  });
}

// JavaScript can make one by way of `constructor`.
bool StreamProxyWrap::check_started(Napi::Env env) {
  if (proxy_) return true;
  throw_error(env, "ESHUTDOWN", "proxy", "startStreamProxy makes proxies");
  return false;
}

Napi::Value StreamProxyWrap::stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!check_started(env)) return env.Undefined();
  const StreamProxyCounters& counters = proxy_->counters();
  const auto number = [](const std::atomic<uint64_t>& counter) {
    return static_cast<double>(counter.load(std::memory_order_relaxed));
  };
  Napi::Object refused = Napi::Object::New(env);
  for (size_t i = 0; i < kProxyRefusalCount; ++i) {
    refused.Set(refusal_word(static_cast<ProxyRefusal>(i)), number(counters.refused[i]));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("connectionsOpen", number(counters.open));
  object.Set("connectionsAccepted", number(counters.accepted));
  object.Set("connectionsRefused", refused);
  object.Set("bytesToTarget", number(counters.bytes_to_target));
  object.Set("bytesFromTarget", number(counters.bytes_from_target));
  return object;
}

// The thread does nothing that blocks, so that it is joined at once. What it said before still
// stands in the queue to JavaScript; the promise comes behind that.
Napi::Value StreamProxyWrap::stop(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!check_started(env)) return env.Undefined();
  if (stopping_.has_begun()) return stopping_.promise();
  stopping_.begin(env);
  proxy_->stop();
  pass_event(events_, [this](Napi::Env js_env, Napi::Function) { finish_stop(js_env); });
  return stopping_.promise();
}

void StreamProxyWrap::finish_stop(Napi::Env env) {
  napi_remove_env_cleanup_hook(env, stop_proxy, this);
  events_.Release();
  stopping_.finish(env);
  Unref();
}

std::optional<StreamProxyOptions> read_proxy_options(Napi::Env env, const Napi::Value& value) {
  Reader reader(env, value, "options");
  StreamProxyOptions options;
  const Napi::Value listen = reader.get("listen");
  const Napi::Value target = reader.get("target");
  read_cids(reader, "allowedCids", options.allowed_cids);
  options.most_connections = reader.number("maxConnections", 1, kMostProxied);
  if (!reader.ok()) return std::nullopt;
  const std::optional<Endpoint> listen_endpoint = read_endpoint(env, listen);
  if (!listen_endpoint) return std::nullopt;
  const std::optional<Endpoint> target_endpoint = read_endpoint(env, target);
  if (!target_endpoint) return std::nullopt;
  if (target_endpoint->transport != Transport::kUnix) reader.fail("target must be a Unix socket");
  if (listen_endpoint->transport == Transport::kVsock && options.allowed_cids.empty()) {
    reader.fail("allowedCids must name who may call over vsock");
  }
  if (!reader.ok()) return std::nullopt;
  options.listen = *listen_endpoint;
  options.target_path = target_endpoint->path;
  return options;
}

Napi::Value js_start_stream_proxy(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[1].IsFunction()) {
    throw_argument(env, "startStreamProxy wants options and a function for events");
    return env.Undefined();
  }
  const std::optional<StreamProxyOptions> options = read_proxy_options(env, info[0]);
  if (!options) return env.Undefined();
  const Napi::Object object = env.GetInstanceData<Classes>()->stream_proxy.New({});
  if (has_thrown(env)) return env.Undefined();
  StreamProxyWrap* proxy = StreamProxyWrap::Unwrap(object);
  if (!proxy->start(env, *options, info[1].As<Napi::Function>())) return env.Undefined();
  return object;
}

Napi::Value js_parse_endpoint(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) {
    throw_argument(env, "parseEndpoint wants a string");
    return env.Undefined();
  }
  const ParsedEndpoint parsed = parse_endpoint(info[0].As<Napi::String>().Utf8Value());
  if (!parsed.endpoint) {
    throw_argument(env, parsed.problem);
    return env.Undefined();
  }
  return endpoint_object(env, *parsed.endpoint);
}

Napi::Value js_sd_notify(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsString()) {
    throw_argument(env, "sdNotify wants a path and a text");
    return env.Undefined();
  }
  const Status status =
      sd_notify(info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value());
  if (!status.ok()) throw_error(env, status.error());
  return env.Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* classes = new Classes;
  classes->relay = Napi::Persistent(RelayWrap::define(env));
  classes->stream_proxy = Napi::Persistent(StreamProxyWrap::define(env));
  env.SetInstanceData(classes);  // deleted with the environment
  exports.Set("Engine", EngineWrap::define(env));
  exports.Set("parseEndpoint", Napi::Function::New<js_parse_endpoint>(env, "parseEndpoint"));
  exports.Set("startStreamProxy",
              Napi::Function::New<js_start_stream_proxy>(env, "startStreamProxy"));
  exports.Set("sdNotify", Napi::Function::New<js_sd_notify>(env, "sdNotify"));
  return exports;
}

}  // namespace
}  // namespace arca

// The macro needs names at file scope.
static Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return arca::init(env, exports);
}
NODE_API_MODULE(arca_native, init_addon)
