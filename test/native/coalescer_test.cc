#include "record/coalescer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "fakes.h"
#include "record/checksum.h"

using namespace arca;
using namespace arca::test;

namespace {

// What tells a TCP segment; make_segment() turns it into a frame with right checksums.
struct Shape {
  bool ipv6 = false;
  uint16_t source_port = 1000;
  uint32_t sequence = 1;
  uint32_t acknowledgement = 77;
  uint16_t window = 500;
  uint16_t id = 1;
  uint8_t tos = 0;
  uint8_t ttl = 64;
  uint8_t flags = 0x10;
  size_t options = 12;  // bytes, a multiple of 4
  uint8_t option_fill = 1;
  size_t payload = 1000;
  uint8_t seed = 1;
};

// Sums byte by byte, as RFC 1071 writes it: a way of its own.
uint16_t reference_checksum(const ByteVector& bytes, size_t from, uint32_t sum) {
  for (size_t i = from; i < bytes.size(); ++i)
    sum += (i - from) % 2 == 0 ? bytes[i] << 8 : bytes[i];
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

uint32_t reference_pseudo(const ByteVector& frame, bool ipv6, size_t tcp_size) {
  uint32_t sum = 6 + static_cast<uint32_t>(tcp_size);
  const size_t from = ipv6 ? 22 : 26;
  const size_t size = ipv6 ? 32 : 8;
  for (size_t i = from; i < from + size; i += 2) sum += load_be16(&frame[i]);
  return sum;
}

void fill_ip_checksum(ByteVector& frame) {
  store_be16(&frame[24], 0);
  const ByteVector header(frame.begin() + 14, frame.begin() + 34);
  store_be16(&frame[24], reference_checksum(header, 0, 0));
}

void fill_tcp_checksum(ByteVector& frame, bool ipv6) {
  const size_t tcp_at = ipv6 ? 54 : 34;
  store_be16(&frame[tcp_at + 16], 0);
  const uint32_t pseudo = reference_pseudo(frame, ipv6, frame.size() - tcp_at);
  store_be16(&frame[tcp_at + 16], reference_checksum(frame, tcp_at, pseudo));
}

ByteVector make_segment(const Shape& shape) {
  const size_t tcp_at = shape.ipv6 ? 54 : 34;
  ByteVector frame(tcp_at + 20 + shape.options + shape.payload);
  const uint8_t macs[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
  std::copy(std::begin(macs), std::end(macs), frame.begin());
  if (shape.ipv6) {
    store_be16(&frame[12], 0x86DD);
    frame[14] = static_cast<uint8_t>(0x60 | shape.tos >> 4);
    frame[15] = static_cast<uint8_t>(shape.tos << 4);
    store_be16(&frame[18], static_cast<uint16_t>(frame.size() - tcp_at));
    frame[20] = 6;
    frame[21] = shape.ttl;
    frame[22] = 0xFD;
    frame[37] = 1;
    frame[38] = 0xFD;
    frame[53] = 2;
  } else {
    store_be16(&frame[12], 0x0800);
    frame[14] = 0x45;
    frame[15] = shape.tos;
    store_be16(&frame[16], static_cast<uint16_t>(frame.size() - 14));
    store_be16(&frame[18], shape.id);
    frame[20] = 0x40;
    frame[22] = shape.ttl;
    frame[23] = 6;
    const uint8_t addresses[] = {10, 9, 0, 1, 10, 9, 0, 2};
    std::copy(std::begin(addresses), std::end(addresses), frame.begin() + 26);
    fill_ip_checksum(frame);
  }
  uint8_t* tcp = &frame[tcp_at];
  store_be16(tcp, shape.source_port);
  store_be16(tcp + 2, 5001);
  store_be32(tcp + 4, shape.sequence);
  store_be32(tcp + 8, shape.acknowledgement);
  tcp[12] = static_cast<uint8_t>((20 + shape.options) / 4 << 4);
  tcp[13] = shape.flags;
  store_be16(tcp + 14, shape.window);
  std::fill_n(tcp + 20, shape.options, shape.option_fill);
  for (size_t i = 0; i < shape.payload; ++i) {
    tcp[20 + shape.options + i] = static_cast<uint8_t>(shape.seed * 17 + i * 13 + (i >> 8));
  }
  fill_tcp_checksum(frame, shape.ipv6);
  return frame;
}

Shape next_of(Shape shape) {
  shape.sequence += static_cast<uint32_t>(shape.payload);
  shape.id = static_cast<uint16_t>(shape.id + 1);
  shape.seed = static_cast<uint8_t>(shape.seed + 1);
  return shape;
}

struct Emitted {
  VirtioNetHeader header;
  ByteVector bytes;
  size_t frames;
};

// What a kernel does with the frame: cuts it into segments, and completes their checksums.
std::vector<ByteVector> segment_again(const Emitted& train) {
  if (train.header.gso_type == kVirtioNetGsoNone) return {train.bytes};
  const bool ipv6 = train.header.gso_type == kVirtioNetGsoTcp6;
  const size_t tcp_at = train.header.checksum_start;
  const size_t payload_at = train.header.header_size;
  const ByteVector headers(train.bytes.begin(),
                           train.bytes.begin() + static_cast<ptrdiff_t>(payload_at));
  std::vector<ByteVector> segments;
  for (size_t at = payload_at; at < train.bytes.size(); at += train.header.gso_size) {
    const size_t size = std::min<size_t>(train.header.gso_size, train.bytes.size() - at);
    const bool last = at + size == train.bytes.size();
    ByteVector segment = headers;
    const auto begin = train.bytes.begin() + static_cast<ptrdiff_t>(at);
    segment.insert(segment.end(), begin, begin + static_cast<ptrdiff_t>(size));
    store_be32(&segment[tcp_at + 4],
               load_be32(&headers[tcp_at + 4]) + static_cast<uint32_t>(at - payload_at));
    if (!last) segment[tcp_at + 13] &= static_cast<uint8_t>(~0x08);
    if (ipv6) {
      store_be16(&segment[18], static_cast<uint16_t>(segment.size() - 54));
    } else {
      store_be16(&segment[16], static_cast<uint16_t>(segment.size() - 14));
      store_be16(&segment[18], static_cast<uint16_t>(load_be16(&headers[18]) + segments.size()));
      fill_ip_checksum(segment);
    }
    fill_tcp_checksum(segment, ipv6);
    segments.push_back(segment);
  }
  return segments;
}

// Whether the kernel takes it: the headers say what the frame is, and the checksum field holds the
// pseudo header's sum.
void check_train(const Emitted& train) {
  if (train.header.gso_type == kVirtioNetGsoNone) {
    CHECK(train.header == VirtioNetHeader{});
    CHECK(train.frames == 1);
    return;
  }
  const bool ipv6 = train.header.gso_type == kVirtioNetGsoTcp6;
  const size_t tcp_at = ipv6 ? 54 : 34;
  CHECK(check_virtio_net(train.header, train.bytes.size(),
                         kOffloadChecksum | (ipv6 ? kOffloadTso6 : kOffloadTso4)) ==
        VirtioNetFault::kNone);
  CHECK(train.header.checksum_start == tcp_at);
  CHECK(train.bytes.size() - 14 <= 65535);
  CHECK(load_be16(&train.bytes[ipv6 ? 18 : 16]) == train.bytes.size() - (ipv6 ? 54 : 14));
  if (!ipv6) {
    ByteVector right = train.bytes;
    fill_ip_checksum(right);
    CHECK(right == train.bytes);
  }
  const uint32_t pseudo = reference_pseudo(train.bytes, ipv6, train.bytes.size() - tcp_at);
  const auto folded = static_cast<uint16_t>(~reference_checksum({}, 0, pseudo));
  CHECK(load_be16(&train.bytes[tcp_at + 16]) == folded);
}

std::vector<Emitted> coalesce(const std::vector<ByteVector>& frames) {
  auto coalescer = std::make_unique<Coalescer>();
  std::vector<Emitted> trains;
  const auto emit = [&](const Train& train) {
    Emitted emitted{.header = train.header, .bytes = {}, .frames = train.frames};
    for (const Bytes piece : train.pieces) {
      emitted.bytes.insert(emitted.bytes.end(), piece.begin(), piece.end());
    }
    trains.push_back(emitted);
  };
  for (const ByteVector& frame : frames) coalescer->add(frame, emit);
  coalescer->flush(emit);
  CHECK(coalescer->empty());
  for (const Emitted& train : trains) check_train(train);
  return trains;
}

std::vector<ByteVector> segmented(const std::vector<Emitted>& trains) {
  std::vector<ByteVector> frames;
  for (const Emitted& train : trains) {
    for (ByteVector& segment : segment_again(train)) frames.push_back(std::move(segment));
  }
  return frames;
}

// A run of `count` segments that belong together.
std::vector<ByteVector> run_of(Shape shape, size_t count) {
  std::vector<ByteVector> frames;
  for (size_t i = 0; i < count; ++i) {
    frames.push_back(make_segment(shape));
    shape = next_of(shape);
  }
  return frames;
}

// The key of a flow, by a way of its own; empty for what is no whole TCP header over IP, which
// keeps its order among its like.
std::string flow_of(const ByteVector& frame) {
  const auto text = [&](size_t from, size_t size) {
    return std::string(frame.begin() + static_cast<ptrdiff_t>(from),
                       frame.begin() + static_cast<ptrdiff_t>(from + size));
  };
  const uint16_t type = load_be16(&frame[12]);
  if (type == 0x0800 && frame.size() >= 54) {
    const bool whole =
        frame[14] == 0x45 && frame[23] == 6 && (frame[20] & 0x3F) == 0 && frame[21] == 0;
    if (whole) return "4" + text(26, 12);
  }
  if (type == 0x86DD && frame.size() >= 74) {
    if (frame[14] >> 4 == 6 && frame[20] == 6) return "6" + text(22, 36);
  }
  return "";
}

}  // namespace

TEST_CASE("checksum_add agrees with RFC 1071 for every size") {
  std::mt19937 random(1);
  for (size_t size = 0; size < 300; ++size) {
    ByteVector bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    const auto expected = static_cast<uint16_t>(~reference_checksum(bytes, 0, 0));
    CHECK(checksum_fold(checksum_add(0, bytes)) == expected);
  }
  const ByteVector large(65535, 0xFF);
  CHECK(checksum_fold(checksum_add(0, large)) ==
        static_cast<uint16_t>(~reference_checksum(large, 0, 0)));
}

TEST_CASE("Coalescer joins the segments of a run") {
  for (const bool ipv6 : {false, true}) {
    CAPTURE(ipv6);
    const std::vector<ByteVector> frames = run_of({.ipv6 = ipv6, .payload = 1448}, 40);
    const std::vector<Emitted> trains = coalesce(frames);
    REQUIRE(trains.size() == 1);
    CHECK(trains[0].frames == 40);
    CHECK(trains[0].header.gso_size == 1448);
    CHECK(segmented(trains) == frames);
  }
}

TEST_CASE("Coalescer keeps a packet within what IP can say") {
  const std::vector<ByteVector> frames = run_of({.payload = 1448}, 60);
  const std::vector<Emitted> trains = coalesce(frames);
  CHECK(trains.size() == 2);
  CHECK(segmented(trains) == frames);
}

TEST_CASE("Coalescer ends a train behind a push and behind a short segment") {
  Shape shape{.payload = 500};
  std::vector<ByteVector> frames = run_of(shape, 2);
  shape = next_of(next_of(shape));
  SUBCASE("push") { shape.flags = 0x18; }
  SUBCASE("short") { shape.payload = 499; }
  frames.push_back(make_segment(shape));
  shape = next_of(shape);
  shape.flags = 0x10;
  shape.payload = 500;
  for (const ByteVector& frame : run_of(shape, 3)) frames.push_back(frame);
  const std::vector<Emitted> trains = coalesce(frames);
  REQUIRE(trains.size() == 2);
  CHECK(trains[0].frames == 3);
  CHECK(trains[1].frames == 3);
  CHECK(segmented(trains) == frames);
}

TEST_CASE("Coalescer joins nothing that segmentation would not give back") {
  const Shape first{.payload = 500};
  Shape second = next_of(first);
  SUBCASE("a hole") { second.sequence += 1; }
  SUBCASE("a repetition") { second.sequence = first.sequence; }
  SUBCASE("another acknowledgement") { second.acknowledgement += 1; }
  SUBCASE("another window") { second.window += 1; }
  SUBCASE("another TOS") { second.tos = 4; }
  SUBCASE("another TTL") { second.ttl = 63; }
  SUBCASE("another identification") { second.id += 1; }
  SUBCASE("the same identification") { second.id = first.id; }
  SUBCASE("other options") { second.option_fill = 2; }
  SUBCASE("more options") { second.options = 16; }
  SUBCASE("a longer segment") { second.payload = 501; }
  SUBCASE("FIN") { second.flags = 0x11; }
  SUBCASE("RST") { second.flags = 0x14; }
  SUBCASE("URG") { second.flags = 0x30; }
  SUBCASE("ECE") { second.flags = 0x50; }
  SUBCASE("CWR") { second.flags = 0x90; }
  SUBCASE("no payload") { second.payload = 0; }
  const std::vector<ByteVector> frames{make_segment(first), make_segment(second)};
  const std::vector<Emitted> trains = coalesce(frames);
  CHECK(trains.size() == 2);
  CHECK(segmented(trains) == frames);
}

TEST_CASE("Coalescer joins nothing whose checksum is wrong, and passes it as it is") {
  std::vector<ByteVector> frames = run_of({.payload = 500}, 3);
  SUBCASE("TCP") { frames[1][60] ^= 1; }
  SUBCASE("IP") { frames[1][24] ^= 1; }
  const std::vector<Emitted> trains = coalesce(frames);
  CHECK(trains.size() == 3);
  CHECK(segmented(trains) == frames);
}

TEST_CASE("Coalescer passes what it does not know as it is") {
  const ByteVector plain = make_segment({.payload = 500});
  std::vector<ByteVector> frames;
  frames.push_back(ByteVector(plain.begin(), plain.begin() + 14));
  for (const size_t cut : {15, 33, 34, 53, 54, 60}) {
    frames.emplace_back(plain.begin(), plain.begin() + static_cast<ptrdiff_t>(cut));
  }
  ByteVector padded = plain;
  padded.resize(padded.size() + 4);
  frames.push_back(padded);
  ByteVector fragment = plain;
  fragment[20] = 0x20;
  fill_ip_checksum(fragment);
  frames.push_back(fragment);
  ByteVector udp = plain;
  udp[23] = 17;
  frames.push_back(udp);
  ByteVector tagged = plain;
  store_be16(&tagged[12], 0x8100);
  frames.push_back(tagged);
  const std::vector<Emitted> trains = coalesce(frames);
  CHECK(segmented(trains) == frames);
  for (const Emitted& train : trains) CHECK(train.frames == 1);
}

TEST_CASE("Coalescer serves many flows at once") {
  std::vector<ByteVector> frames;
  std::vector<Shape> flows;
  for (uint16_t i = 0; i < 40; ++i) {
    flows.push_back({.ipv6 = i % 2 == 0, .source_port = static_cast<uint16_t>(2000 + i)});
  }
  for (int round = 0; round < 5; ++round) {
    for (size_t i = 0; i < 8; ++i) {
      frames.push_back(make_segment(flows[i]));
      flows[i] = next_of(flows[i]);
    }
  }
  CHECK(coalesce(frames).size() == 8);
  for (Shape& flow : flows) frames.push_back(make_segment(flow));
  // More flows than trains: the oldest goes first, nothing is lost.
  size_t count = 0;
  for (const Emitted& train : coalesce(frames)) count += train.frames;
  CHECK(count == frames.size());
}

TEST_CASE("Coalescer: what comes out, segmented again, is byte for byte what came in") {
  size_t joined = 0;
  for (uint32_t seed = 1; seed <= 1500; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto one_in = [&](uint32_t count) { return random() % count == 0; };
    std::vector<Shape> flows(1 + random() % 24);
    for (size_t i = 0; i < flows.size(); ++i) {
      flows[i].ipv6 = one_in(3);
      flows[i].source_port = static_cast<uint16_t>(i);
      flows[i].sequence = one_in(4) ? 0xFFFFFF00 : static_cast<uint32_t>(random());
      flows[i].id = one_in(4) ? 0xFFFE : static_cast<uint16_t>(random());
      flows[i].payload = 1 + random() % (one_in(5) ? 9000 : 300);
    }
    std::vector<ByteVector> frames;
    for (int i = 0; i < 150; ++i) {
      Shape& flow = flows[random() % flows.size()];
      Shape shape = flow;
      if (one_in(12)) shape.flags = static_cast<uint8_t>(0x10 | random());
      if (one_in(12)) shape.sequence += static_cast<uint32_t>(random() % 3);
      if (one_in(12)) shape.payload = random() % (shape.payload + 3);
      if (one_in(20)) shape.window = static_cast<uint16_t>(random());
      if (one_in(20)) shape.id = static_cast<uint16_t>(random());
      frames.push_back(make_segment(shape));
      if (one_in(25)) frames.back()[14 + random() % (frames.back().size() - 14)] ^= 0x10;
      if (one_in(40)) frames.back().resize(14 + random() % (frames.back().size() - 13));
      flow = next_of(shape);
      flow.payload = 1 + random() % 300;
      if (!one_in(3)) flow.payload = std::max<size_t>(shape.payload, 1);
      flow.flags = 0x10;
    }
    // Order holds within a flow; between flows it may change.
    std::map<std::string, std::vector<ByteVector>> expected;
    std::map<std::string, std::vector<ByteVector>> got;
    for (const ByteVector& frame : frames) expected[flow_of(frame)].push_back(frame);
    const std::vector<Emitted> trains = coalesce(frames);
    for (const ByteVector& frame : segmented(trains)) got[flow_of(frame)].push_back(frame);
    REQUIRE(got == expected);
    joined += frames.size() - trains.size();
  }
  CHECK(joined > 10000);
}
