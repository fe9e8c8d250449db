// Cuts a stream into records, whatever pieces it arrives in.
//
// The caller receives into two places, in this order: room(), the unfinished record's own memory
// (empty when there is none), and a bulk buffer that many assemblers share. So a record that came
// in pieces is copied once at most, and memory is owned only while a record is unfinished: its
// size, which parse_record has checked against the limits.
//
// Knows no socket. Not thread-safe. After a breach the assembler must not be used again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include "record/bytes.h"
#include "record/record.h"

namespace arca {

class RecordAssembler {
 public:
  explicit RecordAssembler(const RecordLimits& limits) : limits_(limits) {}

  // Where the next bytes belong that complete the unfinished record. Valid until accept().
  MutableBytes room() { return MutableBytes(unfinished_).subspan(filled_); }

  bool has_unfinished() const { return filled_ > 0; }
  size_t owned_bytes() const { return unfinished_.capacity(); }

  // Takes `size` bytes, of which room() was filled first and `bulk` holds the rest. Calls
  // on_record(const Record&) -> std::optional<Breach> for each whole record, in order, and then
  // on_end(), until when the payloads stay valid. Returns the breach that ended the stream, if any;
  // the records before it were delivered.
  template <typename OnRecord, typename OnEnd>
  std::optional<Breach> accept(size_t size, Bytes bulk, OnRecord&& on_record, OnEnd&& on_end) {
    const std::optional<Breach> breach = take(size, bulk, on_record);
    on_end();
    // shrink_to_fit() does nothing where exceptions are off (libstdc++ 12).
    std::vector<uint8_t>().swap(finished_);
    return breach;
  }

  template <typename OnRecord>
  std::optional<Breach> accept(size_t size, Bytes bulk, OnRecord&& on_record) {
    return accept(size, bulk, on_record, [] {});
  }

  // Accepts these offloads too from now on.
  void widen(Offloads accepts) { limits_.accepts |= accepts; }

 private:
  template <typename OnRecord>
  std::optional<Breach> take(size_t size, Bytes bulk, OnRecord& on_record) {
    const size_t in_room = std::min(size, unfinished_.size() - filled_);
    filled_ += in_room;
    Bytes rest = bulk.first(size - in_room);

    while (filled_ > 0) {
      if (filled_ < unfinished_.size()) return std::nullopt;
      const ParsedRecord parsed = parse_record(unfinished_, limits_);
      if (parsed.outcome == ParsedRecord::Outcome::kBreach) return parsed.breach;
      if (parsed.outcome == ParsedRecord::Outcome::kRecord) {
        if (std::optional<Breach> breach = on_record(parsed.record)) return breach;
        finished_.swap(unfinished_);
        filled_ = 0;
        break;
      }
      // The header is whole and tells the record's size. Without reserve(), resize() may take more.
      unfinished_.reserve(parsed.size);
      unfinished_.resize(parsed.size);
      const size_t more = std::min(rest.size(), parsed.size - filled_);
      std::copy_n(rest.begin(), more, unfinished_.begin() + static_cast<ptrdiff_t>(filled_));
      filled_ += more;
      rest = rest.subspan(more);
    }

    while (!rest.empty()) {
      const ParsedRecord parsed = parse_record(rest, limits_);
      if (parsed.outcome == ParsedRecord::Outcome::kBreach) return parsed.breach;
      if (parsed.outcome == ParsedRecord::Outcome::kIncomplete) {
        keep(rest, parsed.size);
        return std::nullopt;
      }
      if (std::optional<Breach> breach = on_record(parsed.record)) return breach;
      rest = rest.subspan(parsed.size);
    }
    return std::nullopt;
  }

  void keep(Bytes head, size_t needed) {
    unfinished_.resize(needed);
    std::copy(head.begin(), head.end(), unfinished_.begin());
    filled_ = head.size();
  }

  RecordLimits limits_;
  std::vector<uint8_t> unfinished_;  // sized to what is known to be needed
  size_t filled_ = 0;
  std::vector<uint8_t> finished_;  // the record that unfinished_ became, until accept() returns
};

}  // namespace arca
