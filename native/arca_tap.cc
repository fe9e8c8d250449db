// arca-tap: the container's end. Makes the container's interface and joins it to the relay's
// stream.
//
// A static executable without Node, from the same core as the relay. The main thread parses, makes
// the interface, and then waits for signals; the engine's workers do the rest.

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <charconv>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "io/tap_interface.h"
#include "relay/engine.h"
#include "relay/relay.h"

namespace arca {
namespace {

constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
constexpr int kExitForced = 3;
constexpr uint16_t kDefaultMtu = 1500;

constexpr char kHelp[] =
    R"(Usage: arca-tap --connect ADDRESS [options]
       arca-tap --listen ADDRESS [options]

Makes a network interface and joins it to an arca-relay over a stream, so that a
container that has nothing but vsock is on a network. What is not given here
comes from the relay: MAC, MTU, addresses, gateway. Reconnects for ever; the
interface stays, and its carrier tells whether the relay is there.

Where the relay is:
  --connect ADDRESS     dial vsock:CID:PORT or unix:PATH (the host is CID 2)
  --listen ADDRESS      wait for the relay at vsock:[CID:]PORT or unix:PATH
  --peer-cid CID        with --listen: take nobody but this CID; may be repeated
  --once                stop when the connection ends, or fails, the first time

The interface:
  --tap NAME            its name (default eth0)
  --netns NAME|PATH     make it in this network namespace: a name below
                        /run/netns, or a path such as /proc/123/ns/net
  --mac MAC             hardware address, for example 02:00:00:00:00:01
  --address CIDR        address, for example 10.9.0.2/24; may be repeated
  --gateway IP          default route; may be given once for IPv4 and for IPv6
  --mtu BYTES           68 to 65521 (default: the relay's, else 1500)

  --burst BYTES         largest send; 1 sends each frame by itself
  --offload auto|off|uso
                        off: no checksum or segmentation offload, whatever the
                        relay takes, and no joining of TCP segments; uso: also
                        UDP segmentation, if the relay has it too (Linux 6.2)
  --busy-poll US        ask for frames so many microseconds before sleeping, 0
                        to 10000 (default 0): less latency, more processor time
  --quiet               say nothing but errors
  --version, --help

Examples:
  arca-tap --connect vsock:2:5555
  arca-tap --connect unix:/run/web.sock --netns web --address 10.9.0.2/24

Exit status: 0 after SIGINT or SIGTERM, or with --once when a connection ended;
1 when something failed; 2 for a wrong command line; 3 when a second signal
forced the end. Needs CAP_NET_ADMIN and /dev/net/tun, and CAP_SYS_ADMIN for
--netns.
)";

struct Arguments {
  std::optional<Endpoint> connect;
  std::optional<Endpoint> listen;
  std::vector<uint32_t> peer_cids;
  bool once = false;
  std::string tap = "eth0";
  std::string netns;
  InterfaceConfig config;  // what the command line fixes
  size_t burst_size = 0;
  Offloads offloads = kOffloadsByDefault;
  std::chrono::microseconds busy_poll{0};
  bool quiet = false;
};

[[gnu::format(printf, 1, 2)]] int usage_error(const char* format, ...) {
  std::fputs("arca-tap: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputs("\nTry 'arca-tap --help'.\n", stderr);
  return kExitUsage;
}

template <typename Number>
std::optional<Number> parse_number(const char* text, Number least, Number most) {
  Number value{};
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < least || value > most) return std::nullopt;
  return value;
}

enum Option {
  kConnect = 256,
  kListen,
  kPeerCid,
  kOnce,
  kTap,
  kNetns,
  kMac,
  kAddress,
  kGateway,
  kMtu,
  kBurst,
  kOffload,
  kBusyPoll,
  kQuiet,
  kVersion,
  kHelpOption,
};

constexpr option kOptions[] = {
    {"connect", required_argument, nullptr, kConnect},
    {"listen", required_argument, nullptr, kListen},
    {"peer-cid", required_argument, nullptr, kPeerCid},
    {"once", no_argument, nullptr, kOnce},
    {"tap", required_argument, nullptr, kTap},
    {"netns", required_argument, nullptr, kNetns},
    {"mac", required_argument, nullptr, kMac},
    {"address", required_argument, nullptr, kAddress},
    {"gateway", required_argument, nullptr, kGateway},
    {"mtu", required_argument, nullptr, kMtu},
    {"burst", required_argument, nullptr, kBurst},
    {"offload", required_argument, nullptr, kOffload},
    {"busy-poll", required_argument, nullptr, kBusyPoll},
    {"quiet", no_argument, nullptr, kQuiet},
    {"version", no_argument, nullptr, kVersion},
    {"help", no_argument, nullptr, kHelpOption},
    {nullptr, 0, nullptr, 0},
};

// Takes an address for --connect or --listen; an exit code if it can't be one.
std::optional<int> take_endpoint(const char* name, std::optional<Endpoint>& out) {
  const ParsedEndpoint parsed = parse_endpoint(optarg);
  if (!parsed.endpoint) return usage_error("--%s: %s", name, parsed.problem.c_str());
  out = parsed.endpoint;
  return std::nullopt;
}

std::optional<int> take_gateway(std::vector<IpAddress>& gateways) {
  const std::optional<IpAddress> gateway = parse_ip(optarg);
  if (!gateway) return usage_error("--gateway: '%s' is no IP address", optarg);
  for (const IpAddress& other : gateways) {
    if (other.size == gateway->size) {
      return usage_error("--gateway: one for each of IPv4 and IPv6 is all there can be");
    }
  }
  gateways.push_back(*gateway);
  return std::nullopt;
}

// An exit code when the program is to end here.
std::optional<int> take_option(int code, Arguments& arguments) {
  switch (code) {
    case kConnect:
      return take_endpoint("connect", arguments.connect);
    case kListen:
      return take_endpoint("listen", arguments.listen);
    case kPeerCid: {
      const auto cid = parse_number<uint32_t>(optarg, 0, kVsockCidAny - 1);
      if (!cid) return usage_error("--peer-cid: '%s' is no CID (0 to 4294967294)", optarg);
      arguments.peer_cids.push_back(*cid);
      return std::nullopt;
    }
    case kOnce:
      arguments.once = true;
      return std::nullopt;
    case kTap:
      arguments.tap = optarg;
      if (!is_interface_name(arguments.tap)) {
        return usage_error(
            "--tap: '%s' is no interface name: 1 to 15 bytes, no space, '/', ':' or "
            "'%%'",
            optarg);
      }
      return std::nullopt;
    case kNetns:
      arguments.netns = optarg;
      if (arguments.netns.empty()) return usage_error("--netns: a name or a path is wanted");
      return std::nullopt;
    case kMac:
      arguments.config.mac = parse_mac(optarg);
      if (!arguments.config.mac) {
        return usage_error("--mac: '%s' is no unicast MAC such as 02:00:00:00:00:01", optarg);
      }
      return std::nullopt;
    case kAddress: {
      const std::optional<IpPrefix> address = parse_prefix(optarg);
      if (!address) return usage_error("--address: '%s' is no CIDR such as 10.9.0.2/24", optarg);
      arguments.config.addresses.push_back(*address);
      return std::nullopt;
    }
    case kGateway:
      return take_gateway(arguments.config.gateways);
    case kMtu:
      arguments.config.mtu = parse_number<uint16_t>(optarg, kLeastMtu, kMostMtu);
      if (!arguments.config.mtu)
        return usage_error("--mtu: '%s' is not %u to %u", optarg, kLeastMtu, kMostMtu);
      return std::nullopt;
    case kBurst: {
      const auto burst = parse_number<size_t>(optarg, 1, kLargestBurst);
      if (!burst) return usage_error("--burst: '%s' is not 1 to %zu", optarg, kLargestBurst);
      arguments.burst_size = *burst;
      return std::nullopt;
    }
    case kOffload: {
      const std::string word = optarg;
      if (word != "auto" && word != "off" && word != "uso") {
        return usage_error("--offload: '%s' is none of auto, off and uso", optarg);
      }
      arguments.offloads = word == "off" ? kOffloadNone : kOffloadsByDefault;
      if (word == "uso") arguments.offloads |= kOffloadUso;
      return std::nullopt;
    }
    case kBusyPoll: {
      const auto most = kLongestBusyPoll.count();
      const auto us = parse_number<decltype(kLongestBusyPoll)::rep>(optarg, 0, most);
      if (!us)
        return usage_error("--busy-poll: '%s' is not 0 to %lld", optarg,
                           static_cast<long long>(most));
      arguments.busy_poll = std::chrono::microseconds(*us);
      return std::nullopt;
    }
    case kQuiet:
      arguments.quiet = true;
      return std::nullopt;
    case kVersion:
      std::puts("arca-tap " ARCA_VERSION);
      return kExitOk;
    case kHelpOption:
      std::fputs(kHelp, stdout);
      return kExitOk;
    default:
      std::fputs("Try 'arca-tap --help'.\n", stderr);
      return kExitUsage;
  }
}

std::optional<int> parse_arguments(int argc, char** argv, Arguments& arguments) {
  for (;;) {
    const int code = ::getopt_long(argc, argv, "", kOptions, nullptr);
    if (code < 0) break;
    if (const std::optional<int> exit_code = take_option(code, arguments)) return exit_code;
  }
  if (optind < argc) return usage_error("'%s' is not expected here", argv[optind]);
  if (arguments.connect.has_value() == arguments.listen.has_value()) {
    return usage_error("give one of --connect and --listen");
  }
  if (arguments.connect && arguments.connect->transport == Transport::kVsock &&
      arguments.connect->cid == kVsockCidAny) {
    return usage_error("--connect wants a CID: vsock:CID:PORT (the host is 2)");
  }
  if (!arguments.peer_cids.empty() &&
      (!arguments.listen || arguments.listen->transport != Transport::kVsock)) {
    return usage_error("--peer-cid goes with --listen vsock:...");
  }
  if (arguments.once && arguments.listen) return usage_error("--once goes with --connect");
  return std::nullopt;
}

// What a step's failure means to whoever started this program.
std::string advice_for(const Error& error) {
  if (error.code == EPERM) {
    return std::string(error.operation) == "setns" ? " (needs CAP_SYS_ADMIN)"
                                                   : " (needs CAP_NET_ADMIN)";
  }
  const std::string operation = error.operation;
  if (operation == "open(/dev/net/tun)") return " (load the module: modprobe tun)";
  if (operation == "ioctl(TUNSETIFF)" && error.code == EBUSY) {
    return " (an interface of that name exists: choose another with --tap, or remove it with "
           "'ip link del')";
  }
  if (operation == "socket(AF_VSOCK)") return " (no vsock in this kernel: modprobe vsock)";
  return "";
}

// Not through stdio: a pipe that nobody reads must not hold up the frames.
void print(const std::string& line) {
  pollfd standard_error{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&standard_error, 1, 0) != 1) return;
  const std::string whole = line + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, whole.data(), whole.size());
}

int failure(const Error& error, const std::string& what) {
  print("arca-tap: " + what + ": " + describe(error) + advice_for(error));
  return kExitFailure;
}

// Whether it was the network namespace that could not be entered.
bool is_namespace_error(const Error& error) {
  const std::string operation = error.operation;
  return operation == "setns" || operation == "open(network namespace)";
}

// Runs `work` in the namespace, and comes back: the stream belongs to the namespace that this
// program was started in.
template <typename Work>
Status in_netns(const std::string& netns, Work work) {
  if (netns.empty()) return work();
  UniqueFd own(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!own) return last_error("open(/proc/thread-self/ns/net)");
  const bool is_path = netns.find('/') != std::string::npos;
  const std::string path = is_path ? netns : "/run/netns/" + netns;
  UniqueFd target(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!target) return last_error("open(network namespace)");
  if (::setns(target.get(), CLONE_NEWNET) < 0) return last_error("setns");
  Status status = work();
  if (::setns(own.get(), CLONE_NEWNET) < 0) return last_error("setns");
  return status;
}

// The container's interface. Configured by the main thread before the engine runs, by the relay's
// home thread afterwards.
class ContainerInterface {
 public:
  ContainerInterface(Netlink netlink, int index, const InterfaceConfig& fixed)
      : netlink_(std::move(netlink)), index_(index), fixed_(fixed) {}

  // What is fixed, or a default that must be there from the start; and up.
  Status start() {
    LinkChange change;
    change.mac = fixed_.mac;
    change.mtu = fixed_.mtu.value_or(kDefaultMtu);
    change.up = true;
    if (Status status = netlink_.change_link(index_, change); !status.ok()) return status;
    // No gateway can be reached before there is an address: the relay tells it.
    InterfaceConfig first = fixed_;
    if (first.addresses.empty()) first.gateways.clear();
    return apply_addresses(first);
  }

  // What the relay says, where the command line did not fix it.
  Status apply(const InterfaceConfig& told) {
    if (!fixed_.mac && told.mac && told.mac != mac_) {
      if (Status status = change_mac(*told.mac); !status.ok()) return status;
    }
    if (!fixed_.mtu && told.mtu) {
      LinkChange change;
      change.mtu = *told.mtu;
      if (Status status = netlink_.change_link(index_, change); !status.ok()) return status;
    }
    InterfaceConfig wanted = told;
    if (!fixed_.addresses.empty()) wanted.addresses = fixed_.addresses;
    if (!fixed_.gateways.empty()) wanted.gateways = fixed_.gateways;
    return apply_addresses(wanted);
  }

  uint16_t mtu(const InterfaceConfig& told) const {
    return fixed_.mtu.value_or(told.mtu.value_or(kDefaultMtu));
  }

 private:
  // Down and up again: the kernel derives the IPv6 link-local address from the MAC when it goes up.
  Status change_mac(const MacAddress& mac) {
    LinkChange down;
    down.up = false;
    LinkChange up;
    up.mac = mac;
    up.up = true;
    if (Status status = netlink_.change_link(index_, down); !status.ok()) return status;
    if (Status status = netlink_.change_link(index_, up); !status.ok()) return status;
    mac_ = mac;
    return Done{};
  }

  // The relay may tell other addresses when it comes back: what it no longer tells is removed.
  Status apply_addresses(const InterfaceConfig& wanted) {
    for (const IpPrefix& old : addresses_) {
      const auto& list = wanted.addresses;
      if (std::find(list.begin(), list.end(), old) != list.end()) continue;
      Status status = netlink_.remove_address(index_, old);
      if (!status.ok() && status.error().code != EADDRNOTAVAIL) return status;
    }
    for (const IpPrefix& address : wanted.addresses) {
      if (Status status = netlink_.add_address(index_, address); !status.ok()) return status;
    }
    addresses_ = wanted.addresses;
    for (const IpAddress& gateway : wanted.gateways) {
      if (Status status = netlink_.set_default_route(index_, gateway); !status.ok()) return status;
    }
    return Done{};
  }

  Netlink netlink_;
  const int index_;
  const InterfaceConfig fixed_;
  std::optional<MacAddress> mac_;  // that the relay told
  std::vector<IpPrefix> addresses_;
};

std::string describe_peer(const Peer& peer) {
  if (peer.transport == Transport::kVsock) {
    return "CID " + std::to_string(peer.cid) + " port " + std::to_string(peer.port);
  }
  return "process " + std::to_string(peer.pid);
}

// Says what happens on standard error, applies what the relay tells, and wakes the main thread when
// the program is to end.
class Reporter final : public RelayObserver {
 public:
  Reporter(const Arguments& arguments, ContainerInterface& interface, int wakeup)
      : arguments_(arguments), interface_(interface), wakeup_(wakeup) {}

  void set_relay(Relay* relay) { relay_ = relay; }
  int exit_code() const { return exit_code_.load(); }

  void on_peer_connected(const Peer& peer, const Agreement& agreement) override {
    connected_ = true;
    say("connected to " + describe_peer(peer) + (agreement.plain ? " (plain)" : ""));
  }

  void on_hello(const Peer&, const Hello& hello, const Agreement&) override {
    const InterfaceConfig& told = hello.interface_config;
    if (Status status = interface_.apply(told); !status.ok()) {
      failure(status.error(), "what the relay told can't be applied to " + arguments_.tap);
      return;
    }
    relay_->set_mtu(interface_.mtu(told));
    for (const IpPrefix& address : told.addresses) say("address " + format_prefix(address));
    for (const IpAddress& dns : told.dns) say("name server " + format_ip(dns));
  }

  void on_peer_gone(const Peer&, const LinkEnd& end) override {
    std::string line = std::string("link ended: ") + link_end_word(end.kind);
    if (!end.detail.empty()) line += " (" + end.detail + ")";
    say(line);
  }

  void on_peer_refused(const Peer& peer, Refusal refusal) override {
    say("refused " + describe_peer(peer) + ": " + refusal_word(refusal));
  }

  void on_dial_failed(const Error& error) override {
    if (arguments_.once) {
      if (!connected_) failure(error, "can't connect to " + format_endpoint(*arguments_.connect));
      finish(connected_ ? kExitOk : kExitFailure);
      return;
    }
    say("can't connect to " + format_endpoint(*arguments_.connect) + ": " + describe(error) +
        advice_for(error) + "; trying again");
  }

  void on_tap_lost(int error) override {
    finish(failure({"interface", error}, arguments_.tap + " is gone"));
  }

 private:
  void say(const std::string& line) const {
    if (!arguments_.quiet) print("arca-tap: " + arguments_.tap + ": " + line);
  }

  void finish(int exit_code) {
    exit_code_.store(exit_code);
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wakeup_, &one, sizeof one);
  }

  const Arguments& arguments_;
  ContainerInterface& interface_;
  const int wakeup_;
  Relay* relay_ = nullptr;
  bool connected_ = false;
  std::atomic<int> exit_code_{kExitOk};
};

Status make_interface(const Arguments& arguments, std::optional<TapInterface>& tap,
                      std::optional<ContainerInterface>& interface) {
  return in_netns(arguments.netns, [&]() -> Status {
    Result<TapInterface> made = TapInterface::create(arguments.tap);
    if (!made.ok()) return made.error();
    Result<Netlink> netlink = Netlink::open();
    if (!netlink.ok()) return netlink.error();
    if (!made.value().tap.supports(arguments.offloads)) {
      return Error{"ioctl(TUNSETOFFLOAD) for UDP segmentation, which is Linux 6.2's", EINVAL};
    }
    tap.emplace(std::move(made.value()));
    interface.emplace(std::move(netlink.value()), tap->index, arguments.config);
    return interface->start();
  });
}

RelayOptions relay_options(const Arguments& arguments) {
  RelayOptions options;
  options.allowed_cids = arguments.peer_cids;
  options.dial_once = arguments.once;
  options.link.hello.largest_record = kLargestRecordPayload;
  options.link.hello.mtu = arguments.config.mtu;
  options.link.hello.mac = arguments.config.mac;
  options.link.mtu = arguments.config.mtu.value_or(kDefaultMtu);
  // The relay's switch decides what it sends, and the interface's own MTU follows it.
  options.link.receive_mtu = kMostMtu;
  options.link.allow_tagged = true;
  options.link.burst_size = arguments.burst_size;
  // The container's own stack is behind this TAP: it takes everything.
  options.link.offloads = arguments.offloads;
  return options;
}

// Waits for a signal or for the reporter; then for the second signal, which forces the end.
class Signals {
 public:
  static Result<Signals> block() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC));
    if (!fd) return last_error("signalfd");
    return Signals(std::move(fd));
  }

  enum class Woken { kSignal, kOther };
  Woken wait(int other) const {
    pollfd both[] = {{fd_.get(), POLLIN, 0}, {other, POLLIN, 0}};
    while (::poll(both, 2, -1) < 0) {
    }
    if ((both[0].revents & POLLIN) == 0) return Woken::kOther;
    signalfd_siginfo info;
    [[maybe_unused]] const ssize_t got = ::read(fd_.get(), &info, sizeof info);
    return Woken::kSignal;
  }

 private:
  explicit Signals(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

int run(const Arguments& arguments) {
  Result<Signals> signals = Signals::block();
  if (!signals.ok()) return failure(signals.error(), "can't wait for signals");
  UniqueFd finished(::eventfd(0, EFD_CLOEXEC));
  UniqueFd closed(::eventfd(0, EFD_CLOEXEC));
  if (!finished || !closed) return failure(last_error("eventfd"), "can't start");

  std::optional<TapInterface> tap;
  std::optional<ContainerInterface> interface;
  if (Status status = make_interface(arguments, tap, interface); !status.ok()) {
    return failure(status.error(), is_namespace_error(status.error())
                                       ? "can't enter network namespace '" + arguments.netns + "'"
                                       : "can't make interface " + arguments.tap);
  }
  Result<std::unique_ptr<Engine>> engine =
      Engine::start({.worker_count = default_worker_count(), .busy_poll = arguments.busy_poll});
  if (!engine.ok()) return failure(engine.error(), "can't start the engine");

  Reporter reporter(arguments, *interface, finished.get());
  Relay relay(*engine.value(), std::move(*tap), relay_options(arguments), reporter);
  reporter.set_relay(&relay);
  const Status started =
      arguments.listen ? relay.listen(*arguments.listen) : relay.dial(*arguments.connect);
  if (!started.ok()) {
    engine.value()->stop();
    return failure(started.error(), "can't listen on " + format_endpoint(*arguments.listen));
  }

  signals.value().wait(finished.get());
  relay.close([&closed] {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(closed.get(), &one, sizeof one);
  });
  if (signals.value().wait(closed.get()) == Signals::Woken::kSignal) ::_exit(kExitForced);
  engine.value()->stop();
  return reporter.exit_code();
}

}  // namespace
}  // namespace arca

int main(int argc, char** argv) {
  // Whoever read what we say may be gone; the network is not.
  ::signal(SIGPIPE, SIG_IGN);
  arca::Arguments arguments;
  if (const std::optional<int> exit_code = arca::parse_arguments(argc, argv, arguments)) {
    return *exit_code;
  }
  return arca::run(arguments);
}
