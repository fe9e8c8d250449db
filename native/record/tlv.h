// Type, length, value: 2 bytes each for type and length, big-endian, then the value. Type 0 ends
// the list, so that zero padding after the last TLV reads as its end.
#pragma once

#include <optional>
#include <vector>

#include "record/bytes.h"

namespace arca {

inline constexpr size_t kTlvHeaderSize = 4;

struct Tlv {
  uint16_t type = 0;
  Bytes value;
};

class TlvReader {
 public:
  explicit TlvReader(Bytes bytes) : rest_(bytes) {}

  // The next TLV, or empty at the end and on a malformed list.
  std::optional<Tlv> next() {
    if (rest_.empty()) return std::nullopt;
    if (rest_.size() < kTlvHeaderSize) {
      malformed_ = rest_is_not_padding();
      return std::nullopt;
    }
    const uint16_t type = load_be16(rest_.data());
    const size_t size = load_be16(rest_.data() + 2);
    if (type == 0) return std::nullopt;
    if (size > rest_.size() - kTlvHeaderSize) {
      malformed_ = true;
      return std::nullopt;
    }
    const Tlv tlv{type, rest_.subspan(kTlvHeaderSize, size)};
    rest_ = rest_.subspan(kTlvHeaderSize + size);
    return tlv;
  }

  bool malformed() const { return malformed_; }

 private:
  // Fewer bytes than a TLV's header: padding if they are zero.
  bool rest_is_not_padding() const {
    for (const uint8_t byte : rest_) {
      if (byte != 0) return true;
    }
    return false;
  }

  Bytes rest_;
  bool malformed_ = false;
};

// Appends TLVs to a growing list of bytes.
class TlvWriter {
 public:
  explicit TlvWriter(std::vector<uint8_t>& out) : out_(out) {}

  void add(uint16_t type, Bytes value) {
    add_u16(type);
    add_u16(static_cast<uint16_t>(value.size()));
    out_.insert(out_.end(), value.begin(), value.end());
  }
  void add_u16(uint16_t type, uint16_t value) {
    uint8_t bytes[2];
    store_be16(bytes, value);
    add(type, bytes);
  }
  void add_u32(uint16_t type, uint32_t value) {
    uint8_t bytes[4];
    store_be32(bytes, value);
    add(type, bytes);
  }
  void add_u64(uint16_t type, uint64_t value) {
    uint8_t bytes[8];
    store_be64(bytes, value);
    add(type, bytes);
  }

 private:
  void add_u16(uint16_t value) {
    uint8_t bytes[2];
    store_be16(bytes, value);
    out_.insert(out_.end(), bytes, bytes + 2);
  }

  std::vector<uint8_t>& out_;
};

}  // namespace arca
