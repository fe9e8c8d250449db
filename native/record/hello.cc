#include "record/hello.h"

#include <algorithm>
#include <cstring>

#include "record/tlv.h"

namespace arca {
namespace {

// After the Ethernet header: magic (4), version (1), reserved (3), nonce (8), TLVs.
constexpr uint32_t kMagic = 0x41524341;  // "ARCA"
constexpr size_t kMagicAt = kEthernetHeaderSize;
constexpr size_t kVersionAt = kMagicAt + 4;
constexpr size_t kNonceAt = kVersionAt + 4;
constexpr size_t kTlvsAt = kNonceAt + 8;

constexpr uint16_t kSmallestMtu = 68;  // RFC 791, and what Linux lets an Ethernet device have

enum HelloTlv : uint16_t {
  kAccepts = 1,
  kLargestRecord = 2,
  kLargestBurst = 3,
  kMtu = 4,
  kMac = 5,
  kInterfaceMac = 16,
  kInterfaceMtu = 17,
  kInterfaceAddress = 18,
  kInterfaceGateway = 19,
  kInterfaceDns = 20,
};

bool read_u16(Bytes value, std::optional<uint16_t>& out) {
  if (value.size() != 2) return false;
  out = load_be16(value.data());
  return true;
}

bool read_u32(Bytes value, uint32_t& out) {
  if (value.size() != 4) return false;
  out = load_be32(value.data());
  return true;
}

bool read_mtu(Bytes value, std::optional<uint16_t>& out) {
  return read_u16(value, out) && *out >= kSmallestMtu;
}

// An address that an interface can have: neither a group's nor all zero.
bool read_mac(Bytes value, std::optional<MacAddress>& out) {
  MacAddress mac{};
  if (value.size() != mac.size() || (value[0] & 1) != 0) return false;
  std::copy(value.begin(), value.end(), mac.begin());
  if (mac == MacAddress{}) return false;
  out = mac;
  return true;
}

std::optional<IpAddress> read_ip(Bytes value) {
  if (value.size() != 4 && value.size() != 16) return std::nullopt;
  IpAddress address;
  address.size = static_cast<uint8_t>(value.size());
  std::copy(value.begin(), value.end(), address.bytes.begin());
  return address;
}

bool append_ip(Bytes value, std::vector<IpAddress>& out) {
  const std::optional<IpAddress> address = read_ip(value);
  if (!address || out.size() == kMostHelloAddresses) return false;
  out.push_back(*address);
  return true;
}

// One byte of length in bits, then the address.
bool append_prefix(Bytes value, std::vector<IpPrefix>& out) {
  if (value.empty() || out.size() == kMostHelloAddresses) return false;
  const std::optional<IpAddress> address = read_ip(value.subspan(1));
  if (!address || value[0] > address->size * 8) return false;
  out.push_back({*address, value[0]});
  return true;
}

// False if the value does not fit its type. Types that this version does not know are skipped.
bool read_tlv(const Tlv& tlv, Hello& hello) {
  InterfaceConfig& config = hello.interface_config;
  switch (tlv.type) {
    case kAccepts:
      return read_u32(tlv.value, hello.accepts);
    case kLargestRecord:
      return read_u32(tlv.value, hello.largest_record);
    case kLargestBurst:
      return read_u32(tlv.value, hello.largest_burst);
    case kMtu:
      return read_mtu(tlv.value, hello.mtu);
    case kMac:
      return read_mac(tlv.value, hello.mac);
    case kInterfaceMac:
      return read_mac(tlv.value, config.mac);
    case kInterfaceMtu:
      return read_mtu(tlv.value, config.mtu);
    case kInterfaceAddress:
      return append_prefix(tlv.value, config.addresses);
    case kInterfaceGateway:
      return append_ip(tlv.value, config.gateways);
    case kInterfaceDns:
      return append_ip(tlv.value, config.dns);
    default:
      return true;
  }
}

template <typename Item, typename Write>
void write_list(const std::vector<Item>& list, Write write) {
  for (size_t i = 0; i < std::min(list.size(), kMostHelloAddresses); ++i) write(list[i]);
}

void write_interface_config(const InterfaceConfig& config, TlvWriter& tlvs) {
  if (config.mac) tlvs.add(kInterfaceMac, Bytes(*config.mac));
  if (config.mtu) tlvs.add_u16(kInterfaceMtu, *config.mtu);
  write_list(config.addresses, [&](const IpPrefix& prefix) {
    std::vector<uint8_t> value{prefix.length};
    const Bytes address = prefix.address.view();
    value.insert(value.end(), address.begin(), address.end());
    tlvs.add(kInterfaceAddress, Bytes(value));
  });
  write_list(config.gateways,
             [&](const IpAddress& address) { tlvs.add(kInterfaceGateway, address.view()); });
  write_list(config.dns,
             [&](const IpAddress& address) { tlvs.add(kInterfaceDns, address.view()); });
}

}  // namespace

std::vector<uint8_t> encode_hello(const Hello& hello) {
  std::vector<uint8_t> frame(kTlvsAt);
  std::copy(kHelloDestination.begin(), kHelloDestination.end(), frame.begin());
  // The source must be a unicast address: the interface's own, or a locally administered one.
  constexpr MacAddress kAnonymousSource{0x02, 0, 0, 0, 0, 0};
  const MacAddress source = hello.mac.value_or(kAnonymousSource);
  std::copy(source.begin(), source.end(), frame.begin() + 6);
  store_be16(frame.data() + 12, kHelloEtherType);
  store_be32(frame.data() + kMagicAt, kMagic);
  frame[kVersionAt] = kHelloVersion;
  store_be64(frame.data() + kNonceAt, hello.nonce);

  TlvWriter tlvs(frame);
  tlvs.add_u32(kAccepts, hello.accepts);
  if (hello.largest_record != 0) tlvs.add_u32(kLargestRecord, hello.largest_record);
  if (hello.largest_burst != 0) tlvs.add_u32(kLargestBurst, hello.largest_burst);
  if (hello.mtu) tlvs.add_u16(kMtu, *hello.mtu);
  if (hello.mac) tlvs.add(kMac, Bytes(*hello.mac));
  write_interface_config(hello.interface_config, tlvs);

  if (frame.size() < kSmallestHelloFrame) frame.resize(kSmallestHelloFrame);
  return frame;
}

std::optional<Hello> decode_hello(Bytes frame) {
  if (frame.size() < kTlvsAt || frame.size() > kLargestHelloFrame) return std::nullopt;
  if (load_be32(frame.data() + kMagicAt) != kMagic) return std::nullopt;
  if (frame[kVersionAt] != kHelloVersion) return std::nullopt;

  Hello hello;
  hello.nonce = load_be64(frame.data() + kNonceAt);
  TlvReader tlvs(frame.subspan(kTlvsAt));
  while (const std::optional<Tlv> tlv = tlvs.next()) {
    if (!read_tlv(*tlv, hello)) return std::nullopt;
  }
  if (tlvs.malformed()) return std::nullopt;
  return hello;
}

}  // namespace arca
