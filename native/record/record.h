// The records that a stream carries: 4 bytes big-endian, of which the top 8 bits are the type and
// the low 24 the length of the payload, then the payload. docs/protocol.md.
//
// Pure: no system call, no state. The peer is hostile: a length is checked before it is used.
#pragma once

#include <cstddef>
#include <cstdint>

#include "record/bytes.h"
#include "record/ethernet.h"
#include "record/offload.h"
#include "record/virtio_net.h"

namespace arca {

inline constexpr size_t kRecordHeaderSize = 4;
inline constexpr size_t kLargestControlPayload = 1024;
// The largest payload that any record may have: an offloaded frame.
inline constexpr size_t kLargestRecordPayload = kVirtioNetHeaderSize + kLargestFrame;

enum class RecordType : uint8_t { kFrame = 0, kOffloadedFrame = 1, kControl = 2 };

// Why a stream can't be read any further. Each has a counter and a word (breach_word).
enum class Breach : uint8_t {
  kUnknownType,
  kTooShort,
  kTooLong,
  kUnknownFlags,
  kUnknownGsoType,
  kZeroGsoSize,
  kChecksumOutsideFrame,
  kOffloadNotAgreed,
  kMalformedControl,
};
inline constexpr size_t kBreachCount = 9;

// The stable word of a breach, for logs and metric labels: "too-long".
const char* breach_word(Breach breach);

// What this end lets its peer send. A bare frame is never larger than kLargestFrame, and control
// records never larger than kLargestControlPayload, whatever largest_payload says.
struct RecordLimits {
  size_t largest_payload = kLargestRecordPayload;
  Offloads accepts = kOffloadNone;
};

struct Record {
  RecordType type = RecordType::kFrame;
  Bytes payload;
};

struct ParsedRecord {
  enum class Outcome : uint8_t { kRecord, kIncomplete, kBreach };

  Outcome outcome = Outcome::kIncomplete;
  Record record;    // kRecord: a view into the bytes that were given
  size_t size = 0;  // kRecord: bytes of the whole record; kIncomplete: bytes needed so far
  Breach breach = Breach::kUnknownType;  // kBreach
};

// Reads the record at the head of `bytes`. Incomplete with size 4 until the header is whole, then
// with the record's size; a header that can't be accepted is a breach as soon as it is whole.
ParsedRecord parse_record(Bytes bytes, const RecordLimits& limits);

// Writes the 4 bytes of a record's header. payload_size <= 0xFFFFFF.
void encode_record_header(RecordType type, size_t payload_size, uint8_t* header);

}  // namespace arca
