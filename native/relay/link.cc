#include "relay/link.h"

#include <fcntl.h>
#include <sys/random.h>

#include <algorithm>

namespace arca {
namespace {

// A peer that has said nothing for so long is told as plain. Frames move from the start.
constexpr std::chrono::milliseconds kKnownAfter{200};

// HELLOs and pings of a peer that says them faster are answered at this pace, the latest of each.
constexpr std::chrono::milliseconds kMailEvery{20};

uint64_t draw_nonce() {
  uint64_t nonce = 0;
  // Never fails for so few bytes once the system has booted (getrandom(2)).
  if (::getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) nonce = 1;
  return nonce;
}

size_t burst_size_of(const LinkOptions& options, Transport transport) {
  if (options.burst_size == 0) return default_burst_size(transport);
  return std::min(options.burst_size, kLargestBurst);
}

size_t expected_frame(size_t mtu) { return mtu + kEthernetHeaderSize + kVlanTagSize; }

ReceivePolicy receive_policy(const LinkOptions& options, const Hello& hello) {
  return {.limits = {.largest_payload = kLargestRecordPayload, .accepts = hello.accepts},
          .deliverable = hello.accepts,
          .mtu = options.receive_mtu,
          .allow_tagged = options.allow_tagged,
          .own_nonce = hello.nonce};
}

}  // namespace

const char* link_end_word(LinkEnd::Kind kind) {
  switch (kind) {
    case LinkEnd::Kind::kEndOfStream:
      return "end-of-stream";
    case LinkEnd::Kind::kReset:
      return "reset";
    case LinkEnd::Kind::kBreach:
      return "breach";
    case LinkEnd::Kind::kGoodbye:
      return "goodbye";
    case LinkEnd::Kind::kReplaced:
      return "replaced";
    case LinkEnd::Kind::kTapLost:
      return "tap-lost";
  }
  return "unknown";
}

LinkEnd LinkEnd::of(Kind kind, std::string detail) {
  LinkEnd end;
  end.kind = kind;
  end.detail = std::move(detail);
  return end;
}

LinkEnd LinkEnd::of_errno(Kind kind, int error) {
  LinkEnd end = of(kind, error_name(error));
  end.error = error;
  return end;
}

LinkEnd LinkEnd::of_breach(Breach breach) {
  LinkEnd end = of(Kind::kBreach, breach_word(breach));
  end.breach = breach;
  return end;
}

// TAP to stream, on the home worker. The relay watches the TAP, edge-triggered: while the stream is
// full its readiness must not wake anybody, and a turn always ends with an empty TAP, a full
// stream, or the wish for another turn. The stream is watched only while it is full.
class Link::Sender final : public EventHandler, public Runnable {
 public:
  Sender(Link& link, TapDevice& tap, DirectionCounters& counters)
      : link_(link), pump_(tap, link.stream_, counters) {}

  TapToStream& pump() { return pump_; }

  Status start() {
    EventLoop& loop = link_.home_.loop();
    // An epoll takes a descriptor once: where the receiver has the same worker, we watch a copy.
    if (&link_.home_ == &link_.other_) {
      copy_.reset(::fcntl(link_.stream_.fd(), F_DUPFD_CLOEXEC, 0));
      if (!copy_) return last_error("fcntl(F_DUPFD_CLOEXEC)");
    }
    if (Status status = loop.add(stream_fd(), EPOLLONESHOT, this); !status.ok()) return status;
    running_ = true;
    loop.run_soon(this);
    return Done{};
  }

  void stop() {
    if (!std::exchange(running_, false)) return;
    EventLoop& loop = link_.home_.loop();
    loop.remove(stream_fd(), this);
    loop.forget(this);
  }

  void on_events(uint32_t) override { run(); }
  void run_again() override { run(); }

 private:
  void run() {
    if (!running_) return;
    switch (pump_.run(link_.home_.buffer())) {
      case SendProgress::kIdle:
        break;
      case SendProgress::kMore:
        link_.home_.loop().run_soon(this);
        break;
      case SendProgress::kBlocked:
        if (Status status = link_.home_.loop().modify(stream_fd(), EPOLLOUT | EPOLLONESHOT, this);
            !status.ok()) {
          link_.end(LinkEnd::of_errno(LinkEnd::Kind::kReset, status.error().code));
        }
        break;
      case SendProgress::kStreamGone:
        link_.end(LinkEnd::of_errno(LinkEnd::Kind::kReset, pump_.error()));
        break;
      case SendProgress::kTapGone:
        link_.end(LinkEnd::of_errno(LinkEnd::Kind::kTapLost, pump_.error()));
        break;
    }
  }

  int stream_fd() const { return copy_ ? copy_.get() : link_.stream_.fd(); }

  Link& link_;
  UniqueFd copy_;
  TapToStream pump_;
  bool running_ = false;
};

// Stream to TAP, on the other worker.
class Link::Receiver final : public EventHandler {
 public:
  Receiver(Link& link, TapDevice& tap, const ReceivePolicy& policy, DirectionCounters& counters)
      : link_(link), pump_(link.stream_, tap, policy, counters, link) {}

  StreamToTap& pump() { return pump_; }

  void start() {
    const Status status = link_.other_.loop().add(link_.stream_.fd(), EPOLLIN, this);
    if (status.ok()) {
      running_ = true;
    } else {
      tell_end(LinkEnd::of_errno(LinkEnd::Kind::kReset, status.error().code));
    }
  }

  void stop() {
    if (!std::exchange(running_, false)) return;
    link_.other_.loop().remove(link_.stream_.fd(), this);
  }

  void on_events(uint32_t) override {
    switch (pump_.run(link_.other_.buffer())) {
      case ReceiveProgress::kIdle:
        return;
      case ReceiveProgress::kEndOfStream:
        tell_end(LinkEnd::of(LinkEnd::Kind::kEndOfStream,
                             pump_.has_unfinished() ? "inside a record" : ""));
        break;
      case ReceiveProgress::kStreamGone:
        tell_end(LinkEnd::of_errno(LinkEnd::Kind::kReset, pump_.error()));
        break;
      case ReceiveProgress::kBreach:
        tell_end(LinkEnd::of_breach(pump_.breach()));
        break;
      case ReceiveProgress::kTapGone:
        tell_end(LinkEnd::of_errno(LinkEnd::Kind::kTapLost, pump_.error()));
        break;
    }
    stop();
  }

 private:
  void tell_end(const LinkEnd& end) {
    link_.post_home([link = &link_, end] { link->end(end); });
  }

  Link& link_;
  StreamToTap pump_;
  bool running_ = false;
};

Link::Link(UniqueFd stream, const Peer& peer, TapDevice& tap, const LinkOptions& options,
           RelayCounters& counters, Worker& home, Worker& other, LinkObserver& observer)
    : stream_(std::move(stream)),
      peer_(peer),
      options_(options),
      home_(home),
      other_(other),
      observer_(observer),
      hello_(options.hello) {
  hello_.nonce = draw_nonce();
  hello_.accepts = options.offloads;
  agreement_.largest_payload = kLargestRecordPayload;
  agreement_.burst_size = burst_size_of(options, peer.transport);
  sender_ = std::make_unique<Sender>(*this, tap, counters.tap_to_stream);
  receiver_ = std::make_unique<Receiver>(*this, tap, receive_policy(options, hello_),
                                         counters.stream_to_tap);
}

Link::~Link() = default;

void Link::start() {
  TapToStream& pump = sender_->pump();
  pump.set_policy({.burst_size = agreement_.burst_size,
                   .one_frame_per_send = options_.burst_size == 1,
                   .offloads = agreement_.offloads,
                   .largest_payload = agreement_.largest_payload,
                   .expected_frame = expected_frame(options_.mtu)});
  pump.queue_hello(encode_hello(hello_));
  if (Status status = sender_->start(); !status.ok()) {
    end(LinkEnd::of_errno(LinkEnd::Kind::kReset, status.error().code));
    return;
  }
  known_timer_ = home_.loop().schedule(kKnownAfter, [this] { become_known(); });
  other_.loop().post([receiver = receiver_.get()] { receiver->start(); });
}

void Link::on_tap_ready() { sender_->run_again(); }

void Link::set_mtu(size_t mtu) {
  SendPolicy policy = sender_->pump().policy();
  policy.expected_frame = expected_frame(mtu);
  sender_->pump().set_policy(policy);
}

// A task of the other worker, on its way home. The link lives until pump_removed, which is posted
// after every such task.
void Link::post_home(std::function<void()> task) { home_.loop().post(std::move(task)); }

template <typename Write>
void Link::leave_mail(Write write) {
  {
    const std::lock_guard lock(mail_mutex_);
    write(mail_);
    if (std::exchange(mail_waits_, true)) return;
  }
  post_home([this] { read_mail(); });
}

void Link::on_first_frame() {
  leave_mail([](Mail& mail) { mail.first_frame = true; });
}

void Link::on_hello(const Hello& hello) {
  leave_mail([&hello](Mail& mail) { mail.hello = hello; });
}

void Link::on_control(const Control& control) {
  if (control.ping) {
    leave_mail([&control](Mail& mail) { mail.ping = control.ping; });
  }
  if (control.goodbye && !std::exchange(goodbye_seen_, true)) {
    const Goodbye& goodbye = *control.goodbye;
    std::string detail = goodbye_word(goodbye.reason);
    if (!goodbye.detail.empty()) detail += ": " + goodbye.detail;
    post_home([this, detail] { end(LinkEnd::of(LinkEnd::Kind::kGoodbye, detail)); });
  }
}

void Link::read_mail() {
  if (ended_ || closing_) return;
  const EventLoop::Clock::time_point now = EventLoop::Clock::now();
  if (now < next_mail_at_) {
    mail_timer_ = home_.loop().schedule(
        std::chrono::ceil<std::chrono::milliseconds>(next_mail_at_ - now), [this] { read_mail(); });
    return;
  }
  next_mail_at_ = now + kMailEvery;
  Mail mail;
  {
    const std::lock_guard lock(mail_mutex_);
    std::swap(mail, mail_);
    mail_waits_ = false;
  }
  if (mail.hello) take_hello(*mail.hello);
  if (mail.first_frame) become_known();
  if (mail.ping) answer_ping(*mail.ping);
}

void Link::become_known() {
  if (known_ || ended_ || closing_) return;
  known_ = true;
  home_.loop().cancel(known_timer_);
  observer_.on_known(agreement_);
}

void Link::take_hello(const Hello& hello) {
  if (ended_ || closing_) return;
  peer_hello_ = hello;
  agreement_.plain = false;
  agree();
  become_known();
  observer_.on_hello(hello, agreement_);
  if (std::exchange(hello_due_, false)) say_hello();
}

// What this end sends from now on, given what the peer said last.
void Link::agree() {
  agreement_.offloads = peer_hello_.accepts & options_.offloads;
  // The kernel can leave segmentation undone only where it may leave checksums undone.
  if ((agreement_.offloads & kOffloadChecksum) == 0) agreement_.offloads = kOffloadNone;
  agreement_.peer_mtu = peer_hello_.mtu;
  agreement_.peer_mac = peer_hello_.mac;
  // Below the smallest that is useful it is nonsense, and would drop every frame.
  agreement_.largest_payload = kLargestRecordPayload;
  if (peer_hello_.largest_record != 0) {
    agreement_.largest_payload =
        std::clamp(size_t{peer_hello_.largest_record}, kSmallestHelloFrame, kLargestRecordPayload);
  }
  agreement_.burst_size = burst_size_of(options_, peer_.transport);
  if (peer_hello_.largest_burst != 0) {
    const size_t least = std::min(kSmallestHelloFrame, agreement_.burst_size);
    agreement_.burst_size =
        std::clamp(size_t{peer_hello_.largest_burst}, least, agreement_.burst_size);
  }

  SendPolicy policy = sender_->pump().policy();
  policy.burst_size = agreement_.burst_size;
  policy.offloads = agreement_.offloads;
  policy.largest_payload = agreement_.largest_payload;
  sender_->pump().set_policy(policy);
}

void Link::set_offloads(Offloads offloads) {
  if (ended_ || closing_) return;
  options_.offloads = offloads;
  hello_.accepts = offloads;
  if (!agreement_.plain) {
    agree();
    observer_.on_hello(peer_hello_, agreement_);
  }
  // The receiver first: the peer may use what it is told at once.
  other_.loop().post([this, offloads] {
    receiver_->pump().set_deliverable(offloads);
    post_home([this] { say_hello(); });
  });
}

void Link::say_hello() {
  if (ended_ || closing_) return;
  hello_due_ = agreement_.plain;
  if (hello_due_) return;
  sender_->pump().queue_hello(encode_hello(hello_));
  sender_->run_again();
}

void Link::answer_ping(uint64_t cookie) {
  if (ended_ || closing_ || agreement_.plain) return;
  const std::vector<uint8_t> pong = encode_control({.ping = {}, .pong = cookie, .goodbye = {}});
  if (sender_->pump().queue_record(RecordType::kControl, pong)) sender_->run_again();
}

void Link::end(const LinkEnd& end) {
  if (ended_ || closing_) return;
  ended_ = true;
  sender_->stop();
  // A link that ends before its peer was known is told as that of a plain one first.
  if (!known_) {
    known_ = true;
    observer_.on_known(agreement_);
  }
  observer_.on_end(end);
}

void Link::say_goodbye(GoodbyeReason reason) {
  if (agreement_.plain) return;
  const Goodbye goodbye{.reason = reason, .detail = {}};
  const std::vector<uint8_t> payload = encode_control({.ping = {}, .pong = {}, .goodbye = goodbye});
  // Only between records, and only if the stream takes it: the link does not wait for its peer.
  if (sender_->pump().owned_bytes() > 0) return;
  std::vector<uint8_t> record(kRecordHeaderSize + payload.size());
  encode_record_header(RecordType::kControl, payload.size(), record.data());
  std::copy(payload.begin(), payload.end(), record.begin() + kRecordHeaderSize);
  stream_.send(record);
}

void Link::close(GoodbyeReason reason) {
  say_goodbye(reason);
  closing_ = true;
  home_.loop().cancel(known_timer_);
  home_.loop().cancel(mail_timer_);
  sender_->stop();
  // `other` stops only after every relay is closed (Engine), so this is never refused.
  other_.loop().post([this] {
    receiver_->stop();
    post_home([this] { pump_removed(); });
  });
}

void Link::pump_removed() { observer_.on_closed(); }

}  // namespace arca
