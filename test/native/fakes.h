// In-memory twins of a TAP and a stream, for pumps: each does what the test wrote into its script.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "io/ports.h"
#include "record/record.h"

namespace arca::test {

using ByteVector = std::vector<uint8_t>;

inline IoOutcome moved(size_t size) {
  return {.kind = IoOutcome::Kind::kMoved, .size = size, .error = 0};
}
inline IoOutcome outcome_of(IoOutcome::Kind kind, int error = 0) {
  return {.kind = kind, .size = 0, .error = error};
}

// Copies `bytes` over the rooms in turn; what does not fit is cut, as a TAP does.
inline size_t scatter(Bytes bytes, std::span<const iovec> rooms) {
  size_t done = 0;
  for (const iovec& room : rooms) {
    const size_t piece = std::min(room.iov_len, bytes.size() - done);
    if (piece > 0) std::memcpy(room.iov_base, bytes.data() + done, piece);
    done += piece;
  }
  return done;
}

inline ByteVector gather(std::span<const iovec> pieces) {
  ByteVector bytes;
  for (const iovec& piece : pieces) {
    const auto* begin = static_cast<const uint8_t*>(piece.iov_base);
    bytes.insert(bytes.end(), begin, begin + piece.iov_len);
  }
  return bytes;
}

class FakeTap final : public FramePort {
 public:
  // To be read: each with its virtio-net header before it. An outcome other than kMoved is given
  // once, in its turn.
  struct Read {
    IoOutcome outcome;
    ByteVector bytes;
  };
  std::deque<Read> reads;
  // What was written, and what the next writes answer (kMoved when empty).
  std::vector<ByteVector> written;
  std::deque<IoOutcome> write_outcomes;
  // How many frames were handed over at once, each time.
  std::vector<size_t> batches;
  size_t read_calls = 0;

  void add_frame(const ByteVector& frame, const ByteVector& header = ByteVector(10)) {
    ByteVector bytes = header;
    bytes.insert(bytes.end(), frame.begin(), frame.end());
    reads.push_back({moved(bytes.size()), bytes});
  }

  IoOutcome read_frame(std::span<const iovec> rooms) override {
    ++read_calls;
    if (reads.empty()) return outcome_of(IoOutcome::Kind::kWouldBlock);
    const Read read = reads.front();
    reads.pop_front();
    if (read.outcome.kind != IoOutcome::Kind::kMoved) return read.outcome;
    return moved(scatter(read.bytes, rooms));
  }

  IoOutcome write_frame(std::span<const iovec> pieces) override {
    if (!write_outcomes.empty()) {
      const IoOutcome answer = write_outcomes.front();
      write_outcomes.pop_front();
      if (answer.kind != IoOutcome::Kind::kMoved) return answer;
    }
    written.push_back(gather(pieces));
    return moved(written.back().size());
  }

  size_t write_frames(std::span<const Bytes> frames, std::span<IoOutcome> outcomes,
                      WriteRing& ring) override {
    if (!frames.empty()) batches.push_back(frames.size());
    return FramePort::write_frames(frames, outcomes, ring);
  }
};

class FakeStream final : public ByteStream {
 public:
  // What was sent, send by send; no more than `capacity` bytes wait at once.
  std::vector<ByteVector> sends;
  size_t capacity = SIZE_MAX;
  size_t waiting = 0;
  std::deque<IoOutcome> send_outcomes;
  // What is received, in these pieces; then would-block, or the last outcome.
  std::deque<ByteVector> arrivals;
  IoOutcome after_arrivals = outcome_of(IoOutcome::Kind::kWouldBlock);

  ByteVector all_sent() const {
    ByteVector all;
    for (const ByteVector& send : sends) all.insert(all.end(), send.begin(), send.end());
    return all;
  }

  void drain() { waiting = 0; }

  IoOutcome send(Bytes bytes) override {
    if (!send_outcomes.empty()) {
      const IoOutcome answer = send_outcomes.front();
      send_outcomes.pop_front();
      if (answer.kind != IoOutcome::Kind::kMoved) return answer;
    }
    const size_t size = std::min(bytes.size(), capacity - waiting);
    if (size == 0) return outcome_of(IoOutcome::Kind::kWouldBlock);
    waiting += capacity == SIZE_MAX ? 0 : size;
    sends.emplace_back(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    return moved(size);
  }

  IoOutcome receive(std::span<const iovec> rooms) override {
    if (arrivals.empty()) return after_arrivals;
    ByteVector& front = arrivals.front();
    const size_t size = scatter(front, rooms);
    front.erase(front.begin(), front.begin() + static_cast<ptrdiff_t>(size));
    if (front.empty()) arrivals.pop_front();
    return moved(size);
  }
};

// A frame of `size` bytes whose content tells it from others.
inline ByteVector make_frame(size_t size, uint8_t seed = 1) {
  ByteVector frame(size);
  for (size_t i = 0; i < size; ++i) frame[i] = static_cast<uint8_t>(seed * 31 + i * 7);
  if (size >= 14) {
    const uint8_t head[14] = {0x02, 0, 0, 0, 0, seed, 0x02, 0, 0, 0, 1, seed, 0x08, 0x00};
    std::copy_n(head, 14, frame.begin());
  }
  return frame;
}

inline std::vector<ByteVector> only(const ByteVector& bytes) { return {bytes}; }

inline ByteVector make_record(RecordType type, const ByteVector& payload) {
  ByteVector record(kRecordHeaderSize);
  encode_record_header(type, payload.size(), record.data());
  record.insert(record.end(), payload.begin(), payload.end());
  return record;
}

// Cuts what was sent into records, by a way of its own.
inline std::vector<ByteVector> split_records(const ByteVector& bytes) {
  std::vector<ByteVector> payloads;
  size_t at = 0;
  while (at + 4 <= bytes.size()) {
    const size_t size =
        size_t{bytes[at + 1]} << 16 | size_t{bytes[at + 2]} << 8 | size_t{bytes[at + 3]};
    if (at + 4 + size > bytes.size()) break;
    const auto begin = bytes.begin() + static_cast<ptrdiff_t>(at + 4);
    payloads.emplace_back(begin, begin + static_cast<ptrdiff_t>(size));
    at += 4 + size;
  }
  return payloads;
}

}  // namespace arca::test
