// IP addresses and prefixes as text and as the bytes that HELLO and netlink carry.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "record/bytes.h"

namespace arca {

struct IpAddress {
  uint8_t size = 4;  // 4 or 16 bytes
  std::array<uint8_t, 16> bytes{};

  bool is_ipv4() const { return size == 4; }
  Bytes view() const { return Bytes(bytes).first(size); }
  bool operator==(const IpAddress&) const = default;
};

struct IpPrefix {
  IpAddress address;
  uint8_t length = 0;  // bits

  bool operator==(const IpPrefix&) const = default;
};

std::optional<IpAddress> parse_ip(std::string_view text);
// "10.9.0.2/24"; a prefix without a length is refused.
std::optional<IpPrefix> parse_prefix(std::string_view text);
std::string format_ip(const IpAddress& address);
std::string format_prefix(const IpPrefix& prefix);

}  // namespace arca
