#include "record/ethernet.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace arca {

std::optional<MacAddress> parse_mac(std::string_view text) {
  constexpr size_t kTextSize = 17;
  if (text.size() != kTextSize) return std::nullopt;
  MacAddress mac{};
  for (size_t i = 0; i < mac.size(); ++i) {
    const char* digits = text.data() + i * 3;
    const auto [end, error] = std::from_chars(digits, digits + 2, mac[i], 16);
    if (error != std::errc() || end != digits + 2) return std::nullopt;
    if (i + 1 < mac.size() && digits[2] != ':') return std::nullopt;
  }
  const bool is_group = (mac[0] & 1) != 0;
  const bool is_zero = std::all_of(mac.begin(), mac.end(), [](uint8_t byte) { return byte == 0; });
  if (is_group || is_zero) return std::nullopt;
  return mac;
}

std::string format_mac(const MacAddress& mac) {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                mac[4], mac[5]);
  return text;
}

}  // namespace arca
