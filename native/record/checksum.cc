#include "record/checksum.h"

#include <bit>
#include <cstring>

namespace arca {

// Sums in the machine's own order and turns the folded result (RFC 1071, section 2B): the sum of
// swapped words is the swapped sum. Words of 32 bits in a 64-bit sum need no carry.
uint64_t checksum_add(uint64_t sum, Bytes bytes) {
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  uint64_t native = 0;
  while (left >= 4) {
    uint32_t word;
    std::memcpy(&word, at, sizeof word);
    native += word;
    at += 4;
    left -= 4;
  }
  if (left > 0) {
    uint8_t rest[4] = {};
    std::memcpy(rest, at, left);
    uint32_t word;
    std::memcpy(&word, rest, sizeof word);
    native += word;
  }
  uint16_t folded = checksum_fold(native);
  if constexpr (std::endian::native == std::endian::little) {
    folded = static_cast<uint16_t>(folded << 8 | folded >> 8);
  }
  return sum + folded;
}

}  // namespace arca
