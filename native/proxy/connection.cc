#include "proxy/connection.h"

#include <sys/socket.h>

namespace arca {
namespace {

constexpr uint32_t kEverything = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

// ENOTCONN: the peer is gone altogether, and needs not to be told.
void shut(const StreamSocket& socket, int how) { ::shutdown(socket.fd(), how); }

}  // namespace

Connection::Connection(EventLoop& loop, MutableBytes scratch, ConnectionObserver& observer,
                       UniqueFd caller, UniqueFd target)
    : loop_(loop),
      scratch_(scratch),
      observer_(observer),
      caller_(*this, std::move(caller)),
      target_(*this, std::move(target)) {}

Connection::~Connection() {
  loop_.forget(this);
  for (Side* side : {&caller_, &target_}) loop_.remove(side->socket.fd(), side);
}

Status Connection::start() {
  for (Side* side : {&caller_, &target_}) {
    if (Status status = loop_.add(side->socket.fd(), kEverything, side); !status.ok()) {
      return status;
    }
  }
  return Done{};
}

// A hang-up or an error: nothing can be written there any more. What came from there before is
// still read.
void Connection::on_events(Side& side, uint32_t events) {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    (&side == &target_ ? to_target_ : from_target_).flow.lose_sink();
  }
  step();
}

void Connection::step() {
  const bool more_to_target = run(to_target_, caller_, target_);
  const bool more_from_target = run(from_target_, target_, caller_);
  const Flow& to = to_target_.flow;
  const Flow& from = from_target_.flow;
  observer_.on_bytes(to_target_.flow.take_delivered(), from_target_.flow.take_delivered());

  const bool both_over = !to.is_open() && !from.is_open();
  const bool is_reset =
      to.state() == Flow::State::kSourceGone || from.state() == Flow::State::kSourceGone;
  if (both_over || is_reset) return observer_.on_over(*this);
  if (more_to_target || more_from_target) loop_.run_soon(this);
}

// An end is passed on once: each shutdown(2) is an event of its socket, and so another step.
bool Connection::run(Direction& direction, Side& source, Side& sink) {
  const bool more = direction.flow.run(source.socket, sink.socket, scratch_);
  if (direction.flow.is_open() || direction.end_passed_on) return more;
  direction.end_passed_on = true;
  if (direction.flow.state() == Flow::State::kEnded) shut(sink.socket, SHUT_WR);
  if (direction.flow.state() == Flow::State::kSinkGone) shut(source.socket, SHUT_RD);
  return more;
}

}  // namespace arca
