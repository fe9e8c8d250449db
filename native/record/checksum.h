// The Internet checksum, RFC 1071.
#pragma once

#include <cstdint>

#include "record/bytes.h"

namespace arca {

// Adds bytes to a running sum of 16-bit big-endian words. Every piece but the last has an even
// size.
uint64_t checksum_add(uint64_t sum, Bytes bytes);

// Folds a running sum to 16 bits. Of data that holds its own right checksum this is 0xFFFF.
inline uint16_t checksum_fold(uint64_t sum) {
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

}  // namespace arca
