#include "io/ports.h"

#include <cerrno>

namespace arca {
namespace {

IoOutcome outcome(IoOutcome::Kind kind, int error) {
  return {.kind = kind, .size = 0, .error = error};
}

}  // namespace

// tun(4) and drivers/net/tun.c of kernel 6.1: EIO while the interface is down, EINVAL for a frame
// that the kernel can't parse, ENOBUFS and ENOMEM under memory pressure. EBADFD: the device was
// deleted under the descriptor.
IoOutcome judge_tap_errno(int error) {
  switch (error) {
    case EAGAIN:
      return outcome(IoOutcome::Kind::kWouldBlock, error);
    // Of a batch, where to try again would be out of order; a single call is tried again.
    case EINTR:
    case EINVAL:
    case EIO:
    case EMSGSIZE:
    case ENETDOWN:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC:
      return outcome(IoOutcome::Kind::kDropped, error);
    default:
      return outcome(IoOutcome::Kind::kGone, error);
  }
}

// ENOBUFS and ENOMEM on a stream leave it in a state that nobody knows (part of a record may be
// out), so the link is given up like after a reset; the peer dials again.
IoOutcome judge_stream_errno(int error) {
  if (error == EAGAIN) return outcome(IoOutcome::Kind::kWouldBlock, error);
  return outcome(IoOutcome::Kind::kGone, error);
}

}  // namespace arca
