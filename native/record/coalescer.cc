#include "record/coalescer.h"

#include <algorithm>
#include <cstring>

#include "record/checksum.h"

namespace arca {
namespace {

constexpr uint16_t kEtherTypeIpv4 = 0x0800;
constexpr uint16_t kEtherTypeIpv6 = 0x86DD;
constexpr uint8_t kProtocolTcp = 6;
constexpr size_t kIpAt = kEthernetHeaderSize;
constexpr size_t kIpv4HeaderSize = 20;  // without options, which are never joined
constexpr size_t kIpv6HeaderSize = 40;
constexpr size_t kTcpHeaderSize = 20;
constexpr size_t kLargestIpPacket = 65535;
constexpr uint16_t kIpv4MoreFragmentsOrOffset = 0x3FFF;

// Offsets from the start of the TCP header.
constexpr size_t kTcpSequenceAt = 4;
constexpr size_t kTcpDataOffsetAt = 12;
constexpr size_t kTcpFlagsAt = 13;
constexpr size_t kTcpWindowAt = 14;
constexpr size_t kTcpChecksumAt = 16;
constexpr size_t kTcpUrgentAt = 18;
constexpr uint8_t kTcpAck = 0x10;
constexpr uint8_t kTcpPush = 0x08;

// Offsets from the start of the frame.
constexpr size_t kIpv4LengthAt = kIpAt + 2;
constexpr size_t kIpv4IdAt = kIpAt + 4;
constexpr size_t kIpv4FragmentAt = kIpAt + 6;
constexpr size_t kIpv4ProtocolAt = kIpAt + 9;
constexpr size_t kIpv4ChecksumAt = kIpAt + 10;
constexpr size_t kIpv4AddressesAt = kIpAt + 12;
constexpr size_t kIpv6LengthAt = kIpAt + 4;
constexpr size_t kIpv6NextHeaderAt = kIpAt + 6;
constexpr size_t kIpv6AddressesAt = kIpAt + 8;

bool same_bytes(Bytes a, Bytes b, size_t at, size_t size) {
  return std::memcmp(a.data() + at, b.data() + at, size) == 0;
}

// The pseudo header's sum but for the length. RFC 9293, section 3.1; RFC 8200, section 8.1.
uint64_t address_sum(Bytes frame, uint8_t ip_version) {
  const Bytes addresses =
      ip_version == 4 ? frame.subspan(kIpv4AddressesAt, 8) : frame.subspan(kIpv6AddressesAt, 32);
  return checksum_add(kProtocolTcp, addresses);
}

}  // namespace

Coalescer::Kind Coalescer::classify(Bytes frame, Segment& segment) {
  segment.frame = frame;
  const uint16_t type = ether_type(frame);
  if (type == kEtherTypeIpv4) {
    if (frame.size() < kIpAt + kIpv4HeaderSize + kTcpHeaderSize) return Kind::kOther;
    if (frame[kIpAt] != 0x45 || frame[kIpv4ProtocolAt] != kProtocolTcp) return Kind::kOther;
    if ((load_be16(&frame[kIpv4FragmentAt]) & kIpv4MoreFragmentsOrOffset) != 0) return Kind::kOther;
    segment.ip_version = 4;
    segment.tcp_at = kIpAt + kIpv4HeaderSize;
    // Padding behind the packet would become part of the payload.
    if (load_be16(&frame[kIpv4LengthAt]) != frame.size() - kIpAt) return Kind::kTcpOther;
    const uint64_t header_sum = checksum_add(0, frame.subspan(kIpAt, kIpv4HeaderSize));
    if (checksum_fold(header_sum) != 0xFFFF) return Kind::kTcpOther;
  } else if (type == kEtherTypeIpv6) {
    if (frame.size() < kIpAt + kIpv6HeaderSize + kTcpHeaderSize) return Kind::kOther;
    if (frame[kIpAt] >> 4 != 6 || frame[kIpv6NextHeaderAt] != kProtocolTcp) return Kind::kOther;
    segment.ip_version = 6;
    segment.tcp_at = kIpAt + kIpv6HeaderSize;
    const size_t length = load_be16(&frame[kIpv6LengthAt]);
    if (length != frame.size() - segment.tcp_at) return Kind::kTcpOther;
  } else {
    return Kind::kOther;
  }
  return classify_tcp(segment, address_sum(frame, segment.ip_version));
}

Coalescer::Kind Coalescer::classify_tcp(Segment& segment, uint64_t pseudo_sum) {
  const Bytes tcp = segment.frame.subspan(segment.tcp_at);
  const size_t header_size = size_t{tcp[kTcpDataOffsetAt]} >> 4 << 2;
  if (header_size < kTcpHeaderSize || header_size >= tcp.size()) return Kind::kTcpOther;
  if ((tcp[kTcpDataOffsetAt] & 0x0F) != 0) return Kind::kTcpOther;  // reserved bits
  if ((tcp[kTcpFlagsAt] & ~kTcpPush) != kTcpAck) return Kind::kTcpOther;
  if (load_be16(&tcp[kTcpUrgentAt]) != 0) return Kind::kTcpOther;
  segment.payload_at = segment.tcp_at + header_size;
  segment.sequence = load_be32(&tcp[kTcpSequenceAt]);
  segment.push = (tcp[kTcpFlagsAt] & kTcpPush) != 0;
  // Last, since it reads the whole segment.
  const uint64_t sum = checksum_add(pseudo_sum + tcp.size(), tcp);
  return checksum_fold(sum) == 0xFFFF ? Kind::kTcpData : Kind::kTcpOther;
}

bool Coalescer::same_flow(const Segment& a, const Segment& b) {
  if (a.ip_version != b.ip_version) return false;
  const size_t addresses_at = a.ip_version == 4 ? kIpv4AddressesAt : kIpv6AddressesAt;
  // Addresses and ports stand side by side.
  return same_bytes(a.frame, b.frame, addresses_at, a.tcp_at + 4 - addresses_at);
}

// Whether segmentation of the train and this segment gives back both. The flow is the same.
bool Coalescer::joins(const Slot& slot, const Segment& segment) {
  const Segment& first = slot.first;
  if (segment.sequence != slot.next_sequence) return false;
  if (slot.count == kMostSegments) return false;
  if (segment.payload_at != first.payload_at) return false;
  if (segment.payload_size() > slot.segment_size) return false;
  if (slot.total + segment.payload_size() > kIpAt + kLargestIpPacket) return false;

  const Bytes a = first.frame;
  const Bytes b = segment.frame;
  if (!same_bytes(a, b, 0, kEthernetHeaderSize)) return false;
  if (first.ip_version == 4) {
    if (!same_bytes(a, b, kIpAt, 2)) return false;  // version, TOS
    if (load_be16(&b[kIpv4IdAt]) != slot.next_id) return false;
    if (!same_bytes(a, b, kIpv4FragmentAt, 4)) return false;  // flags, TTL, protocol
  } else {
    if (!same_bytes(a, b, kIpAt, 4)) return false;              // version, class, flow label
    if (!same_bytes(a, b, kIpv6NextHeaderAt, 2)) return false;  // next header, hop limit
  }
  // Acknowledgement and data offset; the flags were checked; window; then the options.
  const size_t tcp = first.tcp_at;
  return same_bytes(a, b, tcp + 8, 5) && same_bytes(a, b, tcp + kTcpWindowAt, 2) &&
         same_bytes(a, b, tcp + kTcpHeaderSize, first.payload_at - tcp - kTcpHeaderSize);
}

// A train can take no more behind a short segment, or one that asks to be pushed.
bool Coalescer::is_complete(const Slot& slot, const Segment& segment) {
  return segment.push || segment.payload_size() < slot.segment_size;
}

void Coalescer::open(Slot& slot, const Segment& segment) {
  slot.used = true;
  slot.opened = ++opened_;
  slot.first = segment;
  slot.segment_size = segment.payload_size();
  slot.next_sequence = segment.sequence + static_cast<uint32_t>(segment.payload_size());
  slot.next_id = static_cast<uint16_t>(load_be16(&segment.frame[kIpv4IdAt]) + 1);
  slot.frame_bytes = segment.frame.size();
  slot.total = segment.frame.size();
  slot.count = 1;
  slot.push = segment.push;
  slot.pieces[1] = segment.payload();
  ++used_;
}

void Coalescer::join(Slot& slot, const Segment& segment) {
  slot.next_sequence += static_cast<uint32_t>(segment.payload_size());
  slot.next_id = static_cast<uint16_t>(slot.next_id + 1);
  slot.frame_bytes += segment.frame.size();
  slot.total += segment.payload_size();
  slot.push = segment.push;
  slot.pieces[++slot.count] = segment.payload();
}

Coalescer::Slot* Coalescer::find(const Segment& segment) {
  if (used_ == 0) return nullptr;
  for (Slot& slot : slots_) {
    if (slot.used && same_flow(slot.first, segment)) return &slot;
  }
  return nullptr;
}

Coalescer::Slot* Coalescer::oldest() {
  Slot* found = nullptr;
  if (used_ == 0) return found;
  for (Slot& slot : slots_) {
    if (slot.used && (found == nullptr || slot.opened < found->opened)) found = &slot;
  }
  return found;
}

Train Coalescer::finish(Slot& slot) {
  const Segment& first = slot.first;
  Train train{.header = {}, .pieces = {}, .frames = slot.count, .frame_bytes = slot.frame_bytes};
  if (slot.count == 1) {
    slot.pieces[0] = first.frame;
    train.pieces = std::span(slot.pieces).first(1);
    return train;
  }

  const Bytes headers = first.headers();
  uint8_t* out = slot.headers.data();
  std::copy(headers.begin(), headers.end(), out);
  const size_t tcp_length = slot.total - first.tcp_at;
  if (first.ip_version == 4) {
    store_be16(out + kIpv4LengthAt, static_cast<uint16_t>(slot.total - kIpAt));
    store_be16(out + kIpv4ChecksumAt, 0);
    const uint64_t sum = checksum_add(0, Bytes(out + kIpAt, kIpv4HeaderSize));
    store_be16(out + kIpv4ChecksumAt, static_cast<uint16_t>(~checksum_fold(sum)));
  } else {
    store_be16(out + kIpv6LengthAt, static_cast<uint16_t>(tcp_length));
  }
  if (slot.push) out[first.tcp_at + kTcpFlagsAt] |= kTcpPush;
  // The kernel completes the checksum of each segment from the pseudo header's sum.
  const uint64_t pseudo = address_sum(first.frame, first.ip_version) + tcp_length;
  store_be16(out + first.tcp_at + kTcpChecksumAt, checksum_fold(pseudo));

  train.header = {
      .flags = kVirtioNetNeedsChecksum,
      .gso_type = first.ip_version == 4 ? kVirtioNetGsoTcp4 : kVirtioNetGsoTcp6,
      .header_size = static_cast<uint16_t>(headers.size()),
      .gso_size = static_cast<uint16_t>(slot.segment_size),
      .checksum_start = static_cast<uint16_t>(first.tcp_at),
      .checksum_offset = kTcpChecksumAt,
  };
  slot.pieces[0] = Bytes(out, headers.size());
  train.pieces = std::span(slot.pieces).first(slot.count + 1);
  return train;
}

}  // namespace arca
