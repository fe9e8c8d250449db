// The 10-byte virtio-net header, little-endian. Virtual I/O Device (VIRTIO) 1.2, section 5.1.6, and
// the kernel's linux/virtio_net.h, which is not valid C++ in Debian 12 (a field named `class`).
#pragma once

#include <cstddef>
#include <cstdint>

#include "record/bytes.h"
#include "record/offload.h"

namespace arca {

inline constexpr size_t kVirtioNetHeaderSize = 10;

inline constexpr uint8_t kVirtioNetNeedsChecksum = 1;
inline constexpr uint8_t kVirtioNetDataValid = 2;

inline constexpr uint8_t kVirtioNetGsoNone = 0;
inline constexpr uint8_t kVirtioNetGsoTcp4 = 1;
inline constexpr uint8_t kVirtioNetGsoTcp6 = 4;
inline constexpr uint8_t kVirtioNetGsoUdpL4 = 5;

struct VirtioNetHeader {
  uint8_t flags = 0;
  uint8_t gso_type = kVirtioNetGsoNone;
  uint16_t header_size = 0;  // hdr_len: a hint, not to be trusted
  uint16_t gso_size = 0;
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;

  bool operator==(const VirtioNetHeader&) const = default;
};

// `bytes` holds at least kVirtioNetHeaderSize bytes.
VirtioNetHeader decode_virtio_net(const uint8_t* bytes);
void encode_virtio_net(const VirtioNetHeader& header, uint8_t* bytes);

enum class VirtioNetFault : uint8_t {
  kNone,
  kUnknownFlags,
  kUnknownGsoType,
  kZeroGsoSize,
  kChecksumOutsideFrame,
  kOffloadNotAgreed,
};

// Whether a header may stand before a frame of `frame_size` bytes, given what was agreed. The peer
// is hostile: nothing of the header reaches the kernel before this has passed.
VirtioNetFault check_virtio_net(const VirtioNetHeader& header, size_t frame_size, Offloads agreed);

// Whether a partial checksum stands where TCP or UDP has its own, and a large segment is what its
// header says. The kernel writes the checksum when the frame leaves, after the switch has judged
// it: at a place of the peer's choice it could forge addresses and ports. True for a header without
// either. `frame` holds at least kEthernetHeaderSize bytes.
bool describes_transport(const VirtioNetHeader& header, Bytes frame);

}  // namespace arca
