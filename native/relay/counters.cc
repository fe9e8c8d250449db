#include "relay/counters.h"

namespace arca {

const char* drop_word(Drop drop) {
  switch (drop) {
    case Drop::kForgedHello:
      return "forged-hello";
    case Drop::kRunt:
      return "runt";
    case Drop::kUnsegmented:
      return "unsegmented";
    case Drop::kPeerLimit:
      return "peer-limit";
    case Drop::kTagged:
      return "tagged";
    case Drop::kOversize:
      return "oversize";
    case Drop::kBadHello:
      return "bad-hello";
    case Drop::kHelloEcho:
      return "hello-echo";
    case Drop::kWithdrawn:
      return "offload-withdrawn";
    case Drop::kMisplacedChecksum:
      return "misplaced-checksum";
    case Drop::kTapRefused:
      return "tap-refused";
    case Drop::kTapFull:
      return "tap-full";
  }
  return "unknown";
}

}  // namespace arca
