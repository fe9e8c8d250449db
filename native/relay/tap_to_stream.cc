#include "relay/tap_to_stream.h"

#include <algorithm>

#include "record/hello.h"

namespace arca {
namespace {

// A turn ends after so many bursts or bytes, so that one busy link does not starve the others of
// its worker, nor the other direction.
constexpr int kBurstsPerTurn = 8;
constexpr size_t kBytesPerTurn = 512 * 1024;
// A burst ends after so many reads, whatever became of the frames.
constexpr int kReadsPerBurst = 256;
// Queued records beyond this are refused while the stream is full.
constexpr size_t kMostQueued = 8 * 1024;

}  // namespace

SendProgress TapToStream::run(BurstBuffer& buffer) {
  if (const SendProgress progress = flush(); progress != SendProgress::kIdle) return progress;
  size_t moved = 0;
  for (int i = 0; i < kBurstsPerTurn && moved < kBytesPerTurn; ++i) {
    const Burst burst = fill(buffer.bytes());
    moved += burst.size;
    if (burst.size > 0) {
      counters_.frames.add(burst.frames);
      counters_.bytes.add(burst.frame_bytes);
      counters_.bursts.add();
      const SendProgress progress = send(buffer.bytes().first(burst.size));
      if (progress != SendProgress::kIdle) return progress;
    }
    if (burst.source == Source::kGone) return SendProgress::kTapGone;
    if (burst.source == Source::kDrained) return SendProgress::kIdle;
  }
  return SendProgress::kMore;
}

bool TapToStream::queue_record(RecordType type, Bytes payload) {
  if (unsent_.size() + payload.size() > kMostQueued) return false;
  append_record(type, payload);
  return true;
}

void TapToStream::queue_hello(Bytes frame) { append_record(RecordType::kFrame, frame); }

void TapToStream::append_record(RecordType type, Bytes payload) {
  const size_t start = unsent_.size();
  unsent_.resize(start + kRecordHeaderSize + payload.size());
  encode_record_header(type, payload.size(), unsent_.data() + start);
  std::copy(payload.begin(), payload.end(),
            unsent_.begin() + static_cast<ptrdiff_t>(start + kRecordHeaderSize));
}

// Sends what an earlier send left over, and queued records.
SendProgress TapToStream::flush() {
  if (unsent_.empty()) return SendProgress::kIdle;
  std::vector<uint8_t> waiting;
  waiting.swap(unsent_);
  return send(waiting);
}

// Sends everything, in pieces of at most a burst; what the stream does not take is kept.
SendProgress TapToStream::send(Bytes bytes) {
  while (!bytes.empty()) {
    const size_t piece =
        policy_.one_frame_per_send ? bytes.size() : std::min(bytes.size(), policy_.burst_size);
    const IoOutcome outcome = stream_.send(bytes.first(piece));
    counters_.system_calls.add();
    switch (outcome.kind) {
      case IoOutcome::Kind::kMoved:
        bytes = bytes.subspan(outcome.size);
        break;
      case IoOutcome::Kind::kWouldBlock:
        counters_.stalls.add();
        unsent_.assign(bytes.begin(), bytes.end());
        return SendProgress::kBlocked;
      case IoOutcome::Kind::kDropped:
      case IoOutcome::Kind::kEndOfStream:
      case IoOutcome::Kind::kGone:
        error_ = outcome.error;
        return SendProgress::kStreamGone;
    }
  }
  return SendProgress::kIdle;
}

TapToStream::Burst TapToStream::fill(MutableBytes room) {
  const size_t overhead = kRecordHeaderSize + (with_header() ? kVirtioNetHeaderSize : size_t{0});
  Burst burst{.size = 0, .frames = 0, .frame_bytes = 0, .source = Source::kMore};
  for (int reads = 0; reads < kReadsPerBurst; ++reads) {
    uint8_t* record = room.data() + burst.size;
    const IoOutcome outcome = read_frame(record);
    counters_.system_calls.add();
    if (outcome.kind == IoOutcome::Kind::kWouldBlock) {
      burst.source = Source::kDrained;
      return burst;
    }
    if (outcome.kind == IoOutcome::Kind::kDropped) continue;
    if (outcome.kind != IoOutcome::Kind::kMoved) {
      error_ = outcome.error;
      burst.source = Source::kGone;
      return burst;
    }

    const size_t frame_size = outcome.size - std::min(outcome.size, kVirtioNetHeaderSize);
    if (!accept_frame(record, frame_size)) continue;
    const size_t payload_size = overhead - kRecordHeaderSize + frame_size;
    encode_record_header(with_header() ? RecordType::kOffloadedFrame : RecordType::kFrame,
                         payload_size, record);
    burst.size += kRecordHeaderSize + payload_size;
    burst.frames += 1;
    burst.frame_bytes += frame_size;
    if (policy_.one_frame_per_send) return burst;
    if (burst.size + overhead + policy_.expected_frame > policy_.burst_size) return burst;
  }
  return burst;
}

// Reads one frame behind the room for its record header.
IoOutcome TapToStream::read_frame(uint8_t* record) {
  uint8_t* payload = record + kRecordHeaderSize;
  if (with_header()) {
    const iovec whole[] = {{payload, kVirtioNetHeaderSize + kLargestFrame}};
    return tap_.read_frame(whole);
  }
  const iovec apart[] = {{header_.data(), header_.size()}, {payload, kLargestFrame}};
  return tap_.read_frame(apart);
}

bool TapToStream::accept_frame(const uint8_t* record, size_t frame_size) {
  const uint8_t* payload = record + kRecordHeaderSize;
  const uint8_t* header = with_header() ? payload : header_.data();
  const uint8_t* frame = with_header() ? payload + kVirtioNetHeaderSize : payload;
  std::optional<Drop> drop;
  if (frame_size < kEthernetHeaderSize) {
    drop = Drop::kRunt;
  } else if (is_hello_frame(Bytes(frame, frame_size))) {
    drop = Drop::kForgedHello;
  } else if (check_virtio_net(decode_virtio_net(header), frame_size, policy_.offloads) !=
             VirtioNetFault::kNone) {
    drop = Drop::kUnsegmented;
  } else if (frame_size + (with_header() ? kVirtioNetHeaderSize : 0) > policy_.largest_payload) {
    drop = Drop::kPeerLimit;
  }
  if (drop) counters_.count_drop(*drop);
  return !drop;
}

}  // namespace arca
