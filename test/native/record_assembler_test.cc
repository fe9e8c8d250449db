#include "record/record_assembler.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>

#include "test_bytes.h"

namespace arca {
namespace {

using test::ByteList;
using test::bytes_of;
using test::ExactBytes;
using test::Random;

struct TestRecord {
  uint8_t type = 0;
  ByteList payload;

  bool operator==(const TestRecord&) const = default;
};

// What a receiver makes of a stream.
struct Reading {
  std::vector<TestRecord> records;
  std::string breach;     // empty: none
  size_t unfinished = 0;  // bytes at the end that belong to a record that is not whole
  size_t needed = 0;      // bytes of that record, as far as is known

  bool operator==(const Reading&) const = default;
};

std::string describe(const Reading& reading) {
  std::string text;
  for (const TestRecord& record : reading.records) {
    text += std::to_string(record.type) + ":" + test::to_hex(record.payload) + " ";
  }
  return text + "breach=" + reading.breach + " unfinished=" + std::to_string(reading.unfinished) +
         "/" + std::to_string(reading.needed);
}

// The reference: the whole stream at once, in plain arithmetic, with nothing of the codec in it.
std::string breach_of_header(const ByteList& payload, const RecordLimits& limits) {
  const size_t gso_type = payload[1];
  const size_t gso_size = payload[4] + payload[5] * size_t{256};
  const size_t start = payload[6] + payload[7] * size_t{256};
  const size_t offset = payload[8] + payload[9] * size_t{256};
  const bool needs_checksum = payload[0] % 2 == 1;
  if (payload[0] > 3) return "unknown-flags";
  if (gso_type != 0 && gso_type != 1 && gso_type != 4 && gso_type != 5) return "unknown-gso-type";
  if (gso_type != 0 && gso_size == 0) return "zero-gso-size";
  if (needs_checksum && start + offset + 2 > payload.size() - 10) return "checksum-outside-frame";
  const bool agreed = (!needs_checksum || (limits.accepts & 1) != 0) &&
                      (gso_type != 1 || (limits.accepts & 2) != 0) &&
                      (gso_type != 4 || (limits.accepts & 4) != 0) &&
                      (gso_type != 5 || (limits.accepts & 8) != 0);
  return agreed ? "" : "offload-not-agreed";
}

Reading split_naively(const ByteList& stream, const RecordLimits& limits) {
  Reading reading;
  size_t at = 0;
  while (at < stream.size()) {
    if (stream.size() - at < 4) {
      reading.unfinished = stream.size() - at;
      reading.needed = 4;
      return reading;
    }
    const uint8_t type = stream[at];
    const size_t size =
        stream[at + 1] * size_t{65536} + stream[at + 2] * size_t{256} + stream[at + 3];
    const size_t least = type == 0 ? 14 : type == 1 ? 24 : 1;
    const size_t largest = type == 0 ? 65553 : 65563;
    const size_t most = type == 2 ? 1024 : std::min(limits.largest_payload, largest);
    if (type > 2) reading.breach = "unknown-type";
    if (type <= 2 && size < least) reading.breach = "too-short";
    if (type <= 2 && size > most) reading.breach = "too-long";
    if (!reading.breach.empty()) return reading;
    if (stream.size() - at - 4 < size) {
      reading.unfinished = stream.size() - at;
      reading.needed = 4 + size;
      return reading;
    }
    const auto begin = stream.begin() + static_cast<ptrdiff_t>(at + 4);
    const ByteList payload(begin, begin + static_cast<ptrdiff_t>(size));
    if (type == 1) reading.breach = breach_of_header(payload, limits);
    if (!reading.breach.empty()) return reading;
    reading.records.push_back({type, payload});
    at += 4 + size;
  }
  return reading;
}

// Receives as the pump does: into the unfinished record first, then into a buffer that other links
// use too, so that whatever lies behind the bytes received is somebody else's.
class Receiver {
 public:
  explicit Receiver(const RecordLimits& limits) : assembler_(limits) {}

  // False after a breach.
  bool take(Bytes chunk, size_t garbage_behind) {
    const MutableBytes room = assembler_.room();
    const size_t in_room = std::min(room.size(), chunk.size());
    std::copy_n(chunk.begin(), in_room, room.begin());
    ByteList bulk_bytes = test::to_list(chunk.subspan(in_room));
    bulk_bytes.insert(bulk_bytes.end(), garbage_behind, uint8_t{0xEE});
    const ExactBytes bulk{Bytes(bulk_bytes)};
    const std::optional<Breach> breach =
        assembler_.accept(chunk.size(), bulk.view(), [this](const Record& record) {
          reading_.records.push_back(
              {static_cast<uint8_t>(record.type), test::to_list(record.payload)});
          return std::optional<Breach>();
        });
    if (breach) reading_.breach = breach_word(*breach);
    return !breach;
  }

  Reading reading() {
    Reading reading = reading_;
    if (!reading.breach.empty()) return reading;
    reading.needed = assembler_.owned_bytes();
    reading.unfinished = reading.needed - assembler_.room().size();
    return reading;
  }
  RecordAssembler& assembler() { return assembler_; }

 private:
  RecordAssembler assembler_;
  Reading reading_;
};

// Memory and state after each piece: nothing when no record is unfinished, else that record's size.
void check_memory(Receiver& receiver, const ByteList& stream, size_t received,
                  const RecordLimits& limits) {
  const ByteList so_far(stream.begin(), stream.begin() + static_cast<ptrdiff_t>(received));
  const Reading expected = split_naively(so_far, limits);
  if (!expected.breach.empty()) return;
  REQUIRE(receiver.assembler().owned_bytes() == expected.needed);
  REQUIRE(receiver.assembler().room().size() == expected.needed - expected.unfinished);
  REQUIRE(receiver.assembler().has_unfinished() == (expected.unfinished > 0));
}

// The stream cut at `cuts`, which ascend.
Reading receive_cut(const ByteList& stream, const RecordLimits& limits,
                    const std::vector<size_t>& cuts, size_t garbage_behind) {
  Receiver receiver(limits);
  size_t at = 0;
  for (size_t i = 0; i <= cuts.size(); ++i) {
    const size_t end = i < cuts.size() ? cuts[i] : stream.size();
    if (!receiver.take(Bytes(stream).subspan(at, end - at), garbage_behind)) break;
    at = end;
    check_memory(receiver, stream, at, limits);
  }
  return receiver.reading();
}

// Frames, an offloaded frame and a control record, all different.
ByteList mixed_stream() {
  return bytes_of(
      "0000000e,01020304050607080910111213,14,"
      "02000006,000400020001,"
      "02000001,00,"
      "0100003e,01,00,0000,0000,2200,1000,ab*51,ac,"
      "0000000f,cd*14,ce,"
      "0000003c,11*60");
}

constexpr RecordLimits kChecksumOnly{.largest_payload = kLargestRecordPayload,
                                     .accepts = kOffloadChecksum};

TEST_CASE("assembler: a stream cut at every byte gives the same records") {
  const ByteList stream = mixed_stream();
  const Reading whole = split_naively(stream, kChecksumOnly);
  REQUIRE(whole.records.size() == 6);
  REQUIRE(whole.breach == "");
  REQUIRE(whole.unfinished == 0);
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    CAPTURE(cut);
    CHECK(receive_cut(stream, kChecksumOnly, {cut}, 0) == whole);
    CHECK(receive_cut(stream, kChecksumOnly, {cut}, 7) == whole);
  }
}

TEST_CASE("assembler: a stream cut at every two bytes gives the same records") {
  const ByteList stream = mixed_stream();
  const Reading whole = split_naively(stream, kChecksumOnly);
  for (size_t first = 0; first <= stream.size(); ++first) {
    for (size_t second = first; second <= stream.size(); ++second) {
      if (receive_cut(stream, kChecksumOnly, {first, second}, 3) == whole) continue;
      CAPTURE(first);
      CAPTURE(second);
      FAIL("other records than from the whole stream");
    }
  }
}

TEST_CASE("assembler: one byte at a time") {
  const ByteList stream = mixed_stream();
  std::vector<size_t> cuts;
  for (size_t cut = 1; cut < stream.size(); ++cut) cuts.push_back(cut);
  CHECK(receive_cut(stream, kChecksumOnly, cuts, 5) == split_naively(stream, kChecksumOnly));
}

TEST_CASE("assembler: the largest records, in pieces of every kind of size") {
  for (const uint8_t type : {uint8_t{0}, uint8_t{1}}) {
    const size_t size = type == 0 ? kLargestFrame : kLargestRecordPayload;
    ByteList stream = bytes_of("0000000e,55*14");
    stream.resize(stream.size() + kRecordHeaderSize);
    encode_record_header(static_cast<RecordType>(type), size, stream.data() + 18);
    stream.resize(stream.size() + size);
    stream.back() = 0x77;
    test::append(stream, bytes_of("0000000e,66*14"));
    const Reading whole = split_naively(stream, {});
    REQUIRE(whole.records.size() == 3);
    for (const size_t piece : {size_t{4096}, size_t{32768}, size_t{65552}, size_t{65557}}) {
      std::vector<size_t> cuts;
      for (size_t cut = piece; cut < stream.size(); cut += piece) cuts.push_back(cut);
      CAPTURE(piece);
      CHECK((receive_cut(stream, {}, cuts, 0) == whole));
    }
  }
}

ByteList random_record(Random& random) {
  const auto type = static_cast<uint8_t>(random.one_in(4) ? 2 : random.between(0, 1));
  const size_t least = type == 0 ? 14 : type == 1 ? 24 : 1;
  const size_t size = least + random.between(0, random.one_in(8) ? 1000 : 40);
  ByteList record(kRecordHeaderSize);
  encode_record_header(static_cast<RecordType>(type), size, record.data());
  ByteList payload = random.bytes(size);
  if (type == 1) {
    const uint8_t gso_types[] = {0, 0, 1, 4, 5, 3};
    payload[0] = static_cast<uint8_t>(random.between(0, random.one_in(10) ? 7 : 3));
    payload[1] = gso_types[random.between(0, random.one_in(10) ? 5 : 4)];
    payload[5] = static_cast<uint8_t>(random.between(0, 5));
    payload[6] = static_cast<uint8_t>(random.between(0, size - 10));
    payload[7] = payload[8] = payload[9] = 0;
  }
  test::append(record, payload);
  return record;
}

// Mostly legal; some with a byte changed, some cut short, some of random bytes only.
ByteList random_stream(Random& random) {
  if (random.one_in(20)) return random.bytes(random.between(0, 60));
  ByteList stream;
  const size_t count = random.between(0, 8);
  for (size_t i = 0; i < count; ++i) test::append(stream, random_record(random));
  if (!stream.empty() && random.one_in(4)) {
    stream[random.between(0, stream.size() - 1)] = static_cast<uint8_t>(random.next());
  }
  if (random.one_in(4)) stream.resize(random.between(0, stream.size()));
  return stream;
}

std::vector<size_t> random_cuts(Random& random, size_t size) {
  std::vector<size_t> cuts(random.between(0, random.one_in(10) ? 200 : 12));
  for (size_t& cut : cuts) cut = random.between(0, size);
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

TEST_CASE("assembler: random streams with random cuts read as the reference reads them") {
  const uint64_t seed = test::test_seed();
  CAPTURE(seed);
  size_t breaches = 0;
  size_t unfinished = 0;
  size_t records = 0;
  for (uint64_t i = 0; i < 8000; ++i) {
    Random random(seed + i);
    const RecordLimits limits{
        .largest_payload = random.one_in(3) ? random.between(0, 700) : kLargestRecordPayload,
        .accepts = static_cast<Offloads>(random.one_in(3) ? random.between(0, 15) : 15)};
    const ByteList stream = random_stream(random);
    const Reading expected = split_naively(stream, limits);
    const std::vector<size_t> cuts = random_cuts(random, stream.size());
    const Reading actual = receive_cut(stream, limits, cuts, random.between(0, 9));
    breaches += expected.breach.empty() ? 0 : 1;
    unfinished += expected.unfinished > 0 ? 1 : 0;
    records += expected.records.size();
    if (actual == expected) continue;
    CAPTURE(i);
    CAPTURE(test::to_hex(stream));
    CHECK(describe(actual) == describe(expected));
    FAIL("the assembler and the reference differ");
  }
  // The generator must reach what it is there for.
  CHECK(breaches > 500);
  CHECK(unfinished > 500);
  CHECK(records > 10000);
}

TEST_CASE("assembler: a whole record is a view into the caller's bytes: nothing is copied") {
  RecordAssembler assembler{RecordLimits{}};
  const ExactBytes bulk{Bytes(bytes_of("0000000e,11*14,0000000f,22*15"))};
  std::vector<size_t> places;
  const auto breach = assembler.accept(bulk.view().size(), bulk.view(), [&](const Record& record) {
    places.push_back(static_cast<size_t>(record.payload.data() - bulk.view().data()));
    CHECK(assembler.owned_bytes() == 0);
    return std::optional<Breach>();
  });
  CHECK_FALSE(breach.has_value());
  CHECK(places == std::vector<size_t>{4, 22});
  CHECK(assembler.room().empty());
}

TEST_CASE("assembler: nothing received changes nothing") {
  Receiver receiver{RecordLimits{}};
  CHECK(receiver.take({}, 100));
  CHECK(receiver.assembler().owned_bytes() == 0);
  CHECK(receiver.take(bytes_of("0000000e,11*5"), 0));
  CHECK(receiver.take({}, 100));
  CHECK(receiver.assembler().room().size() == 9);
  CHECK(receiver.reading().records.empty());
}

TEST_CASE("assembler: a header that claims 16 MB takes no memory") {
  Receiver receiver{RecordLimits{}};
  CHECK(receiver.take(bytes_of("00ff"), 0));
  CHECK(receiver.assembler().owned_bytes() == kRecordHeaderSize);
  CHECK_FALSE(receiver.take(bytes_of("ffff"), 0));
  CHECK(receiver.assembler().owned_bytes() == kRecordHeaderSize);
  CHECK(receiver.reading().breach == "too-long");
}

TEST_CASE("assembler: what the callback finds ends the stream at that record") {
  const ByteList stream = bytes_of("0000000e,11*14,02000001,07,0000000e,22*14");
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    RecordAssembler assembler{RecordLimits{}};
    size_t calls = 0;
    std::optional<Breach> breach;
    size_t at = 0;
    for (const size_t end : {cut, stream.size()}) {
      if (breach) break;
      const Bytes chunk = Bytes(stream).subspan(at, end - at);
      const MutableBytes room = assembler.room();
      const size_t in_room = std::min(room.size(), chunk.size());
      std::copy_n(chunk.begin(), in_room, room.begin());
      const ExactBytes bulk{chunk.subspan(in_room)};
      breach = assembler.accept(chunk.size(), bulk.view(), [&](const Record& record) {
        calls += 1;
        return record.type == RecordType::kControl ? std::optional(Breach::kMalformedControl)
                                                   : std::nullopt;
      });
      at = end;
    }
    CAPTURE(cut);
    CHECK(breach == Breach::kMalformedControl);
    CHECK(calls == 2);
  }
}

TEST_CASE("assembler: payloads stay valid until the end of the call, also of a record in pieces") {
  const ByteList stream = bytes_of("0000000e,11*14,0000000f,22*15,00000010,33*16,0000000e,44*14");
  for (size_t cut = 1; cut <= stream.size(); ++cut) {
    // Of the last record one byte is missing, so that the end begins another unfinished one.
    RecordAssembler assembler{RecordLimits{}};
    size_t at = 0;
    size_t ends = 0;
    std::string seen;
    for (const size_t end : {cut, stream.size() - 1}) {
      if (end < at) break;
      const Bytes chunk = Bytes(stream).subspan(at, end - at);
      const MutableBytes room = assembler.room();
      const size_t in_room = std::min(room.size(), chunk.size());
      std::copy_n(chunk.begin(), in_room, room.begin());
      const ExactBytes bulk{chunk.subspan(in_room)};
      std::vector<Bytes> payloads;
      const auto breach = assembler.accept(
          chunk.size(), bulk.view(),
          [&](const Record& record) {
            payloads.push_back(record.payload);
            return std::optional<Breach>();
          },
          [&] {
            ends += 1;
            for (const Bytes payload : payloads) seen += test::to_hex(payload) + " ";
          });
      CHECK_FALSE(breach.has_value());
      at = end;
    }
    CAPTURE(cut);
    CHECK(ends == (cut == stream.size() ? 1 : 2));
    const std::string whole =
        std::string(28, '1') + " " + std::string(30, '2') + " " + std::string(32, '3') + " ";
    CHECK(seen == (cut == stream.size() ? whole + std::string(28, '4') + " " : whole));
    CHECK(assembler.owned_bytes() == (cut == stream.size() ? 0 : 18));
  }
}

TEST_CASE("assembler: the end of the call is told after a breach too, once") {
  RecordAssembler assembler{RecordLimits{}};
  const ExactBytes bulk{Bytes(bytes_of("0000000e,11*14,03000000"))};
  std::string calls;
  const auto breach = assembler.accept(
      bulk.view().size(), bulk.view(),
      [&](const Record&) {
        calls += "record ";
        return std::optional<Breach>();
      },
      [&] { calls += "end "; });
  CHECK(breach == Breach::kUnknownType);
  CHECK(calls == "record end ");
}

TEST_CASE("assembler: offloads that are accepted later are added to those of before") {
  const ByteList tso4 = bytes_of("01000046,01,01,3600,b405,2200,1000,ab*60");
  const ByteList tso6 = bytes_of("01000046,01,04,4a00,b405,2200,1000,ab*60");
  const auto read_all = [](RecordAssembler& assembler, const ByteList& stream) {
    const MutableBytes room = assembler.room();
    const size_t in_room = std::min(room.size(), stream.size());
    std::copy_n(stream.begin(), in_room, room.begin());
    const ExactBytes bulk{Bytes(stream).subspan(in_room)};
    const auto breach = assembler.accept(stream.size(), bulk.view(),
                                         [](const Record&) { return std::optional<Breach>(); });
    return std::string(breach ? breach_word(*breach) : "none");
  };
  RecordAssembler assembler{kChecksumOnly};
  assembler.widen(kOffloadTso4);
  CHECK(read_all(assembler, tso4) == "none");
  assembler.widen(kOffloadTso6);
  CHECK(read_all(assembler, tso4) == "none");
  CHECK(read_all(assembler, tso6) == "none");

  // Also between the pieces of a record.
  RecordAssembler halfway{kChecksumOnly};
  CHECK(read_all(halfway, ByteList(tso4.begin(), tso4.begin() + 40)) == "none");
  halfway.widen(kOffloadTso4);
  CHECK(read_all(halfway, ByteList(tso4.begin() + 40, tso4.end())) == "none");
  CHECK(read_all(halfway, tso6) == "offload-not-agreed");
}

}  // namespace
}  // namespace arca
