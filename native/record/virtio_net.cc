#include "record/virtio_net.h"

#include "record/ethernet.h"

namespace arca {
namespace {

constexpr uint16_t kEtherTypeIpv4 = 0x0800;
constexpr uint16_t kEtherTypeIpv6 = 0x86DD;
constexpr uint8_t kProtocolTcp = 6;
constexpr uint8_t kProtocolUdp = 17;
constexpr size_t kIpv4HeaderSize = 20;
constexpr size_t kIpv6HeaderSize = 40;
constexpr uint16_t kIpv4FragmentOffset = 0x1FFF;
constexpr int kMostExtensions = 8;

struct Transport {
  uint8_t ip_version = 0;  // 0: no transport was found
  uint8_t protocol = 0;
  size_t at = 0;  // bytes from the start of the frame
};

Transport find_ipv4_transport(Bytes frame, size_t ip_at) {
  if (frame.size() < ip_at + kIpv4HeaderSize || frame[ip_at] >> 4 != 4) return {};
  const size_t header_size = size_t{frame[ip_at] & 0x0Fu} * 4;
  if (header_size < kIpv4HeaderSize) return {};
  if ((load_be16(&frame[ip_at + 6]) & kIpv4FragmentOffset) != 0) return {};
  return {.ip_version = 4, .protocol = frame[ip_at + 9], .at = ip_at + header_size};
}

// Steps over the extension headers that may stand before a transport. RFC 8200, section 4.
Transport find_ipv6_transport(Bytes frame, size_t ip_at) {
  if (frame.size() < ip_at + kIpv6HeaderSize || frame[ip_at] >> 4 != 6) return {};
  uint8_t next = frame[ip_at + 6];
  size_t at = ip_at + kIpv6HeaderSize;
  for (int i = 0; i < kMostExtensions; ++i) {
    const bool is_extension = next == 0 || next == 43 || next == 60;  // options, routing
    if (!is_extension) return {.ip_version = 6, .protocol = next, .at = at};
    if (frame.size() < at + 8) return {};
    next = frame[at];
    at += (size_t{frame[at + 1]} + 1) * 8;
  }
  return {};
}

Transport find_transport(Bytes frame) {
  size_t ip_at = kEthernetHeaderSize;
  uint16_t type = ether_type(frame);
  for (int tags = 0; tags < 2 && (type == kEtherTypeVlan || type == kEtherTypeQinQ); ++tags) {
    if (frame.size() < ip_at + kVlanTagSize) return {};
    type = load_be16(&frame[ip_at + 2]);
    ip_at += kVlanTagSize;
  }
  if (type == kEtherTypeIpv4) return find_ipv4_transport(frame, ip_at);
  if (type == kEtherTypeIpv6) return find_ipv6_transport(frame, ip_at);
  return {};
}

bool fits_gso_type(const Transport& transport, uint8_t gso_type) {
  switch (gso_type) {
    case kVirtioNetGsoTcp4:
      return transport.ip_version == 4 && transport.protocol == kProtocolTcp;
    case kVirtioNetGsoTcp6:
      return transport.ip_version == 6 && transport.protocol == kProtocolTcp;
    case kVirtioNetGsoUdpL4:
      return transport.ip_version != 0 && transport.protocol == kProtocolUdp;
    default:
      return true;
  }
}

}  // namespace

bool describes_transport(const VirtioNetHeader& header, Bytes frame) {
  const bool is_partial = (header.flags & kVirtioNetNeedsChecksum) != 0;
  if (!is_partial && header.gso_type == kVirtioNetGsoNone) return true;
  const Transport transport = find_transport(frame);
  if (!fits_gso_type(transport, header.gso_type)) return false;
  if (!is_partial) return true;
  const bool is_tcp = transport.protocol == kProtocolTcp;
  if (transport.ip_version == 0 || (!is_tcp && transport.protocol != kProtocolUdp)) return false;
  return header.checksum_start == transport.at && header.checksum_offset == (is_tcp ? 16 : 6);
}

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
