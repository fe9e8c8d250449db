#include "record/control.h"

#include <doctest/doctest.h>

#include <set>

#include "record/record.h"
#include "test_bytes.h"

namespace arca {

static bool operator==(const Goodbye& a, const Goodbye& b) {
  return a.reason == b.reason && a.detail == b.detail;
}

static bool operator==(const Control& a, const Control& b) {
  return a.ping == b.ping && a.pong == b.pong && a.goodbye == b.goodbye;
}

namespace {

using test::ByteList;
using test::bytes_of;
using test::ExactBytes;
using test::Random;

std::optional<Control> decode(const ByteList& payload) {
  const ExactBytes exact{Bytes(payload)};
  return decode_control(exact.view());
}

Control control_of(std::optional<uint64_t> ping, std::optional<uint64_t> pong,
                   std::optional<Goodbye> goodbye) {
  Control control;
  control.ping = ping;
  control.pong = pong;
  control.goodbye = goodbye;
  return control;
}

Control full_control() {
  return control_of(0x0123456789ABCDEF, 0xFEDCBA9876543210,
                    Goodbye{.reason = GoodbyeReason::kBreach, .detail = "too-long"});
}

TEST_CASE("control: every field has its place, in network order") {
  CHECK(test::to_hex(encode_control(full_control())) ==
        test::to_hex(bytes_of("0001,0008,0123456789abcdef,0002,0008,fedcba9876543210,"
                              "0004,000a,0004,746f6f2d6c6f6e67")));
  CHECK(encode_control({}).empty());
}

TEST_CASE("control: what was encoded is decoded") {
  const uint64_t seed = test::test_seed();
  CAPTURE(seed);
  for (uint64_t i = 0; i < 3000; ++i) {
    Random random(seed + i);
    Control control;
    if (random.one_in(2)) control.ping = random.next();
    if (random.one_in(2)) control.pong = random.next();
    if (random.one_in(2)) {
      control.goodbye.emplace();
      control.goodbye->reason = static_cast<GoodbyeReason>(random.between(0, 4));
      for (size_t left = random.between(0, 200); left > 0; --left) {
        control.goodbye->detail += static_cast<char>(random.between(0x20, 0x7E));
      }
    }
    const ByteList payload = encode_control(control);
    CAPTURE(i);
    CHECK(payload.size() <= kLargestControlPayload);
    const std::optional<Control> decoded = decode(payload);
    REQUIRE(decoded.has_value());
    CHECK((*decoded == control));
  }
}

TEST_CASE("control: a zero cookie is a cookie") {
  const std::optional<Control> decoded = decode(bytes_of("0001,0008,00*8"));
  REQUIRE(decoded.has_value());
  CHECK(decoded->ping == 0);
  CHECK_FALSE(decoded->pong.has_value());
}

TEST_CASE("control: every byte of a detail that no log should see is replaced") {
  ByteList payload = bytes_of("0004,0003,0001,00");
  for (unsigned byte = 0; byte < 256; ++byte) {
    payload.back() = static_cast<uint8_t>(byte);
    const std::optional<Control> decoded = decode(payload);
    REQUIRE(decoded.has_value());
    const bool printable = byte >= 0x20 && byte <= 0x7E;
    CAPTURE(byte);
    CHECK(decoded->goodbye->detail == std::string(1, printable ? static_cast<char>(byte) : '?'));
  }
}

TEST_CASE("control: a long detail is cut by the encoder as by the decoder") {
  const Control control = control_of(
      {}, {}, Goodbye{.reason = GoodbyeReason::kStopped, .detail = std::string(5000, 'x')});
  const ByteList payload = encode_control(control);
  CHECK(payload.size() == 4 + 2 + 200);
  CHECK(decode(payload)->goodbye->detail == std::string(200, 'x'));
}

TEST_CASE("control: reasons of a later version read as unspecified, each known one as itself") {
  std::set<std::string> words;
  ByteList payload = bytes_of("0004,0002,0000");
  for (unsigned reason = 0; reason < 65536; ++reason) {
    store_be16(payload.data() + 4, static_cast<uint16_t>(reason));
    const std::optional<Control> decoded = decode(payload);
    REQUIRE(decoded.has_value());
    REQUIRE(static_cast<unsigned>(decoded->goodbye->reason) == (reason <= 4 ? reason : 0));
    words.insert(goodbye_word(decoded->goodbye->reason));
  }
  CHECK(words == std::set<std::string>{"unspecified", "stopped", "replaced", "busy", "breach"});
}

TEST_CASE("control: cut short anywhere but between two TLVs it is malformed") {
  const ByteList payload = encode_control(full_control());
  const std::set<size_t> ends{0, 12, 24, payload.size()};
  for (size_t size = 0; size <= payload.size(); ++size) {
    const ByteList cut(payload.begin(), payload.begin() + static_cast<ptrdiff_t>(size));
    // One zero byte, the first of a type, reads as padding.
    const bool padding_left = size > 0 && size < payload.size() && ends.count(size - 1) != 0;
    CAPTURE(size);
    CHECK(decode(cut).has_value() == (ends.count(size) != 0 || padding_left));
  }
}

void check_survives(const ByteList& payload) {
  const std::optional<Control> control = decode(payload);
  if (!control) return;
  const std::optional<Control> again = decode(encode_control(*control));
  REQUIRE(again.has_value());
  REQUIRE((*again == *control));
}

TEST_CASE("control: every corruption of one byte is read or refused, and reads nothing outside") {
  ByteList payload = encode_control(full_control());
  size_t refused = 0;
  for (uint8_t& byte : payload) {
    const uint8_t original = byte;
    for (unsigned value = 0; value < 256; ++value) {
      byte = static_cast<uint8_t>(value);
      check_survives(payload);
      refused += decode(payload).has_value() ? 0 : 1;
    }
    byte = original;
  }
  CHECK(refused > 3 * 255);
  CHECK(refused < payload.size() * 255);
}

TEST_CASE("control: random payloads") {
  const uint64_t seed = test::test_seed();
  CAPTURE(seed);
  size_t read = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    Random random(seed + i);
    ByteList payload;
    for (size_t count = random.between(1, 4); count > 0; --count) {
      const size_t size = random.one_in(3) ? random.between(0, 12) : random.one_in(3) ? 2 : 8;
      const auto type = static_cast<uint8_t>(random.between(0, 5));
      payload.insert(payload.end(), {0, type, 0, static_cast<uint8_t>(size)});
      test::append(payload, random.bytes(random.one_in(20) ? random.between(0, 12) : size));
    }
    CAPTURE(i);
    check_survives(payload);
    read += decode(payload).has_value() ? 1 : 0;
  }
  CHECK(read > 1000);
  CHECK(read < 19000);
}

}  // namespace
}  // namespace arca
