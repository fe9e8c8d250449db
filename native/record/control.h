// The payload of a control record: TLVs. Sent only to a peer whose HELLO arrived.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "record/bytes.h"

namespace arca {

enum class GoodbyeReason : uint16_t {
  kUnspecified = 0,
  kStopped = 1,   // the sender stops; nobody will listen there for now
  kReplaced = 2,  // another peer took this link's place
  kBusy = 3,      // another peer has the link
  kBreach = 4,    // the receiver of this broke the protocol
};

// The stable word of a reason: "stopped".
const char* goodbye_word(GoodbyeReason reason);

struct Goodbye {
  GoodbyeReason reason = GoodbyeReason::kUnspecified;
  std::string detail{};  // for people; at most 200 bytes, printable ASCII after decoding
};

// Each that is set stands in the record.
struct Control {
  std::optional<uint64_t> ping{};  // a cookie; the answer is a pong with the same one
  std::optional<uint64_t> pong{};
  std::optional<Goodbye> goodbye{};
};

// The payload, without the record's header.
std::vector<uint8_t> encode_control(const Control& control);

// Empty if a TLV is malformed; unknown TLVs are skipped.
std::optional<Control> decode_control(Bytes payload);

}  // namespace arca
