#include "record/checksum.h"

#include <bit>
#include <cstring>

namespace arca {

namespace {

// Adds with the carry brought back in: one's complement, which does not care how wide the words are
// (RFC 1071, section 2).
inline void add_word(uint64_t& sum, uint64_t word) {
  sum += word;
  sum += sum < word ? 1 : 0;
}

inline uint64_t load_native(const uint8_t* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

}  // namespace

// Sums in the machine's own order and turns the folded result: the sum of swapped words is the
// swapped sum. Four sums at once, since each addition waits for the one before it.
uint64_t checksum_add(uint64_t sum, Bytes bytes) {
  constexpr size_t kStride = 32;
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  uint64_t sums[4] = {};
  for (; left >= kStride; at += kStride, left -= kStride) {
    for (size_t i = 0; i < 4; ++i) add_word(sums[i], load_native(at + i * 8));
  }
  for (; left >= 8; at += 8, left -= 8) add_word(sums[0], load_native(at));
  if (left > 0) {
    uint8_t rest[8] = {};
    std::memcpy(rest, at, left);
    add_word(sums[1], load_native(rest));
  }
  add_word(sums[0], sums[1]);
  add_word(sums[2], sums[3]);
  add_word(sums[0], sums[2]);

  uint16_t folded = checksum_fold(sums[0]);
  if constexpr (std::endian::native == std::endian::little) {
    folded = static_cast<uint16_t>(folded << 8 | folded >> 8);
  }
  return sum + folded;
}

}  // namespace arca
