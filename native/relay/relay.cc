#include "relay/relay.h"

#include <algorithm>

namespace arca {
namespace {

constexpr std::chrono::milliseconds kFirstBackoff{10};
constexpr std::chrono::milliseconds kLongestBackoff{1000};
// How long accepting rests when the process has no descriptors left.
constexpr std::chrono::milliseconds kAcceptRest{100};

// What the peer is told of a link's end, where it can still read it.
GoodbyeReason goodbye_for(LinkEnd::Kind kind) {
  switch (kind) {
    case LinkEnd::Kind::kReplaced:
      return GoodbyeReason::kReplaced;
    case LinkEnd::Kind::kBreach:
      return GoodbyeReason::kBreach;
    case LinkEnd::Kind::kTapLost:
      return GoodbyeReason::kStopped;
    case LinkEnd::Kind::kEndOfStream:
    case LinkEnd::Kind::kReset:
    case LinkEnd::Kind::kGoodbye:
      break;
  }
  return GoodbyeReason::kUnspecified;
}

}  // namespace

const char* refusal_word(Refusal refusal) {
  switch (refusal) {
    case Refusal::kBusy:
      return "busy";
    case Refusal::kCidNotAllowed:
      return "cid-not-allowed";
  }
  return "unknown";
}

class Relay::Acceptor final : public EventHandler {
 public:
  Acceptor(Relay& relay, Listener listener) : relay_(relay), listener_(std::move(listener)) {}
  ~Acceptor() {
    relay_.loop().cancel(rest_timer_);
    relay_.loop().remove(listener_.fd(), this);
  }

  // Home thread.
  void start() {
    if (!relay_.loop().add(listener_.fd(), EPOLLIN, this).ok()) rest();
  }

  void on_events(uint32_t) override {
    Result<Listener::Accepted> accepted = listener_.accept();
    if (accepted.ok()) {
      relay_.take_accepted(std::move(accepted.value().fd), accepted.value().peer);
    } else if (accepted.error().code != EAGAIN) {
      rest();
    }
  }

 private:
  // EMFILE, ENFILE, ENOBUFS, ENOMEM: the peer stays in the queue, and the level-triggered listener
  // would spin.
  void rest() {
    relay_.loop().remove(listener_.fd(), this);
    rest_timer_ = relay_.loop().schedule(kAcceptRest, [this] { start(); });
  }

  Relay& relay_;
  Listener listener_;
  EventLoop::TimerId rest_timer_ = 0;
};

class Relay::Dialler final : public EventHandler {
 public:
  Dialler(Relay& relay, const Endpoint& endpoint) : relay_(relay), endpoint_(endpoint) {}
  ~Dialler() {
    relay_.loop().cancel(timer_);
    if (fd_) relay_.loop().remove(fd_.get(), this);
  }

  void start() {
    Result<UniqueFd> started = start_connect(endpoint_);
    if (!started.ok()) return fail(started.error());
    fd_ = std::move(started.value());
    if (Status status = relay_.loop().add(fd_.get(), EPOLLOUT, this); !status.ok()) {
      fd_.reset();
      fail(status.error());
    }
  }

  void on_events(uint32_t) override {
    relay_.loop().remove(fd_.get(), this);
    UniqueFd fd = std::move(fd_);
    if (Status status = finish_connect(fd.get()); !status.ok()) return fail(status.error());
    last_error_ = 0;
    linked_at_ = EventLoop::Clock::now();
    const Peer peer = peer_of(endpoint_, fd.get());
    relay_.start_link(std::move(fd), peer);
  }

  // After a link that was worth its name the next dial may come soon; a listener that refuses us
  // is not to be hammered.
  void dial_after_link() {
    if (EventLoop::Clock::now() - linked_at_ > kLongestBackoff) backoff_ = kFirstBackoff;
    dial_again();
  }

 private:
  void dial_again() {
    timer_ = relay_.loop().schedule(backoff_, [this] { start(); });
    backoff_ = std::min(backoff_ * 2, kLongestBackoff);
  }

  void fail(const Error& error) {
    const bool is_news = error.code != last_error_ || relay_.options_.dial_once;
    last_error_ = error.code;
    if (!relay_.options_.dial_once) dial_again();
    if (is_news) relay_.observer_.on_dial_failed(error);
  }

  Relay& relay_;
  const Endpoint endpoint_;
  UniqueFd fd_;
  EventLoop::TimerId timer_ = 0;
  std::chrono::milliseconds backoff_ = kFirstBackoff;
  EventLoop::Clock::time_point linked_at_;
  int last_error_ = 0;
};

// The TAP's readiness for the link, and its loss for the relay: also while there is no peer, or one
// that does not read. Edge-triggered, so that a TAP that nobody reads wakes nobody.
class Relay::TapWatch final : public EventHandler {
 public:
  TapWatch(Relay& relay, int tap) : relay_(relay), tap_(tap) {}
  ~TapWatch() { relay_.loop().remove(tap_, this); }

  // Home thread.
  void start() {
    const Status status = relay_.loop().add(tap_, EPOLLIN | EPOLLET, this);
    if (!status.ok()) relay_.lose_tap(status.error().code);
  }

  void on_events(uint32_t events) override {
    if ((events & EPOLLERR) != 0) {
      relay_.on_tap_deleted();
    } else if (relay_.link_) {
      relay_.link_->on_tap_ready();
    }
  }

 private:
  Relay& relay_;
  const int tap_;
};

Relay::Relay(Engine& engine, TapInterface interface, const RelayOptions& options,
             RelayObserver& observer)
    : Relay(engine.place(), std::move(interface), options, observer) {}

Relay::Relay(Engine::Placement placement, TapInterface interface, const RelayOptions& options,
             RelayObserver& observer)
    : home_(placement.home),
      other_(placement.other),
      tap_(std::move(interface.tap)),
      netlink_(std::move(interface.netlink)),
      index_(interface.index),
      options_(options),
      observer_(observer),
      tap_watch_(std::make_unique<TapWatch>(*this, tap_->fd())) {
  loop().post([this] { tap_watch_->start(); });
}

Relay::~Relay() = default;

Status Relay::listen(const Endpoint& endpoint) {
  if (serving_) return Error{"listen", EALREADY};
  Result<Listener> listener = Listener::open(endpoint);
  if (!listener.ok()) return listener.error();
  auto acceptor = std::make_unique<Acceptor>(*this, std::move(listener.value()));
  Acceptor* raw = acceptor.get();
  const bool posted = loop().post([this, raw] {
    acceptor_.reset(raw);
    raw->start();
  });
  if (!posted) return Error{"listen", ESHUTDOWN};
  acceptor.release();
  serving_ = true;
  return Done{};
}

Status Relay::dial(const Endpoint& endpoint) {
  if (serving_) return Error{"dial", EALREADY};
  loop().post([this, endpoint] {
    dialler_ = std::make_unique<Dialler>(*this, endpoint);
    dialler_->start();
  });
  serving_ = true;
  return Done{};
}

void Relay::set_offloads(Offloads offloads) {
  loop().post([this, offloads] {
    options_.link.offloads = offloads;
    if (link_ && !link_closing_) link_->set_offloads(offloads);
  });
}

void Relay::close(std::function<void()> closed) {
  loop().post([this, closed = std::move(closed)]() mutable {
    closed_ = std::move(closed);
    acceptor_.reset();
    dialler_.reset();
    successor_.reset();
    if (link_) {
      close_link(GoodbyeReason::kStopped);
    } else {
      finish_close();
    }
  });
}

const LinkStatistics& Relay::tap_statistics() {
  Result<LinkStatistics> read = netlink_.statistics(index_);
  if (read.ok()) tap_statistics_ = read.value();
  return tap_statistics_;
}

void Relay::set_mtu(size_t mtu) {
  options_.link.mtu = mtu;
  if (link_) link_->set_mtu(mtu);
}

void Relay::take_accepted(UniqueFd fd, const Peer& peer) {
  const std::vector<uint32_t>& allowed = options_.allowed_cids;
  if (peer.transport == Transport::kVsock && !allowed.empty() &&
      std::find(allowed.begin(), allowed.end(), peer.cid) == allowed.end()) {
    counters_.refused_cid.add();
    observer_.on_peer_refused(peer, Refusal::kCidNotAllowed);
    return;
  }
  const bool taken = link_ && (!link_closing_ || successor_);
  if (taken && !options_.replace_second_peer) {
    counters_.refused_busy.add();
    observer_.on_peer_refused(peer, Refusal::kBusy);
    return;
  }
  if (!link_) {
    start_link(std::move(fd), peer);
    return;
  }
  // The old link is on its way out; the newest peer takes over.
  successor_ = Waiting{std::move(fd), peer};
  link_->end(LinkEnd::of(LinkEnd::Kind::kReplaced, "by another peer"));
}

void Relay::start_link(UniqueFd fd, const Peer& peer) {
  if (tap_lost_) return;
  link_ = std::make_unique<Link>(std::move(fd), peer, *tap_, options_.link, counters_, home_,
                                 other_, *this);
  link_closing_ = false;
  counters_.peers_connected.add();
  counters_.peer_up.store(true, std::memory_order_relaxed);
  set_carrier(true);
  link_->start();
}

void Relay::on_known(const Agreement& agreement) {
  observer_.on_peer_connected(link_->peer(), agreement);
}

void Relay::on_hello(const Hello& hello, const Agreement& agreement) {
  set_tap_offloads(agreement.offloads);
  if (tap_lost_) return;
  observer_.on_hello(link_->peer(), hello, agreement);
}

void Relay::on_end(const LinkEnd& end) {
  if (link_closing_) return;
  if (end.kind == LinkEnd::Kind::kBreach) {
    counters_.breaches[static_cast<size_t>(end.breach)].add();
  }
  observer_.on_peer_gone(link_->peer(), end);
  if (end.kind == LinkEnd::Kind::kTapLost) lose_tap(end.error);
  close_link(goodbye_for(end.kind));
}

void Relay::close_link(GoodbyeReason reason) {
  if (std::exchange(link_closing_, true)) return;
  link_->close(reason);
}

void Relay::on_closed() {
  link_.reset();
  link_closing_ = false;
  counters_.peer_up.store(false, std::memory_order_relaxed);
  if (closed_) {
    finish_close();
    return;
  }
  if (tap_lost_) return;
  // A plain peer may be next: the kernel must segment for it again.
  set_tap_offloads(kOffloadNone);
  if (successor_) {
    Waiting next = std::move(*successor_);
    successor_.reset();
    start_link(std::move(next.fd), next.peer);
    return;
  }
  set_carrier(false);
  if (tap_lost_ || !dialler_) return;
  if (options_.dial_once) {
    observer_.on_dial_failed({"link", ECONNRESET});
  } else {
    dialler_->dial_after_link();
  }
}

void Relay::set_carrier(bool up) {
  if (Status status = tap_->set_carrier(up); !status.ok()) lose_tap(status.error().code);
}

void Relay::set_tap_offloads(Offloads offloads) {
  if (offloads == tap_offloads_) return;
  tap_offloads_ = offloads;
  if (Status status = tap_->set_offloads(offloads); !status.ok()) lose_tap(status.error().code);
}

void Relay::lose_tap(int error) {
  if (std::exchange(tap_lost_, true)) return;
  observer_.on_tap_lost(error);
}

void Relay::on_tap_deleted() {
  if (link_ && !link_closing_) {
    link_->end(LinkEnd::of_errno(LinkEnd::Kind::kTapLost, EBADFD));
  } else {
    lose_tap(EBADFD);
  }
}

void Relay::finish_close() {
  tap_watch_.reset();
  tap_.reset();
  // The caller may destroy the relay as soon as it hears of it.
  const std::function<void()> closed = std::move(closed_);
  closed();
}

}  // namespace arca
