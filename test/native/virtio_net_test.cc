#include "record/virtio_net.h"

#include <doctest/doctest.h>

#include "record/ethernet.h"
#include "test_bytes.h"

namespace arca {
namespace {

using test::ByteList;
using test::bytes_of;
using test::ExactBytes;

constexpr Offloads kAll = kOffloadChecksum | kOffloadTso4 | kOffloadTso6 | kOffloadUso;

constexpr VirtioNetHeader kTso4{.flags = kVirtioNetNeedsChecksum,
                                .gso_type = kVirtioNetGsoTcp4,
                                .header_size = 54,
                                .gso_size = 1460,
                                .checksum_start = 34,
                                .checksum_offset = 16};

TEST_CASE("virtio-net: ten bytes, little-endian, in the order of the specification") {
  const ExactBytes bytes{Bytes(bytes_of("01,05,3602,b405,2201,1003"))};
  const VirtioNetHeader header = decode_virtio_net(bytes.view().data());
  CHECK(header.flags == 1);
  CHECK(header.gso_type == 5);
  CHECK(header.header_size == 0x0236);
  CHECK(header.gso_size == 0x05B4);
  CHECK(header.checksum_start == 0x0122);
  CHECK(header.checksum_offset == 0x0310);

  ExactBytes encoded{kVirtioNetHeaderSize};
  encode_virtio_net(header, encoded.writable().data());
  CHECK(test::to_hex(encoded.view()) == test::to_hex(bytes.view()));
}

TEST_CASE("virtio-net: any ten bytes decode and encode to themselves") {
  CAPTURE(test::test_seed());
  test::Random random(test::test_seed());
  for (int i = 0; i < 5000; ++i) {
    const ExactBytes bytes{Bytes(random.bytes(kVirtioNetHeaderSize))};
    ExactBytes encoded{kVirtioNetHeaderSize};
    encode_virtio_net(decode_virtio_net(bytes.view().data()), encoded.writable().data());
    CHECK(test::to_hex(encoded.view()) == test::to_hex(bytes.view()));
  }
}

TEST_CASE("virtio-net: a header of zeros needs nothing to be agreed") {
  CHECK(check_virtio_net({}, 14, kOffloadNone) == VirtioNetFault::kNone);
}

TEST_CASE("virtio-net: every flags byte") {
  for (unsigned flags = 0; flags < 256; ++flags) {
    VirtioNetHeader header;
    header.flags = static_cast<uint8_t>(flags);
    const bool known = flags < 4;
    CAPTURE(flags);
    CHECK(check_virtio_net(header, 60, kAll) ==
          (known ? VirtioNetFault::kNone : VirtioNetFault::kUnknownFlags));
  }
}

TEST_CASE("virtio-net: every gso_type, against every set of offloads") {
  for (unsigned type = 0; type < 256; ++type) {
    for (Offloads agreed = 0; agreed < 32; ++agreed) {
      VirtioNetHeader header = kTso4;
      header.gso_type = static_cast<uint8_t>(type);
      Offloads needed = 1;
      if (type == 1) needed = 1 | 2;
      if (type == 4) needed = 1 | 4;
      if (type == 5) needed = 1 | 8;
      VirtioNetFault expected =
          (agreed & needed) == needed ? VirtioNetFault::kNone : VirtioNetFault::kOffloadNotAgreed;
      if (type != 0 && type != 1 && type != 4 && type != 5) {
        expected = VirtioNetFault::kUnknownGsoType;
      }
      CAPTURE(type);
      CAPTURE(agreed);
      CHECK(check_virtio_net(header, 3000, agreed) == expected);
    }
  }
}

TEST_CASE("virtio-net: a segmented frame needs a gso_size, others do not") {
  for (const uint8_t type : {kVirtioNetGsoTcp4, kVirtioNetGsoTcp6, kVirtioNetGsoUdpL4}) {
    VirtioNetHeader header = kTso4;
    header.gso_type = type;
    header.gso_size = 0;
    CHECK(check_virtio_net(header, 3000, kAll) == VirtioNetFault::kZeroGsoSize);
    header.gso_size = 1;
    CHECK(check_virtio_net(header, 3000, kAll) == VirtioNetFault::kNone);
  }
}

TEST_CASE("virtio-net: the checksum lies inside the frame, to the byte") {
  CAPTURE(test::test_seed());
  test::Random random(test::test_seed());
  for (int i = 0; i < 5000; ++i) {
    VirtioNetHeader header;
    header.flags = kVirtioNetNeedsChecksum;
    header.checksum_start = static_cast<uint16_t>(random.next());
    header.checksum_offset = static_cast<uint16_t>(random.next());
    const size_t end = size_t{header.checksum_start} + size_t{header.checksum_offset} + 2;
    CHECK(check_virtio_net(header, end, kAll) == VirtioNetFault::kNone);
    CHECK(check_virtio_net(header, end - 1, kAll) == VirtioNetFault::kChecksumOutsideFrame);
    // Without the flag the fields mean nothing.
    header.flags = kVirtioNetDataValid;
    CHECK(check_virtio_net(header, 14, kOffloadNone) == VirtioNetFault::kNone);
  }
  // The sum does not wrap around at 16 bits.
  VirtioNetHeader wrapping;
  wrapping.flags = kVirtioNetNeedsChecksum;
  wrapping.checksum_start = 0xFFFF;
  wrapping.checksum_offset = 3;
  CHECK(check_virtio_net(wrapping, 60, kAll) == VirtioNetFault::kChecksumOutsideFrame);
}

TEST_CASE("virtio-net: hdr_len is not looked at") {
  for (const uint16_t size : {uint16_t{0}, uint16_t{0xFFFF}}) {
    VirtioNetHeader header = kTso4;
    header.header_size = size;
    CHECK(check_virtio_net(header, 3000, kAll) == VirtioNetFault::kNone);
  }
}

// Headers of one frame, big enough for every transport behind them.
test::ByteList frame_with(std::string_view headers) {
  test::ByteList frame = test::bytes_of(std::string("020000000001020000000002,").append(headers));
  frame.resize(200);
  return frame;
}

TEST_CASE("virtio-net: a partial checksum stands where the transport has its own") {
  constexpr std::string_view kIpv4Tcp = "0800,45,00*5,0000,40,06";
  constexpr std::string_view kIpv6Tcp = "86dd,60,00*5,06,40";
  struct {
    const char* name;
    std::string_view headers;
    uint8_t gso_type;
    uint16_t start;
    uint16_t offset;
    bool right;
  } const cases[] = {
      {"TCP over IPv4", kIpv4Tcp, 0, 34, 16, true},
      {"a segment of it", kIpv4Tcp, 1, 34, 16, true},
      {"called IPv6", kIpv4Tcp, 4, 34, 16, false},
      {"called UDP", kIpv4Tcp, 5, 34, 16, false},
      {"at UDP's place", kIpv4Tcp, 0, 34, 6, false},
      {"at the source address", kIpv4Tcp, 0, 26, 0, false},
      {"at the destination MAC", kIpv4Tcp, 0, 0, 0, false},
      {"at the source port", kIpv4Tcp, 0, 34, 0, false},
      {"UDP over IPv4", "0800,45,00*5,0000,40,11", 0, 34, 6, true},
      {"with options", "0800,46,00*5,0000,40,06", 0, 38, 16, true},
      {"behind a header that is too short", "0800,44,00*5,0000,40,06", 0, 30, 16, false},
      {"a later fragment", "0800,45,00*5,0001,40,06", 0, 34, 16, false},
      {"ICMP", "0800,45,00*5,0000,40,01", 0, 34, 2, false},
      {"TCP over IPv6", kIpv6Tcp, 4, 54, 16, true},
      {"called IPv4", kIpv6Tcp, 1, 54, 16, false},
      {"behind an option of IPv6", "86dd,60,00*5,00,40,00*32,06,01", 0, 70, 16, true},
      {"behind endless options", "86dd,60,00*5,00,40,00*150", 0, 54, 16, false},
      {"in a VLAN", "8100,0005,0800,45,00*5,0000,40,06", 0, 38, 16, true},
      {"ARP", "0806,0001", 0, 34, 16, false},
  };
  for (const auto& one : cases) {
    CAPTURE(one.name);
    const VirtioNetHeader header{.flags = kVirtioNetNeedsChecksum,
                                 .gso_type = one.gso_type,
                                 .header_size = 0,
                                 .gso_size = 1000,
                                 .checksum_start = one.start,
                                 .checksum_offset = one.offset};
    const test::ByteList frame = frame_with(one.headers);
    CHECK(describes_transport(header, frame) == one.right);
    // Cut anywhere it is read without a byte too many.
    for (size_t size = kEthernetHeaderSize; size < 80; ++size) {
      describes_transport(header, test::ExactBytes(Bytes(frame).first(size)).view());
    }
  }
  CHECK(describes_transport({}, frame_with("0806")));
}

}  // namespace
}  // namespace arca
