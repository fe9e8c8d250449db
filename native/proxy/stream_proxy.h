// Lets callers of one socket speak to another: of a vsock port to a Unix socket.
//
// Theory of operation. One thread with an event loop owns the listener and every connection. A
// caller is judged before a byte of it is read: by its CID, by how many there are already, and by
// whether the target answers. Only start(), stop() and counters() belong to other threads.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/event_loop.h"
#include "io/stream_socket.h"
#include "proxy/connection.h"

namespace arca {

struct StreamProxyOptions {
  Endpoint listen;
  std::string target_path;             // a Unix socket
  std::vector<uint32_t> allowed_cids;  // of vsock callers; nobody else is let in
  size_t most_connections = 64;
};

enum class ProxyRefusal : uint8_t { kBusy, kCidNotAllowed, kTargetUnreachable };
inline constexpr size_t kProxyRefusalCount = 3;
const char* refusal_word(ProxyRefusal refusal);

bool may_call(const Peer& peer, const std::vector<uint32_t>& allowed_cids);

// Each has one writer and is read from any thread.
struct StreamProxyCounters {
  std::atomic<uint64_t> open{0};
  std::atomic<uint64_t> accepted{0};
  std::array<std::atomic<uint64_t>, kProxyRefusalCount> refused{};
  std::atomic<uint64_t> bytes_to_target{0};
  std::atomic<uint64_t> bytes_from_target{0};
};

// Told on the proxy's thread, at most once a second for each refusal and once for failed accepts,
// with how many there were since: a caller must not be able to flood whoever listens here.
class StreamProxyObserver {
 public:
  // `peer` and `error` are those of the latest. No error: the refusal says it all.
  virtual void on_refused(ProxyRefusal refusal, const Peer& peer, const Error& error,
                          uint64_t count) = 0;
  // Without descriptors or memory callers wait, and it is tried again.
  virtual void on_accept_failed(const Error& error, uint64_t count) = 0;

 protected:
  ~StreamProxyObserver() = default;
};

class StreamProxy final : public ConnectionObserver {
 public:
  // Listens from then on. The errors are those of Listener::open. The observer must outlive it.
  static Result<std::unique_ptr<StreamProxy>> start(const StreamProxyOptions& options,
                                                    StreamProxyObserver& observer);
  ~StreamProxy();

  StreamProxy(const StreamProxy&) = delete;
  StreamProxy& operator=(const StreamProxy&) = delete;

  // Closes everything and joins the thread. Not from that thread. Twice is fine.
  void stop();

  const StreamProxyCounters& counters() const { return counters_; }

 private:
  class Acceptor;

  // What is told at most once a second.
  struct Report {
    uint64_t count = 0;  // since it was told
    std::function<void(uint64_t count)> tell;
    bool resting = false;
  };

  StreamProxy(UniqueFd epoll, UniqueFd wakeup, Listener listener, const StreamProxyOptions& options,
              StreamProxyObserver& observer);

  // The proxy's thread, all below.
  void on_bytes(uint64_t to_target, uint64_t from_target) override;
  void on_over(Connection& connection) override;

  void take_accepted(Listener::Accepted accepted);
  void refuse(ProxyRefusal refusal, const Peer& peer, const Error& error);
  void report_accept_failure(const Error& error);
  void report(Report& report, std::function<void(uint64_t count)> tell);
  void tell(Report& report);

  EventLoop loop_;
  const StreamProxyOptions options_;
  StreamProxyObserver& observer_;
  StreamProxyCounters counters_;
  std::vector<uint8_t> scratch_;
  std::array<Report, kProxyRefusalCount> refusal_reports_;
  Report accept_report_;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::thread thread_;
};

}  // namespace arca
