// One connection with a peer: negotiation and two pumps.
//
// Threads: the pump from the TAP runs on the home worker, where all else of a link and its relay
// happens too; the pump to the TAP runs on the other worker and tells the home worker what it saw.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "io/stream_socket.h"
#include "io/tap_device.h"
#include "record/hello.h"
#include "relay/counters.h"
#include "relay/stream_to_tap.h"
#include "relay/tap_to_stream.h"
#include "relay/worker.h"

namespace arca {

// Why a link ended.
struct LinkEnd {
  enum class Kind : uint8_t { kEndOfStream, kReset, kBreach, kGoodbye, kReplaced, kTapLost };

  Kind kind = Kind::kEndOfStream;
  int error = 0;                         // kReset, kTapLost: errno
  Breach breach = Breach::kUnknownType;  // kBreach
  std::string detail;                    // for people

  static LinkEnd of(Kind kind, std::string detail);
  static LinkEnd of_errno(Kind kind, int error);
  static LinkEnd of_breach(Breach breach);
};

// The stable word of an end: "end-of-stream".
const char* link_end_word(LinkEnd::Kind kind);

// What this end may send to the peer.
struct Agreement {
  bool plain = true;
  Offloads offloads = kOffloadNone;
  size_t largest_payload = 0;
  size_t burst_size = 0;
  std::optional<uint16_t> peer_mtu;
  std::optional<MacAddress> peer_mac;

  bool operator==(const Agreement&) const = default;
};

struct LinkOptions {
  Hello hello;  // what this end says first; the link draws the nonce
  // What is behind the TAP takes these, so the peer may send them; and the TAP can hand them over,
  // where the peer takes them.
  Offloads offloads = kOffloadNone;
  size_t mtu = 1500;          // of the TAP, bytes, L3
  size_t receive_mtu = 1500;  // larger frames from the peer are dropped, bytes, L3
  bool allow_tagged = false;
  size_t burst_size = 0;  // bytes; 0: the transport's default; 1: one frame a send
};

// Told on the home thread. Nothing is told after on_closed, and nothing but on_closed after on_end.
class LinkObserver {
 public:
  // The first record came, or none within a while: the agreement says whether the peer is plain.
  virtual void on_known(const Agreement& agreement) = 0;
  // Each HELLO of the peer, after on_known, and each time that this end offers something else; the
  // agreement holds from now on.
  virtual void on_hello(const Hello& hello, const Agreement& agreement) = 0;
  // The link moves nothing any more; who owns it must close it.
  virtual void on_end(const LinkEnd& end) = 0;
  // Both pumps are off their workers: the link may be destroyed.
  virtual void on_closed() = 0;

 protected:
  ~LinkObserver() = default;
};

class Link final : private RecordObserver {
 public:
  // `home` and `other` may be the same worker. All references must outlive the link.
  Link(UniqueFd stream, const Peer& peer, TapDevice& tap, const LinkOptions& options,
       RelayCounters& counters, Worker& home, Worker& other, LinkObserver& observer);
  ~Link();

  // Home thread. A failure is told as an end.
  void start();
  // Home thread. Ends the link for a reason of the owner's; on_end is told as for any other.
  void end(const LinkEnd& end);
  // Home thread. Says goodbye to a peer that can read it, if the stream takes it at once. Called
  // once; on_closed follows, never from within.
  void close(GoodbyeReason reason);

  // Home thread.
  void set_mtu(size_t mtu);
  // Home thread. The TAP has something to read; its owner watches it, edge-triggered.
  void on_tap_ready();
  // Home thread. What is behind the TAP takes these from now on: tells the peer, and follows.
  void set_offloads(Offloads offloads);

  const Peer& peer() const { return peer_; }

 private:
  // The two pumps as their workers see them.
  class Sender;
  class Receiver;

  void on_first_frame() override;
  void on_hello(const Hello& hello) override;
  void on_control(const Control& control) override;

  // What the peer said and home has not read yet: the latest of each kind, and one task for all. So
  // a peer that talks without end costs no memory.
  struct Mail {
    std::optional<Hello> hello;
    std::optional<uint64_t> ping;
    bool first_frame = false;
  };

  void post_home(std::function<void()> task);
  template <typename Write>
  void leave_mail(Write write);
  void read_mail();
  void become_known();
  void agree();
  void say_hello();
  void take_hello(const Hello& hello);
  void answer_ping(uint64_t cookie);
  void say_goodbye(GoodbyeReason reason);
  void pump_removed();

  StreamSocket stream_;
  const Peer peer_;
  LinkOptions options_;
  Worker& home_;
  Worker& other_;
  LinkObserver& observer_;
  Hello hello_;       // ours
  Hello peer_hello_;  // the peer's latest
  Agreement agreement_;
  bool known_ = false;
  bool ended_ = false;
  bool closing_ = false;
  bool hello_due_ = false;  // ours changed while the peer was plain
  EventLoop::TimerId known_timer_ = 0;
  EventLoop::TimerId mail_timer_ = 0;
  EventLoop::Clock::time_point next_mail_at_;
  std::mutex mail_mutex_;
  Mail mail_;                  // under mail_mutex_
  bool mail_waits_ = false;    // under mail_mutex_: home will read it
  bool goodbye_seen_ = false;  // the other worker's
  std::unique_ptr<Sender> sender_;
  std::unique_ptr<Receiver> receiver_;
};

}  // namespace arca
