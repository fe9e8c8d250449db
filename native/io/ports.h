// What a pump moves bytes between, as interfaces: a port of frames (a TAP device) and a stream of
// bytes (a socket). Real ones stand beside this file; tests use twins in memory.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "record/bytes.h"

namespace arca {

// What became of one read or write.
struct IoOutcome {
  enum class Kind : uint8_t {
    kMoved,       // `size` bytes
    kWouldBlock,  // nothing now; readiness will be told by the descriptor
    kDropped,     // this one frame could not be delivered; the next may (errno in `error`)
    kEndOfStream,
    kGone,  // the other side is gone or the device is lost (errno in `error`)
  };

  Kind kind = Kind::kWouldBlock;
  size_t size = 0;
  int error = 0;
};

// Judged here and nowhere else: what an errno of a read or write on a TAP or a stream means.
IoOutcome judge_tap_errno(int error);
IoOutcome judge_stream_errno(int error);

class WriteRing;

// Frames in and out, each with a virtio-net header of kVirtioNetHeaderSize bytes before it.
// Non-blocking. A read or write is one system call and one frame.
class FramePort {
 public:
  virtual ~FramePort() = default;
  // Scatters one frame, header first. A frame longer than the room is cut: give room for the MTU.
  virtual IoOutcome read_frame(std::span<const iovec> header_and_frame) = 0;
  virtual IoOutcome write_frame(std::span<const iovec> header_and_frame) = 0;
  // Writes frames, each in one piece behind its header, in order, and tells of each what became of
  // it. Returns how many system calls that took: with `ring` it may be one, without one a frame.
  // Inline, like all of this interface: else its type information would be in one place, and tests
  // are built with it and the core without.
  virtual size_t write_frames(std::span<const Bytes> frames, std::span<IoOutcome> outcomes,
                              WriteRing& /*ring*/) {
    for (size_t i = 0; i < frames.size(); ++i) {
      const iovec whole[] = {{const_cast<uint8_t*>(frames[i].data()), frames[i].size()}};
      outcomes[i] = write_frame(whole);
    }
    return frames.size();
  }
};

// Bytes in and out, in order. Non-blocking. May move less than it was given.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  virtual IoOutcome receive(std::span<const iovec> room) = 0;
  virtual IoOutcome send(Bytes bytes) = 0;
};

}  // namespace arca
