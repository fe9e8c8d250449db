// A caller, the connection that was made to the target for it, and the bytes between the two.
//
// Theory of operation. Both sockets are watched edge-triggered for everything, once: a hang-up that
// is told again and again, as epoll(7) does it level-triggered, would spin while the other side is
// slow. So a step always runs both flows until each would block. The end of a flow is passed on to
// the socket at its other end, and the other flow goes on; when both are over, the connection is.
#pragma once

#include "io/event_loop.h"
#include "io/stream_socket.h"
#include "proxy/flow.h"

namespace arca {

class Connection;

class ConnectionObserver {
 public:
  virtual void on_bytes(uint64_t to_target, uint64_t from_target) = 0;
  // The last thing that a connection does: it may be destroyed in here.
  virtual void on_over(Connection& connection) = 0;

 protected:
  ~ConnectionObserver() = default;
};

// Everything on the loop's thread.
class Connection final : private Runnable {
 public:
  // `scratch` may be shared with other connections of that thread. All must outlive this.
  Connection(EventLoop& loop, MutableBytes scratch, ConnectionObserver& observer, UniqueFd caller,
             UniqueFd target);
  ~Connection();

  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Once. After an error nothing will be told.
  Status start();

 private:
  struct Side final : EventHandler {
    Side(Connection& owner, UniqueFd fd) : connection(owner), socket(std::move(fd)) {}
    void on_events(uint32_t events) override { connection.on_events(*this, events); }

    Connection& connection;
    StreamSocket socket;
  };

  struct Direction {
    Flow flow;
    bool end_passed_on = false;
  };

  void on_events(Side& side, uint32_t events);
  void run_again() override { step(); }
  void step();
  bool run(Direction& direction, Side& source, Side& sink);

  EventLoop& loop_;
  const MutableBytes scratch_;
  ConnectionObserver& observer_;
  Side caller_;
  Side target_;
  Direction to_target_;
  Direction from_target_;
};

}  // namespace arca
