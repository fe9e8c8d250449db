#include "relay/stream_to_tap.h"

namespace arca {
namespace {

constexpr std::array<uint8_t, kVirtioNetHeaderSize> kNoOffload{};

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
      outcome.size, bulk, [this](const Record& record) { return take_record(record); });
  if (tap_gone_) return ReceiveProgress::kTapGone;
  if (breach) {
    breach_ = *breach;
    return ReceiveProgress::kBreach;
  }
  return ReceiveProgress::kIdle;
}

IoOutcome StreamToTap::receive(MutableBytes bulk) {
  const MutableBytes room = assembler_.room();
  const iovec both[] = {{room.data(), room.size()}, {bulk.data(), bulk.size()}};
  return stream_.receive(room.empty() ? std::span(both).subspan(1) : std::span(both));
}

std::optional<Breach> StreamToTap::take_record(const Record& record) {
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
        deliver(kNoOffload.data(), record.payload);
      }
      return std::nullopt;
    case RecordType::kOffloadedFrame:
      deliver(record.payload.data(), record.payload.subspan(kVirtioNetHeaderSize));
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
  if (header.gso_type != kVirtioNetGsoNone) {
    // The kernel cuts it into frames with this much payload each.
    if (header.gso_size > policy_.mtu) return Drop::kOversize;
    return std::nullopt;
  }
  const size_t most = policy_.mtu + kEthernetHeaderSize + (tagged ? kVlanTagSize : 0);
  if (frame.size() > most) return Drop::kOversize;
  return std::nullopt;
}

void StreamToTap::deliver(const uint8_t* header, Bytes frame) {
  if (!seen_first_) {
    seen_first_ = true;
    observer_.on_first_frame();
  }
  if (const std::optional<Drop> drop = check_frame(decode_virtio_net(header), frame)) {
    counters_.count_drop(*drop);
    return;
  }
  if (tap_gone_) return;

  const iovec both[] = {{const_cast<uint8_t*>(header), kVirtioNetHeaderSize},
                        {const_cast<uint8_t*>(frame.data()), frame.size()}};
  const IoOutcome outcome = tap_.write_frame(both);
  counters_.system_calls.add();
  switch (outcome.kind) {
    case IoOutcome::Kind::kMoved:
      counters_.frames.add();
      counters_.bytes.add(frame.size());
      break;
    case IoOutcome::Kind::kWouldBlock:
      counters_.count_drop(Drop::kTapFull);
      break;
    case IoOutcome::Kind::kDropped:
      counters_.count_drop(Drop::kTapRefused);
      break;
    case IoOutcome::Kind::kEndOfStream:
    case IoOutcome::Kind::kGone:
      tap_gone_ = true;
      error_ = outcome.error;
      break;
  }
}

}  // namespace arca
