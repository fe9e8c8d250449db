#include "record/record.h"

#include <algorithm>
#include <optional>

namespace arca {
namespace {

ParsedRecord breached(Breach breach) {
  return {.outcome = ParsedRecord::Outcome::kBreach, .record = {}, .size = 0, .breach = breach};
}

ParsedRecord incomplete(size_t needed) {
  return {
      .outcome = ParsedRecord::Outcome::kIncomplete, .record = {}, .size = needed, .breach = {}};
}

struct PayloadRange {
  size_t least;
  size_t most;
};

// The legal sizes of a payload; empty for a type that does not exist.
std::optional<PayloadRange> payload_range(uint8_t type, const RecordLimits& limits) {
  switch (type) {
    case static_cast<uint8_t>(RecordType::kFrame):
      return PayloadRange{kEthernetHeaderSize, std::min(limits.largest_payload, kLargestFrame)};
    case static_cast<uint8_t>(RecordType::kOffloadedFrame):
      return PayloadRange{kVirtioNetHeaderSize + kEthernetHeaderSize,
                          std::min(limits.largest_payload, kLargestRecordPayload)};
    case static_cast<uint8_t>(RecordType::kControl):
      return PayloadRange{1, kLargestControlPayload};
    default:
      return std::nullopt;
  }
}

Breach breach_of(VirtioNetFault fault) {
  switch (fault) {
    case VirtioNetFault::kUnknownFlags:
      return Breach::kUnknownFlags;
    case VirtioNetFault::kUnknownGsoType:
      return Breach::kUnknownGsoType;
    case VirtioNetFault::kZeroGsoSize:
      return Breach::kZeroGsoSize;
    case VirtioNetFault::kChecksumOutsideFrame:
      return Breach::kChecksumOutsideFrame;
    case VirtioNetFault::kOffloadNotAgreed:
    case VirtioNetFault::kNone:
      break;
  }
  return Breach::kOffloadNotAgreed;
}

}  // namespace

const char* breach_word(Breach breach) {
  switch (breach) {
    case Breach::kUnknownType:
      return "unknown-type";
    case Breach::kTooShort:
      return "too-short";
    case Breach::kTooLong:
      return "too-long";
    case Breach::kUnknownFlags:
      return "unknown-flags";
    case Breach::kUnknownGsoType:
      return "unknown-gso-type";
    case Breach::kZeroGsoSize:
      return "zero-gso-size";
    case Breach::kChecksumOutsideFrame:
      return "checksum-outside-frame";
    case Breach::kOffloadNotAgreed:
      return "offload-not-agreed";
    case Breach::kMalformedControl:
      return "malformed-control";
  }
  return "unknown";
}

ParsedRecord parse_record(Bytes bytes, const RecordLimits& limits) {
  if (bytes.size() < kRecordHeaderSize) return incomplete(kRecordHeaderSize);

  const uint32_t header = load_be32(bytes.data());
  const auto type = static_cast<uint8_t>(header >> 24);
  const size_t payload_size = header & 0xFFFFFF;
  const std::optional<PayloadRange> range = payload_range(type, limits);
  if (!range) return breached(Breach::kUnknownType);
  if (payload_size < range->least) return breached(Breach::kTooShort);
  if (payload_size > range->most) return breached(Breach::kTooLong);

  const size_t size = kRecordHeaderSize + payload_size;
  if (bytes.size() < size) return incomplete(size);

  const Bytes payload = bytes.subspan(kRecordHeaderSize, payload_size);
  if (type == static_cast<uint8_t>(RecordType::kOffloadedFrame)) {
    const VirtioNetFault fault = check_virtio_net(
        decode_virtio_net(payload.data()), payload_size - kVirtioNetHeaderSize, limits.accepts);
    if (fault != VirtioNetFault::kNone) return breached(breach_of(fault));
  }
  return {.outcome = ParsedRecord::Outcome::kRecord,
          .record = {.type = static_cast<RecordType>(type), .payload = payload},
          .size = size,
          .breach = {}};
}

void encode_record_header(RecordType type, size_t payload_size, uint8_t* header) {
  store_be32(header, uint32_t{static_cast<uint8_t>(type)} << 24 |
                         (static_cast<uint32_t>(payload_size) & 0xFFFFFF));
}

}  // namespace arca
