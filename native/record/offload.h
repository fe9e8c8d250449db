// Offloads as HELLO names them: what an end ACCEPTS from the other. Bits of the wire protocol.
#pragma once

#include <cstdint>

namespace arca {

using Offloads = uint32_t;

inline constexpr Offloads kOffloadNone = 0;
inline constexpr Offloads kOffloadChecksum = 1u
                                             << 0;  // partial checksums (csum_start, csum_offset)
inline constexpr Offloads kOffloadTso4 = 1u << 1;   // TCP segmentation over IPv4
inline constexpr Offloads kOffloadTso6 = 1u << 2;   // TCP segmentation over IPv6
inline constexpr Offloads kOffloadUso = 1u << 3;    // UDP segmentation over IPv4 and IPv6

// USO is left out: UDP segmentation was corrupt in some kernels of the 7.0 and 7.1 series.
inline constexpr Offloads kOffloadsByDefault = kOffloadChecksum | kOffloadTso4 | kOffloadTso6;

}  // namespace arca
