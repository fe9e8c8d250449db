#include "relay/stream_to_tap.h"

#include <sched.h>

namespace arca {
namespace {

constexpr VirtioNetHeader kNoOffload{};
// The header, and the pieces of the longest train.
constexpr size_t kMostPieces = 1 + Coalescer::kMostPieces;

}  // namespace

ReceiveProgress StreamToTap::run(BurstBuffer& buffer) {
  const MutableBytes bulk = buffer.bytes().first(kLargestBurst);
  const IoOutcome outcome = receive(bulk);
  counters_.system_calls.add();
  switch (outcome.kind) {
    case IoOutcome::Kind::kMoved:
      break;
    case IoOutcome::Kind::kWouldBlock:
      return ReceiveProgress::kIdle;
    case IoOutcome::Kind::kEndOfStream:
      return ReceiveProgress::kEndOfStream;
    case IoOutcome::Kind::kDropped:
    case IoOutcome::Kind::kGone:
      error_ = outcome.error;
      return ReceiveProgress::kStreamGone;
  }
  counters_.bursts.add();

  const std::optional<Breach> breach = assembler_.accept(
      outcome.size, bulk,
      [this, &buffer](const Record& record) { return take_record(record, buffer); },
      [this, &buffer] {
        flush_trains(buffer);
        write_queued(buffer.queue(), buffer.ring());
      });
  if (tap_gone_) return ReceiveProgress::kTapGone;
  if (breach) {
    breach_ = *breach;
    return ReceiveProgress::kBreach;
  }
  return ReceiveProgress::kIdle;
}

void StreamToTap::set_deliverable(Offloads offloads) {
  policy_.deliverable = offloads;
  assembler_.widen(offloads);
}

IoOutcome StreamToTap::receive(MutableBytes bulk) {
  const MutableBytes room = assembler_.room();
  const iovec both[] = {{room.data(), room.size()}, {bulk.data(), bulk.size()}};
  return stream_.receive(room.empty() ? std::span(both).subspan(1) : std::span(both));
}

std::optional<Breach> StreamToTap::take_record(const Record& record, BurstBuffer& buffer) {
  switch (record.type) {
    case RecordType::kControl: {
      const std::optional<Control> control = decode_control(record.payload);
      if (!control) return Breach::kMalformedControl;
      observer_.on_control(*control);
      return std::nullopt;
    }
    case RecordType::kFrame:
      if (is_hello_frame(record.payload)) {
        take_hello(record.payload);
      } else {
        deliver(kNoOffload, record.payload, buffer);
      }
      return std::nullopt;
    case RecordType::kOffloadedFrame:
      deliver(decode_virtio_net(record.payload.data()),
              record.payload.subspan(kVirtioNetHeaderSize), buffer);
      return std::nullopt;
  }
  return Breach::kUnknownType;
}

void StreamToTap::take_hello(Bytes frame) {
  const std::optional<Hello> hello = decode_hello(frame);
  if (!hello) {
    counters_.count_drop(Drop::kBadHello);
  } else if (hello->nonce == policy_.own_nonce) {
    counters_.count_drop(Drop::kHelloEcho);
  } else {
    seen_first_ = true;
    observer_.on_hello(*hello);
  }
}

std::optional<Drop> StreamToTap::check_frame(const VirtioNetHeader& header, Bytes frame) const {
  if (is_hello_frame(frame)) return Drop::kBadHello;
  const bool tagged = has_vlan_tag(frame);
  if (tagged && !policy_.allow_tagged) return Drop::kTagged;
  // Offered before, and withdrawn since; what was never offered was a breach.
  if (check_virtio_net(header, frame.size(), policy_.deliverable) != VirtioNetFault::kNone) {
    return Drop::kWithdrawn;
  }
  if (!describes_transport(header, frame)) return Drop::kMisplacedChecksum;
  if (header.gso_type != kVirtioNetGsoNone) {
    // The kernel cuts it into frames with this much payload each.
    if (header.gso_size > policy_.mtu) return Drop::kOversize;
    return std::nullopt;
  }
  const size_t most = policy_.mtu + kEthernetHeaderSize + (tagged ? kVlanTagSize : 0);
  if (frame.size() > most) return Drop::kOversize;
  return std::nullopt;
}

void StreamToTap::deliver(const VirtioNetHeader& header, Bytes frame, BurstBuffer& buffer) {
  if (!seen_first_) {
    seen_first_ = true;
    observer_.on_first_frame();
  }
  if (const std::optional<Drop> drop = check_frame(header, frame)) {
    counters_.count_drop(*drop);
    return;
  }
  if (can_join(header)) {
    buffer.coalescer().add(frame, [&](const Train& train) { take_train(train, buffer); });
    return;
  }
  // What is behind it in the stream must stay behind it in its flow.
  flush_trains(buffer);
  const Bytes pieces[] = {frame};
  take_train({.header = header, .pieces = pieces, .frames = 1, .frame_bytes = frame.size()},
             buffer);
}

// Joined frames leave with a partial checksum and as one large segment.
bool StreamToTap::can_join(const VirtioNetHeader& header) const {
  constexpr Offloads kNeeded = kOffloadChecksum | kOffloadTso4 | kOffloadTso6;
  return (policy_.deliverable & kNeeded) == kNeeded && header.gso_type == kVirtioNetGsoNone &&
         (header.flags & kVirtioNetNeedsChecksum) == 0;
}

void StreamToTap::flush_trains(BurstBuffer& buffer) {
  buffer.coalescer().flush([&](const Train& train) { take_train(train, buffer); });
}

// A frame by itself can wait for others until the turn ends; a large one is worth a system call of
// its own.
void StreamToTap::take_train(const Train& train, BurstBuffer& buffer) {
  if (tap_gone_) return;
  FrameQueue& queue = buffer.queue();
  if (train.pieces.size() > 1 || train.frame_bytes > FrameQueue::kLargestQueued) {
    write_queued(queue, buffer.ring());
    write_now(train);
    return;
  }
  queue.add(train.header, train.pieces[0]);
  if (queue.is_full()) {
    write_queued(queue, buffer.ring());
    // Whoever reads behind the TAP may wait for this processor, and its socket has room for a few
    // hundred small frames: what is written without a pause would be lost there, after all that
    // was done for it.
    ::sched_yield();
    counters_.system_calls.add();
  }
}

void StreamToTap::write_now(const Train& train) {
  if (tap_gone_) return;
  std::array<uint8_t, kVirtioNetHeaderSize> header;
  encode_virtio_net(train.header, header.data());
  std::array<iovec, kMostPieces> pieces;
  pieces[0] = {header.data(), header.size()};
  for (size_t i = 0; i < train.pieces.size(); ++i) {
    const Bytes piece = train.pieces[i];
    pieces[i + 1] = {const_cast<uint8_t*>(piece.data()), piece.size()};
  }
  const IoOutcome outcome = tap_.write_frame(std::span(pieces).first(train.pieces.size() + 1));
  counters_.system_calls.add();
  settle(outcome, train.frames, train.frame_bytes);
}

void StreamToTap::write_queued(FrameQueue& queue, WriteRing& ring) {
  const std::span<const Bytes> frames = queue.frames();
  if (frames.empty()) return;
  counters_.system_calls.add(tap_.write_frames(frames, queue.outcomes(), ring));
  for (size_t i = 0; i < frames.size(); ++i) {
    settle(queue.outcomes()[i], 1, frames[i].size() - kVirtioNetHeaderSize);
  }
  queue.clear();
}

void StreamToTap::settle(const IoOutcome& outcome, size_t frames, size_t frame_bytes) {
  if (tap_gone_) return;
  switch (outcome.kind) {
    case IoOutcome::Kind::kMoved:
      counters_.frames.add(frames);
      counters_.bytes.add(frame_bytes);
      break;
    case IoOutcome::Kind::kWouldBlock:
      counters_.count_drop(Drop::kTapFull, frames);
      break;
    case IoOutcome::Kind::kDropped:
      counters_.count_drop(Drop::kTapRefused, frames);
      break;
    case IoOutcome::Kind::kEndOfStream:
    case IoOutcome::Kind::kGone:
      tap_gone_ = true;
      error_ = outcome.error;
      break;
  }
}

}  // namespace arca
