#include "record/ip.h"

#include <doctest/doctest.h>

#include <string>

#include "test_bytes.h"

namespace arca {
namespace {

std::string hex_of(const std::optional<IpAddress>& address) {
  return address ? test::to_hex(address->view()) : "refused";
}

TEST_CASE("ip: addresses of both families") {
  CHECK(hex_of(parse_ip("10.9.0.2")) == "0a090002");
  CHECK(hex_of(parse_ip("255.255.255.255")) == "ffffffff");
  CHECK(hex_of(parse_ip("fd00::2")) == "fd000000000000000000000000000002");
  CHECK(hex_of(parse_ip("::")) == "00000000000000000000000000000000");
  CHECK(hex_of(parse_ip("2001:DB8:0:1:2::53")) == "20010db8000000010002000000000053");
  CHECK(parse_ip("10.9.0.2")->is_ipv4());
  CHECK_FALSE(parse_ip("fd00::2")->is_ipv4());
}

TEST_CASE("ip: what is no address is refused") {
  for (const char* text :
       {"", "10.9.0", "10.9.0.2.3", "10.9.0.256", "10.9.0.2 ", " 10.9.0.2", "10.9.0.2/24",
        "fd00:::2", "fd00::2%eth0", "12345::", "host", "0xa.1.1.1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_ip(text).has_value());
  }
}

TEST_CASE("ip: a zero byte does not hide what follows it") {
  CHECK_FALSE(parse_ip(std::string_view("10.9.0.2\0evil", 13)).has_value());
  CHECK_FALSE(parse_ip(std::string_view("fd00::2\0", 8)).has_value());
  CHECK_FALSE(parse_prefix(std::string_view("10.9.0.2\0/24", 12)).has_value());
}

TEST_CASE("ip: no more of a text is read than the view shows") {
  const std::string text = "10.9.0.25";
  CHECK(hex_of(parse_ip(std::string_view(text).substr(0, 8))) == "0a090002");
}

TEST_CASE("ip: a prefix is an address and its length in bits") {
  const std::optional<IpPrefix> prefix = parse_prefix("10.9.0.2/24");
  REQUIRE(prefix.has_value());
  CHECK(test::to_hex(prefix->address.view()) == "0a090002");
  CHECK(prefix->length == 24);
  CHECK(parse_prefix("10.9.0.2/0").has_value());
  CHECK(parse_prefix("10.9.0.2/32").has_value());
  CHECK(parse_prefix("fd00::2/128")->length == 128);
}

TEST_CASE("ip: what is no prefix is refused") {
  for (const char* text : {"", "/", "/24", "10.9.0.2", "10.9.0.2/", "10.9.0.2/33", "10.9.0.2/256",
                           "10.9.0.2/-1", "10.9.0.2/+1", "10.9.0.2/ 24", "10.9.0.2/24 ",
                           "10.9.0.2/24/24", "10.9.0.2/0x18", "fd00::2/129", "fd00::2"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_prefix(text).has_value());
  }
}

TEST_CASE("ip: what was written is read") {
  CAPTURE(test::test_seed());
  test::Random random(test::test_seed());
  for (int i = 0; i < 3000; ++i) {
    IpPrefix prefix;
    prefix.address.size = random.one_in(2) ? 4 : 16;
    // Zeros in between, for IPv6 shortens them.
    for (size_t k = 0; k < prefix.address.size; ++k) {
      prefix.address.bytes[k] = random.one_in(2) ? uint8_t{0} : static_cast<uint8_t>(random.next());
    }
    prefix.length = static_cast<uint8_t>(random.between(0, size_t{8} * prefix.address.size));
    CAPTURE(format_prefix(prefix));
    CHECK(parse_ip(format_ip(prefix.address)) == prefix.address);
    CHECK(parse_prefix(format_prefix(prefix)) == prefix);
  }
}

}  // namespace
}  // namespace arca
