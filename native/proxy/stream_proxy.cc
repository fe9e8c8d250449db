#include "proxy/stream_proxy.h"

#include <algorithm>
#include <csignal>

namespace arca {
namespace {

// How long accepting rests when the process has no descriptors left.
constexpr std::chrono::milliseconds kAcceptRest{100};
constexpr std::chrono::milliseconds kReportEvery{1000};

void add(std::atomic<uint64_t>& counter, uint64_t amount) {
  counter.fetch_add(amount, std::memory_order_relaxed);
}

}  // namespace

const char* refusal_word(ProxyRefusal refusal) {
  switch (refusal) {
    case ProxyRefusal::kBusy:
      return "busy";
    case ProxyRefusal::kCidNotAllowed:
      return "cid-not-allowed";
    case ProxyRefusal::kTargetUnreachable:
      return "target-unreachable";
  }
  return "unknown";
}

bool may_call(const Peer& peer, const std::vector<uint32_t>& allowed_cids) {
  return peer.transport != Transport::kVsock ||
         std::find(allowed_cids.begin(), allowed_cids.end(), peer.cid) != allowed_cids.end();
}

class StreamProxy::Acceptor final : public EventHandler {
 public:
  Acceptor(StreamProxy& proxy, Listener listener) : proxy_(proxy), listener_(std::move(listener)) {}

  void start() {
    if (Status status = proxy_.loop_.add(listener_.fd(), EPOLLIN, this); !status.ok()) {
      rest(status.error());
    }
  }

  void on_events(uint32_t) override {
    Result<Listener::Accepted> accepted = listener_.accept();
    if (accepted.ok()) {
      proxy_.take_accepted(std::move(accepted.value()));
    } else if (accepted.error().code != EAGAIN) {
      rest(accepted.error());
    }
  }

 private:
  // EMFILE, ENFILE, ENOBUFS, ENOMEM: the caller stays in the queue, and the level-triggered
  // listener would spin.
  void rest(const Error& error) {
    proxy_.loop_.remove(listener_.fd(), this);
    proxy_.loop_.schedule(kAcceptRest, [this] { start(); });
    proxy_.report_accept_failure(error);
  }

  StreamProxy& proxy_;
  Listener listener_;
};

Result<std::unique_ptr<StreamProxy>> StreamProxy::start(const StreamProxyOptions& options,
                                                        StreamProxyObserver& observer) {
  Result<UniqueFd> epoll = EventLoop::make_epoll();
  if (!epoll.ok()) return epoll.error();
  Result<UniqueFd> wakeup = EventLoop::make_wakeup();
  if (!wakeup.ok()) return wakeup.error();
  Result<Listener> listener = Listener::open(options.listen);
  if (!listener.ok()) return listener.error();
  std::unique_ptr<StreamProxy> proxy(
      new StreamProxy(std::move(epoll.value()), std::move(wakeup.value()),
                      std::move(listener.value()), options, observer));
  // Signals are the main thread's business.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  proxy->thread_ = std::thread([&loop = proxy->loop_] { loop.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return proxy;
}

StreamProxy::StreamProxy(UniqueFd epoll, UniqueFd wakeup, Listener listener,
                         const StreamProxyOptions& options, StreamProxyObserver& observer)
    : loop_(std::move(epoll), std::move(wakeup)),
      options_(options),
      observer_(observer),
      scratch_(default_burst_size(Transport::kVsock)),
      acceptor_(std::make_unique<Acceptor>(*this, std::move(listener))) {
  loop_.post([this] { acceptor_->start(); });
}

StreamProxy::~StreamProxy() { stop(); }

void StreamProxy::stop() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
  // Nothing runs that could touch them.
  acceptor_.reset();
  connections_.clear();
  counters_.open.store(0, std::memory_order_relaxed);
}

void StreamProxy::take_accepted(Listener::Accepted accepted) {
  const Peer& peer = accepted.peer;
  if (!may_call(peer, options_.allowed_cids)) return refuse(ProxyRefusal::kCidNotAllowed, peer, {});
  if (connections_.size() >= options_.most_connections) {
    return refuse(ProxyRefusal::kBusy, peer, {});
  }
  Result<UniqueFd> target =
      start_connect({.transport = Transport::kUnix, .path = options_.target_path});
  // A Unix socket is connected or refused at once (unix(7)); EAGAIN is its full queue.
  if (!target.ok()) return refuse(ProxyRefusal::kTargetUnreachable, peer, target.error());

  auto connection = std::make_unique<Connection>(loop_, scratch_, *this, std::move(accepted.fd),
                                                 std::move(target.value()));
  if (Status status = connection->start(); !status.ok()) {
    return report_accept_failure(status.error());
  }
  connections_.push_back(std::move(connection));
  add(counters_.accepted, 1);
  counters_.open.store(connections_.size(), std::memory_order_relaxed);
}

void StreamProxy::on_bytes(uint64_t to_target, uint64_t from_target) {
  add(counters_.bytes_to_target, to_target);
  add(counters_.bytes_from_target, from_target);
}

void StreamProxy::on_over(Connection& connection) {
  std::erase_if(connections_, [&](const auto& one) { return one.get() == &connection; });
  counters_.open.store(connections_.size(), std::memory_order_relaxed);
}

void StreamProxy::refuse(ProxyRefusal refusal, const Peer& peer, const Error& error) {
  add(counters_.refused[static_cast<size_t>(refusal)], 1);
  report(refusal_reports_[static_cast<size_t>(refusal)],
         [this, refusal, peer, error](uint64_t count) {
           observer_.on_refused(refusal, peer, error, count);
         });
}

void StreamProxy::report_accept_failure(const Error& error) {
  report(accept_report_,
         [this, error](uint64_t count) { observer_.on_accept_failed(error, count); });
}

void StreamProxy::report(Report& report, std::function<void(uint64_t count)> tell) {
  ++report.count;
  report.tell = std::move(tell);
  if (!report.resting) this->tell(report);
}

void StreamProxy::tell(Report& report) {
  report.resting = report.count > 0;
  if (!report.resting) return;
  report.tell(std::exchange(report.count, 0));
  loop_.schedule(kReportEvery, [this, &report] { this->tell(report); });
}

}  // namespace arca
