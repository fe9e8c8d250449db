// HELLO: how two ends of this project find out that they are more than plain peers.
//
// A HELLO is a legal Ethernet frame in a record of type 0, so that a plain peer writes it to its
// TAP, where it is ignored: its destination is a group address that no bridge forwards. Layout and
// TLVs: docs/protocol.md. Pure: no system call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "record/bytes.h"
#include "record/ethernet.h"
#include "record/ip.h"
#include "record/offload.h"

namespace arca {

inline constexpr MacAddress kHelloDestination{0x01, 0x80, 0xC2, 0x00, 0x00, 0x0E};
inline constexpr uint16_t kHelloEtherType = 0x88B5;  // IEEE 802 local experimental 1
inline constexpr uint8_t kHelloVersion = 1;
inline constexpr size_t kSmallestHelloFrame = 60;
// A HELLO fits the smallest MTU that a plain peer is likely to have.
inline constexpr size_t kLargestHelloFrame = 1280 + kEthernetHeaderSize;
inline constexpr size_t kMostHelloAddresses = 16;  // of each kind

// What the container's interface should be. Each field may be absent.
struct InterfaceConfig {
  std::optional<MacAddress> mac{};
  std::optional<uint16_t> mtu{};  // bytes, L3
  std::vector<IpPrefix> addresses{};
  std::vector<IpAddress> gateways{};
  std::vector<IpAddress> dns{};

  bool operator==(const InterfaceConfig&) const = default;
};

struct Hello {
  uint64_t nonce = 0;               // random, one for each link and end: tells an echo from a peer
  Offloads accepts = kOffloadNone;  // what the sender of this HELLO takes
  uint32_t largest_record = 0;      // payload, bytes; 0: not told
  uint32_t largest_burst = 0;       // bytes that the sender likes to receive at once; 0: not told
  std::optional<uint16_t> mtu{};    // of the sender's interface, bytes, L3
  std::optional<MacAddress> mac{};  // of the sender's interface
  InterfaceConfig interface_config{};  // from a relay: what the container's interface should be

  bool operator==(const Hello&) const = default;
};

// Whether a frame of at least kEthernetHeaderSize bytes is addressed as a HELLO. Such a frame never
// crosses between a TAP and a stream: from the stream it is read, from the TAP it is a forgery.
inline bool is_hello_frame(Bytes frame) {
  // The first 8 bytes hold the destination and 2 bytes of the source.
  return load_be64(frame.data()) >> 16 == 0x0180C200000E && ether_type(frame) == kHelloEtherType;
}

// The whole frame, padded to kSmallestHelloFrame; at most kLargestHelloFrame bytes. Lists longer
// than kMostHelloAddresses are cut there: who fills a Hello checks that before.
std::vector<uint8_t> encode_hello(const Hello& hello);

// Reads a frame for which is_hello_frame holds. Empty if the magic or the version is another, or a
// TLV is malformed; unknown TLVs are skipped.
std::optional<Hello> decode_hello(Bytes frame);

}  // namespace arca
