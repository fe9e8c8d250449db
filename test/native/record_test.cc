#include "record/record.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "test_bytes.h"

namespace arca {
namespace {

using Outcome = ParsedRecord::Outcome;
using test::ByteList;
using test::bytes_of;
using test::ExactBytes;

ParsedRecord parse(const ByteList& bytes, const RecordLimits& limits = {}) {
  const ExactBytes exact{Bytes(bytes)};
  ParsedRecord parsed = parse_record(exact.view(), limits);
  // The bytes go away with this function: only the size of the payload is of use to the caller.
  if (parsed.outcome == Outcome::kRecord) {
    CHECK(parsed.record.payload.data() == exact.view().data() + kRecordHeaderSize);
    parsed.record.payload = Bytes(bytes).subspan(kRecordHeaderSize, parsed.record.payload.size());
  }
  return parsed;
}

ByteList header_of(uint8_t type, size_t payload_size) {
  ByteList header(kRecordHeaderSize);
  encode_record_header(static_cast<RecordType>(type), payload_size, header.data());
  return header;
}

std::string outcome_of(const ParsedRecord& parsed) {
  switch (parsed.outcome) {
    case Outcome::kRecord:
      return "record of " + std::to_string(parsed.size);
    case Outcome::kIncomplete:
      return "needs " + std::to_string(parsed.size);
    case Outcome::kBreach:
      return breach_word(parsed.breach);
  }
  return "?";
}

TEST_CASE("record: the sizes are those of docs/protocol.md") {
  CHECK(kLargestFrame == 65553);
  CHECK(kLargestRecordPayload == 65563);
  CHECK(kLargestControlPayload == 1024);
}

TEST_CASE("record: a header is the type and 24 bits of length, big-endian") {
  CHECK(header_of(0, 0x5EA) == bytes_of("000005ea"));
  CHECK(header_of(1, 0x01001B) == bytes_of("0101001b"));
  CHECK(header_of(2, 0xFFFFFF) == bytes_of("02ffffff"));
  CHECK(header_of(0, 0) == bytes_of("00000000"));
}

TEST_CASE("record: a frame's payload is what follows the header, and no more") {
  const ByteList bytes = bytes_of("0000000f,0102030405060708090a0b0c0d0e0f,ff*9");
  const ParsedRecord parsed = parse(bytes);
  REQUIRE(parsed.outcome == Outcome::kRecord);
  CHECK(parsed.record.type == RecordType::kFrame);
  CHECK(parsed.size == 19);
  CHECK(test::to_hex(parsed.record.payload) == "0102030405060708090a0b0c0d0e0f");
}

TEST_CASE("record: without a whole header nothing but its size is known") {
  // Bytes that could be the beginning of a breach are none before the length is there.
  for (const char* bytes : {"-", "00", "0000", "000000", "ff", "ffffff", "010000"}) {
    CHECK(outcome_of(parse(bytes_of(bytes))) == "needs 4");
  }
}

TEST_CASE("record: every prefix of a record needs the record's size") {
  const ByteList record = bytes_of("0100004a,01,00,0000,0000,2200,1000,ab*64");
  const RecordLimits limits{.largest_payload = kLargestRecordPayload, .accepts = kOffloadChecksum};
  for (size_t size = kRecordHeaderSize; size < record.size(); ++size) {
    const ByteList prefix(record.begin(), record.begin() + static_cast<ptrdiff_t>(size));
    CHECK(outcome_of(parse(prefix, limits)) == "needs 78");
  }
  CHECK(outcome_of(parse(record, limits)) == "record of 78");
}

TEST_CASE("record: every length of every type, judged by the header alone") {
  const RecordLimits announced[] = {
      {.largest_payload = kLargestRecordPayload, .accepts = 0xF},
      {.largest_payload = 1514, .accepts = kOffloadNone},
      // No limit lets a record be larger than anything that a TAP can give.
      {.largest_payload = 0xFFFFFF, .accepts = 0xF},
  };
  for (const RecordLimits& limits : announced) {
    for (int type = 0; type < 256; ++type) {
      size_t least = 0;
      size_t most = 0;
      if (type == 0) least = 14, most = std::min<size_t>(limits.largest_payload, 65553);
      if (type == 1) least = 24, most = std::min<size_t>(limits.largest_payload, 65563);
      if (type == 2) least = 1, most = 1024;
      for (const size_t size :
           {size_t{0}, size_t{1}, size_t{13}, size_t{14}, size_t{23}, size_t{24}, size_t{1024},
            size_t{1025}, size_t{1514}, size_t{1515}, size_t{65553}, size_t{65554}, size_t{65563},
            size_t{65564}, size_t{0xFFFF}, size_t{0x10000}, size_t{0xFFFFFF}}) {
        std::string expected = "needs " + std::to_string(size + 4);
        if (size < least) expected = "too-short";
        if (size > most) expected = "too-long";
        if (type > 2) expected = "unknown-type";
        CAPTURE(type);
        CAPTURE(size);
        CAPTURE(limits.largest_payload);
        CHECK(outcome_of(parse(header_of(static_cast<uint8_t>(type), size), limits)) == expected);
      }
    }
  }
}

TEST_CASE("record: limits under the smallest record leave none, and still no unknown type") {
  for (const size_t largest : {size_t{0}, size_t{13}}) {
    const RecordLimits limits{.largest_payload = largest, .accepts = 0xF};
    CHECK(outcome_of(parse(header_of(0, 14), limits)) == "too-long");
    CHECK(outcome_of(parse(header_of(0, 13), limits)) == "too-short");
    CHECK(outcome_of(parse(header_of(1, 24), limits)) == "too-long");
  }
}

TEST_CASE("record: the header of an offloaded frame is judged once the record is whole") {
  ByteList record = bytes_of("01000018,00*10,ab*14");
  CHECK(outcome_of(parse(record)) == "record of 28");
  record[4] = 0x80;
  CHECK(outcome_of(parse(record)) == "unknown-flags");
  record.pop_back();
  CHECK(outcome_of(parse(record)) == "needs 28");
}

TEST_CASE("record: the checksum's place is measured in the frame, not in the payload") {
  const RecordLimits limits{.largest_payload = kLargestRecordPayload, .accepts = kOffloadChecksum};
  for (size_t frame_size = 40; frame_size <= 70; ++frame_size) {
    ByteList record = header_of(1, 10 + frame_size);
    test::append(record, bytes_of("01,00,0000,0000,2200,1000"));
    record.resize(record.size() + frame_size);
    CAPTURE(frame_size);
    CHECK((outcome_of(parse(record, limits)) == "checksum-outside-frame") == (frame_size < 52));
  }
}

TEST_CASE("record: every fault of a virtio-net header has its own word") {
  const RecordLimits limits{.largest_payload = kLargestRecordPayload, .accepts = kOffloadChecksum};
  const auto word = [&](const char* header) {
    ByteList record = header_of(1, 10 + 60);
    test::append(record, bytes_of(header));
    record.resize(record.size() + 60);
    return outcome_of(parse(record, limits));
  };
  CHECK(word("01,00,0000,0000,2200,1000") == "record of 74");
  CHECK(word("04,00,0000,0000,2200,1000") == "unknown-flags");
  CHECK(word("01,07,0000,b405,2200,1000") == "unknown-gso-type");
  CHECK(word("01,01,0000,0000,2200,1000") == "zero-gso-size");
  CHECK(word("01,00,0000,0000,2200,1900") == "checksum-outside-frame");
  CHECK(word("01,01,0000,b405,2200,1000") == "offload-not-agreed");
}

TEST_CASE("record: each breach has a word of its own") {
  std::set<std::string> words;
  for (size_t i = 0; i < kBreachCount; ++i) words.insert(breach_word(static_cast<Breach>(i)));
  CHECK(words.size() == kBreachCount);
  CHECK(words.count("unknown") == 0);
  CHECK(std::string(breach_word(static_cast<Breach>(kBreachCount))) == "unknown");
  CHECK(std::string(breach_word(Breach::kMalformedControl)) == "malformed-control");
}

TEST_CASE("record: what was encoded is parsed, whatever stands behind it") {
  test::Random random(test::test_seed());
  CAPTURE(test::test_seed());
  for (int i = 0; i < 2000; ++i) {
    const size_t least[] = {14, 24, 1};
    const size_t most[] = {65553, 65563, 1024};
    const auto type = static_cast<uint8_t>(random.between(0, 2));
    const size_t size =
        random.between(least[type], random.one_in(20) ? most[type] : size_t{200} + least[type]);
    ByteList record = header_of(type, size);
    ByteList payload = random.bytes(size);
    if (type == 1) std::fill_n(payload.begin(), 10, uint8_t{0});
    test::append(record, payload);
    test::append(record, random.bytes(random.between(0, 40)));
    CAPTURE(i);
    const ParsedRecord parsed = parse(record);
    REQUIRE(parsed.outcome == Outcome::kRecord);
    CHECK(static_cast<uint8_t>(parsed.record.type) == type);
    CHECK(parsed.size == size + kRecordHeaderSize);
    CHECK(test::to_list(parsed.record.payload) == payload);
  }
}

}  // namespace
}  // namespace arca
