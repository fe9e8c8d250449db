#include "record/ethernet.h"

#include <doctest/doctest.h>

#include <string>

#include "test_bytes.h"

namespace arca {
namespace {

using test::bytes_of;
using test::ExactBytes;

TEST_CASE("ethernet: the EtherType of a frame that is no more than a header") {
  const auto type_of = [](const char* bytes) {
    const ExactBytes frame{Bytes(bytes_of(bytes))};
    return ether_type(frame.view());
  };
  CHECK(type_of("ff*6,02*6,0806") == 0x0806);
  CHECK(type_of("ff*6,02*6,86dd") == 0x86DD);
}

TEST_CASE("ethernet: 802.1Q and 802.1ad tags are seen, and nothing else is one") {
  const auto tagged = [](const char* bytes) {
    const ExactBytes frame{Bytes(bytes_of(bytes))};
    return has_vlan_tag(frame.view());
  };
  CHECK(tagged("ff*6,02*6,8100"));
  CHECK(tagged("ff*6,02*6,88a8"));
  CHECK_FALSE(tagged("ff*6,02*6,0800"));
  CHECK_FALSE(tagged("ff*6,02*6,0081"));
  CHECK_FALSE(tagged("81*6,00*6,8101"));
  CHECK_FALSE(tagged("ff*6,8100,02*4,0800,8100"));
}

TEST_CASE("ethernet: a MAC address is read in either case") {
  CHECK(parse_mac("02:00:00:00:00:01") == MacAddress{2, 0, 0, 0, 0, 1});
  CHECK(parse_mac("fe:DC:Ba:98:76:54") == MacAddress{0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54});
}

TEST_CASE("ethernet: what is not the address of one interface is refused") {
  for (const char* text :
       {"", "02:00:00:00:00", "02:00:00:00:00:01:", "02:00:00:00:00:01:02", "02-00-00-00-00-01",
        "02:00:00:00:00:0g", "02:00:00:00:00: 1", "02:00:00:00:00:+1", "2:0:0:0:0:1",
        "0x:00:00:00:00:01", "020000000001", " 2:00:00:00:00:01", "02:00:00:00:00-01",
        "-2:00:00:00:00:01", "01:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "03:00:00:00:00:01",
        "00:00:00:00:00:00"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_mac(text).has_value());
  }
  CHECK_FALSE(parse_mac(std::string_view("02:00:00:00:00:0\0", 17)).has_value());
}

TEST_CASE("ethernet: text that goes on behind the address is not read") {
  const std::string text = "02:00:00:00:00:01";
  for (size_t size = 0; size < text.size(); ++size) {
    const ExactBytes exact{Bytes(reinterpret_cast<const uint8_t*>(text.data()), size)};
    CHECK_FALSE(parse_mac({reinterpret_cast<const char*>(exact.view().data()), exact.view().size()})
                    .has_value());
  }
}

TEST_CASE("ethernet: what was written is read") {
  CAPTURE(test::test_seed());
  test::Random random(test::test_seed());
  for (int i = 0; i < 2000; ++i) {
    MacAddress mac{};
    for (uint8_t& byte : mac) byte = static_cast<uint8_t>(random.next());
    const bool usable = (mac[0] & 1) == 0;
    CAPTURE(format_mac(mac));
    CHECK(parse_mac(format_mac(mac)) == (usable ? std::optional(mac) : std::nullopt));
  }
  CHECK(format_mac({0x02, 0, 0, 0xAB, 0, 0x0C}) == "02:00:00:ab:00:0c");
}

}  // namespace
}  // namespace arca
