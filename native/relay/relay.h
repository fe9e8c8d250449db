// One attachment: a TAP and the peers that come and go.
//
// Theory of operation. The relay owns the TAP for as long as it lives; a peer has it for the time
// of its link. Peers are accepted from a listener or dialled, one at a time. Carrier follows the
// peer. All state belongs to the home worker's thread; the owner's calls post to it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/endpoint.h"
#include "io/stream_socket.h"
#include "io/tap_interface.h"
#include "relay/counters.h"
#include "relay/engine.h"
#include "relay/link.h"

namespace arca {

struct RelayOptions {
  std::vector<uint32_t> allowed_cids;  // empty: any. Asked of vsock peers that connect
  bool replace_second_peer = false;    // else a second peer is refused
  bool dial_once = false;              // a dialler gives up with its first failure or lost link
  LinkOptions link;
};

enum class Refusal : uint8_t { kBusy, kCidNotAllowed };
const char* refusal_word(Refusal refusal);

// Told on the home worker's thread, in the order in which it happened. Must not block.
class RelayObserver {
 public:
  virtual void on_peer_connected(const Peer& peer, const Agreement& agreement) = 0;
  // A HELLO; after on_peer_connected.
  virtual void on_hello(const Peer& peer, const Hello& hello, const Agreement& agreement) = 0;
  virtual void on_peer_gone(const Peer& peer, const LinkEnd& end) = 0;
  virtual void on_peer_refused(const Peer& peer, Refusal refusal) = 0;
  // When the reason changes, not at each try; with dial_once also when a link was lost.
  virtual void on_dial_failed(const Error& error) = 0;
  virtual void on_tap_lost(int error) = 0;

 protected:
  ~RelayObserver() = default;
};

class Relay final : public LinkObserver {
 public:
  // The observer must outlive the relay.
  Relay(Engine& engine, TapInterface interface, const RelayOptions& options,
        RelayObserver& observer);
  ~Relay();

  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Owner's thread. One of the two, once: EALREADY. After an error both may be tried again.
  Status listen(const Endpoint& endpoint);
  Status dial(const Endpoint& endpoint);
  // What is behind the TAP takes these offloads from now on; a peer is told.
  void set_offloads(Offloads offloads);
  // `closed` runs on the home thread when listener, link and TAP are closed and nothing will be
  // told any more. Once.
  void close(std::function<void()> closed);

  // Home thread, from within an observer's call: the TAP has another MTU now (bytes, L3).
  void set_mtu(size_t mtu);

  // Any thread.
  const RelayCounters& counters() const { return counters_; }
  // What writes batches of frames to the TAP.
  const WriteRing& write_ring() const { return other_.buffer().ring(); }
  // Owner's thread, before close(). A device that was deleted has none any more: the last ones
  // stay.
  const LinkStatistics& tap_statistics();
  int index() const { return index_; }

 private:
  class Acceptor;
  class Dialler;
  class TapWatch;

  Relay(Engine::Placement placement, TapInterface interface, const RelayOptions& options,
        RelayObserver& observer);

  // LinkObserver
  void on_known(const Agreement& agreement) override;
  void on_hello(const Hello& hello, const Agreement& agreement) override;
  void on_end(const LinkEnd& end) override;
  void on_closed() override;

  void take_accepted(UniqueFd fd, const Peer& peer);
  void start_link(UniqueFd fd, const Peer& peer);
  void close_link(GoodbyeReason reason);
  void set_carrier(bool up);
  void set_tap_offloads(Offloads offloads);
  void lose_tap(int error);
  void on_tap_deleted();
  void finish_close();

  EventLoop& loop() { return home_.loop(); }

  Worker& home_;
  Worker& other_;
  std::optional<TapDevice> tap_;
  Netlink netlink_;
  const int index_;
  RelayOptions options_;
  RelayObserver& observer_;
  RelayCounters counters_;
  bool serving_ = false;           // owner's thread: listens or dials
  LinkStatistics tap_statistics_;  // owner's thread

  std::unique_ptr<TapWatch> tap_watch_;
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<Dialler> dialler_;
  std::unique_ptr<Link> link_;
  bool link_closing_ = false;
  struct Waiting {
    UniqueFd fd;
    Peer peer;
  };
  std::optional<Waiting> successor_;      // takes over when the closing link is gone
  Offloads tap_offloads_ = kOffloadNone;  // as the TAP has them
  bool tap_lost_ = false;
  std::function<void()> closed_;  // set while closing
};

}  // namespace arca
