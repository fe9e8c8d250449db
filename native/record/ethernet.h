// The few facts about Ethernet frames that the relay looks at. IEEE 802.3, 802.1Q.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "record/bytes.h"

namespace arca {

inline constexpr size_t kEthernetHeaderSize = 14;
inline constexpr size_t kVlanTagSize = 4;
inline constexpr uint16_t kEtherTypeVlan = 0x8100;
inline constexpr uint16_t kEtherTypeQinQ = 0x88A8;

// The largest frame that a TAP can give: the largest IP packet, the header and one VLAN tag, bytes.
inline constexpr size_t kLargestFrame = 65535 + kEthernetHeaderSize + kVlanTagSize;

// What the kernel's TAP takes as MTU (drivers/net/tun.c), bytes, L3.
inline constexpr uint32_t kLeastMtu = 68;  // RFC 791
inline constexpr uint32_t kMostMtu = 65535 - kEthernetHeaderSize;

using MacAddress = std::array<uint8_t, 6>;

// The EtherType field of a frame of at least kEthernetHeaderSize bytes.
inline uint16_t ether_type(Bytes frame) { return load_be16(frame.data() + 12); }

inline bool has_vlan_tag(Bytes frame) {
  const uint16_t type = ether_type(frame);
  return type == kEtherTypeVlan || type == kEtherTypeQinQ;
}

// "02:00:00:00:00:01". Empty on anything else, and on a group (multicast) or all-zero address.
std::optional<MacAddress> parse_mac(std::string_view text);
std::string format_mac(const MacAddress& mac);

}  // namespace arca
