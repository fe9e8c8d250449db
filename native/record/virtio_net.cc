#include "record/virtio_net.h"

namespace arca {

VirtioNetHeader decode_virtio_net(const uint8_t* bytes) {
  return VirtioNetHeader{
      .flags = bytes[0],
      .gso_type = bytes[1],
      .header_size = load_le16(bytes + 2),
      .gso_size = load_le16(bytes + 4),
      .checksum_start = load_le16(bytes + 6),
      .checksum_offset = load_le16(bytes + 8),
  };
}

void encode_virtio_net(const VirtioNetHeader& header, uint8_t* bytes) {
  bytes[0] = header.flags;
  bytes[1] = header.gso_type;
  store_le16(bytes + 2, header.header_size);
  store_le16(bytes + 4, header.gso_size);
  store_le16(bytes + 6, header.checksum_start);
  store_le16(bytes + 8, header.checksum_offset);
}

VirtioNetFault check_virtio_net(const VirtioNetHeader& header, size_t frame_size, Offloads agreed) {
  if ((header.flags & ~(kVirtioNetNeedsChecksum | kVirtioNetDataValid)) != 0) {
    return VirtioNetFault::kUnknownFlags;
  }

  Offloads needed = kOffloadNone;
  switch (header.gso_type) {
    case kVirtioNetGsoNone:
      break;
    case kVirtioNetGsoTcp4:
      needed = kOffloadTso4;
      break;
    case kVirtioNetGsoTcp6:
      needed = kOffloadTso6;
      break;
    case kVirtioNetGsoUdpL4:
      needed = kOffloadUso;
      break;
    default:
      return VirtioNetFault::kUnknownGsoType;
  }
  if (header.gso_type != kVirtioNetGsoNone && header.gso_size == 0) {
    return VirtioNetFault::kZeroGsoSize;
  }

  if ((header.flags & kVirtioNetNeedsChecksum) != 0) {
    needed |= kOffloadChecksum;
    const size_t checksum_end = size_t{header.checksum_start} + header.checksum_offset + 2;
    if (checksum_end > frame_size) return VirtioNetFault::kChecksumOutsideFrame;
  }
  if ((needed & ~agreed) != 0) return VirtioNetFault::kOffloadNotAgreed;
  return VirtioNetFault::kNone;
}

}  // namespace arca
