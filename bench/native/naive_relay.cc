// A relay as one writes it first, and as the ancestor of this project was written: one frame a
// read, header and body in two writes, one read each for header and body. In the same frame as
// ours, so that it may stand on either end of the same stream: u32 big-endian length, then the
// frame. One thread a direction, blocking throughout: no polling and no sleep, which the ancestor
// had, so this is its loop at its best.

#include <thread>

#include "record/bytes.h"
#include "tap_and_stream.h"

namespace arca::bench {
namespace {

void tap_to_stream(int tap, int stream) {
  static uint8_t frame[kLargestFrame];
  for (;;) {
    const ssize_t size = ::read(tap, frame, sizeof frame);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) die("read from the TAP");
    uint8_t header[kHeaderSize];
    store_be32(header, static_cast<uint32_t>(size));
    write_all(stream, header, sizeof header);
    write_all(stream, frame, static_cast<size_t>(size));
  }
}

// One read unless it comes short; then the rest, or the stream would be out of step for ever.
void read_exactly(int stream, uint8_t* bytes, size_t size) {
  while (size > 0) {
    const ssize_t got = ::read(stream, bytes, size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) die("read from the stream");
    if (got == 0) std::exit(0);
    bytes += got;
    size -= static_cast<size_t>(got);
  }
}

void stream_to_tap(int stream, int tap) {
  static uint8_t frame[kLargestFrame];
  for (;;) {
    uint8_t header[kHeaderSize];
    read_exactly(stream, header, sizeof header);
    const uint32_t size = load_be32(header);
    if (size > sizeof frame) {
      errno = EMSGSIZE;
      die("frame from the stream");
    }
    read_exactly(stream, frame, size);
    write_frame(tap, frame, size);
  }
}

}  // namespace
}  // namespace arca::bench

int main(int argc, char** argv) {
  using namespace arca::bench;
  const RelayArguments arguments = parse_relay_arguments(argc, argv);
  const arca::UniqueFd tap = open_tap(arguments.tap);
  const arca::UniqueFd stream = open_stream(arguments);
  std::thread sender(tap_to_stream, tap.get(), stream.get());
  stream_to_tap(stream.get(), tap.get());
}
