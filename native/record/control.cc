#include "record/control.h"

#include <algorithm>

#include "record/tlv.h"

namespace arca {
namespace {

// 3 is reserved for statistics.
enum ControlTlv : uint16_t { kPing = 1, kPong = 2, kGoodbye = 4 };

constexpr size_t kCookieSize = 8;
constexpr size_t kGoodbyeReasonSize = 2;
constexpr size_t kLargestGoodbyeDetail = 200;

// What the peer says goes into logs: nothing but printable ASCII may pass.
std::string printable(Bytes text) {
  std::string out;
  for (const uint8_t byte : text.first(std::min(text.size(), kLargestGoodbyeDetail))) {
    out += byte >= 0x20 && byte < 0x7F ? static_cast<char>(byte) : '?';
  }
  return out;
}

Goodbye read_goodbye(Bytes value) {
  const uint16_t reason = load_be16(value.data());
  const bool known = reason <= static_cast<uint16_t>(GoodbyeReason::kBreach);
  return {.reason = known ? static_cast<GoodbyeReason>(reason) : GoodbyeReason::kUnspecified,
          .detail = printable(value.subspan(kGoodbyeReasonSize))};
}

}  // namespace

const char* goodbye_word(GoodbyeReason reason) {
  switch (reason) {
    case GoodbyeReason::kUnspecified:
      return "unspecified";
    case GoodbyeReason::kStopped:
      return "stopped";
    case GoodbyeReason::kReplaced:
      return "replaced";
    case GoodbyeReason::kBusy:
      return "busy";
    case GoodbyeReason::kBreach:
      return "breach";
  }
  return "unspecified";
}

std::vector<uint8_t> encode_control(const Control& control) {
  std::vector<uint8_t> payload;
  TlvWriter tlvs(payload);
  if (control.ping) tlvs.add_u64(kPing, *control.ping);
  if (control.pong) tlvs.add_u64(kPong, *control.pong);
  if (control.goodbye) {
    std::vector<uint8_t> value(kGoodbyeReasonSize);
    store_be16(value.data(), static_cast<uint16_t>(control.goodbye->reason));
    const std::string detail = control.goodbye->detail.substr(0, kLargestGoodbyeDetail);
    value.insert(value.end(), detail.begin(), detail.end());
    tlvs.add(kGoodbye, Bytes(value));
  }
  return payload;
}

std::optional<Control> decode_control(Bytes payload) {
  Control control;
  TlvReader tlvs(payload);
  while (const std::optional<Tlv> tlv = tlvs.next()) {
    switch (tlv->type) {
      case kPing:
      case kPong:
        if (tlv->value.size() != kCookieSize) return std::nullopt;
        (tlv->type == kPing ? control.ping : control.pong) = load_be64(tlv->value.data());
        break;
      case kGoodbye:
        if (tlv->value.size() < kGoodbyeReasonSize) return std::nullopt;
        control.goodbye = read_goodbye(tlv->value);
        break;
      default:
        break;
    }
  }
  if (tlvs.malformed()) return std::nullopt;
  return control;
}

}  // namespace arca
