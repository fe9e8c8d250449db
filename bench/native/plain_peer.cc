// A good peer that knows records of type 0 and nothing else: no HELLO, no offloads. It batches as
// passt and QEMU do: up to 64 frames or 256 KiB in a send, one large receive, one TAP write a
// frame. It stands for them at the other end of ours.

#include <algorithm>
#include <thread>
#include <vector>

#include "record/bytes.h"
#include "tap_and_stream.h"

namespace arca::bench {
namespace {

constexpr size_t kBurstSize = 256 * 1024;
constexpr int kMostFrames = 64;

void wait_readable(int fd) {
  pollfd one{fd, POLLIN, 0};
  ::poll(&one, 1, -1);
}

void tap_to_stream(int tap, int stream) {
  std::vector<uint8_t> burst(kBurstSize + kHeaderSize + kLargestFrame);
  for (;;) {
    size_t filled = 0;
    for (int frames = 0; frames < kMostFrames && filled < kBurstSize; ++frames) {
      uint8_t* record = burst.data() + filled;
      const ssize_t size = ::read(tap, record + kHeaderSize, kLargestFrame);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) break;
      if (size <= 0) die("read from the TAP");
      store_be32(record, static_cast<uint32_t>(size));
      filled += kHeaderSize + static_cast<size_t>(size);
    }
    if (filled > 0) {
      write_all(stream, burst.data(), filled);
    } else {
      wait_readable(tap);
    }
  }
}

// Writes every whole record of `bytes` to the TAP and returns how many bytes those were.
size_t deliver(int tap, const uint8_t* bytes, size_t size) {
  size_t done = 0;
  while (size - done >= kHeaderSize) {
    const uint32_t length = load_be32(bytes + done);
    if (length > kLargestFrame) {
      // A record of another type looks like this to a peer that does not know types.
      std::fprintf(stderr, "a record of %u bytes: not for a plain peer\n", length);
      std::exit(1);
    }
    if (size - done < kHeaderSize + length) break;
    write_frame(tap, bytes + done + kHeaderSize, length);
    done += kHeaderSize + length;
  }
  return done;
}

void stream_to_tap(int stream, int tap) {
  std::vector<uint8_t> buffer(kBurstSize + kHeaderSize + kLargestFrame);
  size_t held = 0;
  for (;;) {
    const ssize_t got = ::read(stream, buffer.data() + held, buffer.size() - held);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) die("read from the stream");
    if (got == 0) std::exit(0);
    held += static_cast<size_t>(got);
    const size_t done = deliver(tap, buffer.data(), held);
    std::copy(buffer.begin() + static_cast<ptrdiff_t>(done),
              buffer.begin() + static_cast<ptrdiff_t>(held), buffer.begin());
    held -= done;
  }
}

}  // namespace
}  // namespace arca::bench

int main(int argc, char** argv) {
  using namespace arca::bench;
  const RelayArguments arguments = parse_relay_arguments(argc, argv);
  const arca::UniqueFd tap = open_tap(arguments.tap, O_NONBLOCK);
  const arca::UniqueFd stream = open_stream(arguments);
  std::thread sender(tap_to_stream, tap.get(), stream.get());
  stream_to_tap(stream.get(), tap.get());
}
