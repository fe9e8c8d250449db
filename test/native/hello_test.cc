#include "record/hello.h"

#include <doctest/doctest.h>

#include <set>

#include "test_bytes.h"

namespace arca {
namespace {

using test::ByteList;
using test::bytes_of;
using test::ExactBytes;
using test::Random;

constexpr size_t kTlvsAt = 30;

std::optional<Hello> decode(const ByteList& frame) {
  const ExactBytes exact{Bytes(frame)};
  return decode_hello(exact.view());
}

MacAddress random_mac(Random& random) {
  MacAddress mac{};
  for (uint8_t& byte : mac) byte = static_cast<uint8_t>(random.next());
  mac[0] = static_cast<uint8_t>((mac[0] & 0xFE) | 2);
  return mac;
}

IpAddress random_ip(Random& random) {
  IpAddress address;
  address.size = random.one_in(2) ? 4 : 16;
  for (size_t i = 0; i < address.size; ++i) {
    address.bytes[i] = static_cast<uint8_t>(random.next());
  }
  return address;
}

// Any HELLO that the encoder may be given.
Hello random_hello(Random& random) {
  Hello hello;
  hello.nonce = random.next();
  hello.accepts = static_cast<Offloads>(random.one_in(2) ? random.next() : random.between(0, 15));
  if (random.one_in(2)) hello.largest_record = static_cast<uint32_t>(random.next());
  if (random.one_in(2)) hello.largest_burst = static_cast<uint32_t>(random.next());
  if (random.one_in(2)) hello.mtu = static_cast<uint16_t>(random.between(68, 65535));
  if (random.one_in(2)) hello.mac = random_mac(random);
  InterfaceConfig& config = hello.interface_config;
  if (random.one_in(2)) config.mac = random_mac(random);
  if (random.one_in(2)) config.mtu = static_cast<uint16_t>(random.between(68, 65535));
  const auto count = [&] { return random.one_in(2) ? size_t{0} : random.between(1, 16); };
  for (size_t left = count(); left > 0; --left) {
    const IpAddress address = random_ip(random);
    const auto length = static_cast<uint8_t>(random.between(0, size_t{8} * address.size));
    config.addresses.push_back({address, length});
  }
  for (size_t left = count(); left > 0; --left) config.gateways.push_back(random_ip(random));
  for (size_t left = count(); left > 0; --left) config.dns.push_back(random_ip(random));
  return hello;
}

// With every field; no padding, since it is longer than 60 bytes.
Hello full_hello() {
  Hello hello;
  hello.nonce = 0x0123456789ABCDEF;
  hello.accepts = 0xF;
  hello.largest_record = 65563;
  hello.largest_burst = 32768;
  hello.mtu = 1500;
  hello.mac = MacAddress{2, 0, 0, 0, 0, 7};
  hello.interface_config.mac = MacAddress{2, 0, 0, 0, 0, 9};
  hello.interface_config.mtu = 1442;
  hello.interface_config.addresses = {*parse_prefix("10.9.0.2/24"), *parse_prefix("fd00::2/64")};
  hello.interface_config.gateways = {*parse_ip("10.9.0.1")};
  hello.interface_config.dns = {*parse_ip("10.9.0.53"), *parse_ip("fd00::53")};
  return hello;
}

TEST_CASE("hello: every field has its place, in network order") {
  CHECK(test::to_hex(encode_hello(full_hello())) ==
        test::to_hex(bytes_of("0180c200000e,020000000007,88b5,41524341,01,000000,0123456789abcdef,"
                              "0001,0004,0000000f,0002,0004,0001001b,0003,0004,00008000,"
                              "0004,0002,05dc,0005,0006,020000000007,0010,0006,020000000009,"
                              "0011,0002,05a2,0012,0005,18,0a090002,"
                              "0012,0011,40,fd000000000000000000000000000002,0013,0004,0a090001,"
                              "0014,0004,0a090035,0014,0010,fd000000000000000000000000000053")));
}

TEST_CASE("hello: a short one is padded with zeros to the smallest frame") {
  Hello hello;
  hello.nonce = 5;
  const ByteList frame = encode_hello(hello);
  CHECK(frame.size() == 60);
  CHECK(test::to_hex(Bytes(frame).subspan(30)) == "0001000400000000" + std::string(44, '0'));
  CHECK(decode(frame) == hello);
}

TEST_CASE("hello: its source is the interface's address, else a local one, never a group's") {
  Hello hello;
  CHECK(test::to_hex(Bytes(encode_hello(hello)).subspan(6, 6)) == "020000000000");
  hello.mac = MacAddress{2, 0, 0, 0, 0, 7};
  CHECK(test::to_hex(Bytes(encode_hello(hello)).subspan(6, 6)) == "020000000007");
}

TEST_CASE("hello: what was encoded is decoded, is addressed as a HELLO and is no larger than one") {
  const uint64_t seed = test::test_seed();
  CAPTURE(seed);
  for (uint64_t i = 0; i < 3000; ++i) {
    Random random(seed + i);
    const Hello hello = random_hello(random);
    const ExactBytes frame{Bytes(encode_hello(hello))};
    CAPTURE(i);
    CHECK(is_hello_frame(frame.view()));
    CHECK(frame.view().size() >= kSmallestHelloFrame);
    CHECK(frame.view().size() <= kLargestHelloFrame);
    const std::optional<Hello> decoded = decode_hello(frame.view());
    REQUIRE(decoded.has_value());
    CHECK((*decoded == hello));
  }
}

TEST_CASE("hello: the largest that can be encoded fits, and longer lists are cut") {
  Hello hello = full_hello();
  const IpAddress address = *parse_ip("fd00::1");
  hello.interface_config.addresses.assign(40, {address, 64});
  hello.interface_config.gateways.assign(40, address);
  hello.interface_config.dns.assign(40, address);
  const ByteList frame = encode_hello(hello);
  CHECK(frame.size() <= kLargestHelloFrame);
  const std::optional<Hello> decoded = decode(frame);
  REQUIRE(decoded.has_value());
  CHECK(decoded->interface_config.addresses.size() == kMostHelloAddresses);
  CHECK(decoded->interface_config.gateways.size() == kMostHelloAddresses);
  CHECK(decoded->interface_config.dns.size() == kMostHelloAddresses);
}

TEST_CASE("hello: cut short anywhere but between two TLVs it is malformed") {
  const ByteList frame = encode_hello(full_hello());
  std::set<size_t> ends{kTlvsAt};
  for (size_t at = kTlvsAt; at < frame.size();) {
    at += 4 + frame[at + 2] * size_t{256} + frame[at + 3];
    ends.insert(at);
  }
  REQUIRE(ends.size() == 13);
  REQUIRE(*ends.rbegin() == frame.size());
  for (size_t size = 0; size < frame.size(); ++size) {
    const ByteList cut(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(size));
    // One zero byte, the first of a type, reads as padding.
    const bool padding_left = ends.count(size - 1) != 0;
    CAPTURE(size);
    CHECK(decode(cut).has_value() == (ends.count(size) != 0 || padding_left));
  }
}

// Whatever a corrupted HELLO still says, it says after having been encoded again.
void check_survives(const ByteList& frame) {
  const std::optional<Hello> hello = decode(frame);
  if (!hello) return;
  const std::optional<Hello> again = decode(encode_hello(*hello));
  REQUIRE(again.has_value());
  REQUIRE((*again == *hello));
}

TEST_CASE("hello: every corruption of one byte is read or refused, and reads nothing outside") {
  ByteList frame = encode_hello(full_hello());
  size_t refused = 0;
  for (uint8_t& byte : frame) {
    const uint8_t original = byte;
    for (unsigned value = 0; value < 256; ++value) {
      byte = static_cast<uint8_t>(value);
      check_survives(frame);
      refused += decode(frame).has_value() ? 0 : 1;
    }
    byte = original;
  }
  // Four bytes of magic, one of version, and most of every type and length.
  CHECK(refused > 5 * 255);
  CHECK(refused < frame.size() * 255);
}

TEST_CASE("hello: magic and version must match to the bit, the reserved bytes need not") {
  for (size_t at = 14; at < 22; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      ByteList frame = encode_hello(full_hello());
      frame[at] = static_cast<uint8_t>(frame[at] ^ 1 << bit);
      CAPTURE(at);
      CHECK(decode(frame).has_value() == (at >= 19));
    }
  }
}

TEST_CASE("hello: random TLVs behind a good header") {
  const uint64_t seed = test::test_seed();
  CAPTURE(seed);
  size_t read = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    Random random(seed + i);
    ByteList frame = encode_hello(Hello{});
    frame.resize(kTlvsAt);
    for (size_t count = random.between(0, 6); count > 0; --count) {
      const size_t known[] = {1, 2, 3, 4, 5, 16, 17, 18, 19, 20};
      const size_t sizes[] = {2, 4, 5, 6, 16, 17};
      const size_t type = random.one_in(6) ? random.between(0, 30) : known[random.between(0, 9)];
      const size_t size = random.one_in(6) ? random.between(0, 20) : sizes[random.between(0, 5)];
      frame.insert(frame.end(), {0, static_cast<uint8_t>(type), 0, static_cast<uint8_t>(size)});
      test::append(frame, random.bytes(random.one_in(20) ? random.between(0, 20) : size));
    }
    CAPTURE(i);
    check_survives(frame);
    read += decode(frame).has_value() ? 1 : 0;
  }
  CHECK(read > 500);
  CHECK(read < 19500);
}

TEST_CASE("hello: a frame is addressed as one by destination and EtherType, every bit of them") {
  const ByteList header = bytes_of("0180c200000e,020000000007,88b5");
  const auto is_hello = [](const ByteList& bytes) {
    const ExactBytes frame{Bytes(bytes)};
    return is_hello_frame(frame.view());
  };
  CHECK(is_hello(header));
  for (size_t at = 0; at < header.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      ByteList other = header;
      other[at] = static_cast<uint8_t>(other[at] ^ 1 << bit);
      const bool is_source = at >= 6 && at < 12;
      CAPTURE(at);
      CHECK(is_hello(other) == is_source);
    }
  }
}

TEST_CASE("hello: shorter than its header, whatever the bytes, it is malformed") {
  const ByteList frame = encode_hello(Hello{});
  for (size_t size = kEthernetHeaderSize; size < kTlvsAt; ++size) {
    CHECK_FALSE(decode({frame.begin(), frame.begin() + static_cast<ptrdiff_t>(size)}).has_value());
  }
}

}  // namespace
}  // namespace arca
