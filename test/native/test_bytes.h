// What the codec's tests share: bytes in heap buffers of exactly their size, so that
// AddressSanitizer sees a read of one byte too many, bytes in the notation of protocol-vectors.txt,
// and a seeded generator.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "record/bytes.h"

namespace arca::test {

using ByteList = std::vector<uint8_t>;

// A copy with nothing behind its last byte.
class ExactBytes {
 public:
  explicit ExactBytes(Bytes bytes)
      : size_(bytes.size()), data_(std::make_unique<uint8_t[]>(bytes.size())) {
    std::copy(bytes.begin(), bytes.end(), data_.get());
  }
  explicit ExactBytes(size_t size) : ExactBytes(Bytes(ByteList(size))) {}

  Bytes view() const { return {data_.get(), size_}; }
  MutableBytes writable() { return {data_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<uint8_t[]> data_;
};

inline int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

// BYTES of protocol-vectors.txt: "0000000e,00*14". Empty if it is not in that notation.
inline std::optional<ByteList> parse_bytes(std::string_view text) {
  ByteList bytes;
  if (text == "-") return bytes;
  while (true) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view piece = text.substr(0, comma);
    const size_t star = std::min(piece.find('*'), piece.size());
    const std::string_view digits = piece.substr(0, star);
    if (digits.empty() || digits.size() % 2 != 0) return std::nullopt;
    if (star < piece.size() && digits.size() != 2) return std::nullopt;
    const size_t count =
        star < piece.size() ? std::stoul(std::string(piece.substr(star + 1))) : size_t{1};
    for (size_t i = 0; i < digits.size(); i += 2) {
      const int high = hex_digit(digits[i]);
      const int low = hex_digit(digits[i + 1]);
      if (high < 0 || low < 0) return std::nullopt;
      bytes.insert(bytes.end(), count, static_cast<uint8_t>(high << 4 | low));
    }
    if (comma == text.size()) return bytes;
    text.remove_prefix(comma + 1);
  }
}

// For literals in tests: these are in the notation.
inline ByteList bytes_of(std::string_view text) { return parse_bytes(text).value(); }

inline std::string to_hex(Bytes bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 0xF];
  }
  return text;
}

inline ByteList to_list(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

inline void append(ByteList& out, Bytes bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// ARCA_TEST_SEED chooses other random cases; a failing test prints the seed that it ran with.
inline uint64_t test_seed() {
  const char* text = std::getenv("ARCA_TEST_SEED");
  return text == nullptr ? 20250101 : std::strtoull(text, nullptr, 0);
}

// SplitMix64: the same numbers on every machine, unlike the distributions of <random>.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  // From least to most, both included.
  size_t between(size_t least, size_t most) { return least + next() % (most - least + 1); }
  bool one_in(size_t count) { return next() % count == 0; }
  ByteList bytes(size_t size) {
    ByteList list(size);
    for (uint8_t& byte : list) byte = static_cast<uint8_t>(next());
    return list;
  }

 private:
  uint64_t state_;
};

}  // namespace arca::test
