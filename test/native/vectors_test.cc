// Reads docs/protocol-vectors.txt, whose head says how it is written. The tree is found by the
// environment variable ARCA_SOURCE_DIR, else by the macro of that name.
#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "record/control.h"
#include "record/hello.h"
#include "record/record_assembler.h"
#include "test_bytes.h"

#ifndef ARCA_SOURCE_DIR
#define ARCA_SOURCE_DIR "."
#endif

namespace arca {
namespace {

using test::ByteList;
using test::ExactBytes;

struct Vector {
  std::string kind;
  std::string name;
  std::string limits;
  ByteList bytes;
  std::vector<std::string> outcome;
};

std::string vectors_path() {
  const char* dir = std::getenv("ARCA_SOURCE_DIR");
  return std::string(dir == nullptr ? ARCA_SOURCE_DIR : dir) + "/docs/protocol-vectors.txt";
}

Vector read_vector(const std::string& line) {
  std::istringstream tokens(line);
  Vector vector;
  std::string bytes;
  tokens >> vector.kind >> vector.name >> vector.limits >> bytes;
  for (std::string token; tokens >> token;) vector.outcome.push_back(token);
  CAPTURE(line);
  REQUIRE_FALSE(vector.outcome.empty());
  const std::optional<ByteList> parsed = test::parse_bytes(bytes);
  REQUIRE(parsed.has_value());
  vector.bytes = *parsed;
  return vector;
}

std::vector<Vector> read_vectors() {
  std::ifstream file(vectors_path());
  CAPTURE(vectors_path());
  REQUIRE(file.is_open());
  std::vector<Vector> vectors;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') vectors.push_back(read_vector(line));
  }
  return vectors;
}

std::vector<Vector> vectors_of(const std::string& kind) {
  std::vector<Vector> vectors;
  for (const Vector& vector : read_vectors()) {
    if (vector.kind == kind) vectors.push_back(vector);
  }
  REQUIRE(vectors.size() >= 10);
  return vectors;
}

std::string joined(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += (text.empty() ? "" : " ") + token;
  return text;
}

TEST_CASE("vectors: kinds are known, names are unique, every breach is there") {
  std::set<std::string> names;
  std::set<std::string> outcomes;
  for (const Vector& vector : read_vectors()) {
    CAPTURE(vector.name);
    CHECK((vector.kind == "stream" || vector.kind == "hello" || vector.kind == "control"));
    CHECK(names.insert(vector.kind + " " + vector.name).second);
    outcomes.insert(vector.outcome.back());
  }
  CHECK(names.size() > 100);
  for (size_t i = 0; i < kBreachCount; ++i) {
    const std::string word = breach_word(static_cast<Breach>(i));
    CAPTURE(word);
    CHECK(outcomes.count("breach:" + word) == 1);
  }
}

// --- streams

RecordLimits limits_of(const std::string& text) {
  RecordLimits limits;
  size_t end = 0;
  limits.accepts = static_cast<Offloads>(std::stoul(text, &end, 16));
  if (end < text.size()) limits.largest_payload = std::stoul(text.substr(end + 1));
  return limits;
}

std::string record_token(const Record& record) {
  return "record:" + std::to_string(static_cast<int>(record.type)) + ":" +
         std::to_string(record.payload.size());
}

std::optional<Breach> breach_in(const Record& record) {
  const bool malformed = record.type == RecordType::kControl && !decode_control(record.payload);
  return malformed ? std::optional(Breach::kMalformedControl) : std::nullopt;
}

std::vector<std::string> parse_whole(const Vector& vector) {
  const ExactBytes exact{Bytes(vector.bytes)};
  std::vector<std::string> tokens;
  Bytes rest = exact.view();
  while (!rest.empty()) {
    const ParsedRecord parsed = parse_record(rest, limits_of(vector.limits));
    if (parsed.outcome == ParsedRecord::Outcome::kIncomplete) {
      tokens.push_back("needed:" + std::to_string(parsed.size));
      return tokens;
    }
    std::optional<Breach> breach = parsed.breach;
    if (parsed.outcome == ParsedRecord::Outcome::kRecord) breach = breach_in(parsed.record);
    if (breach) {
      tokens.push_back(std::string("breach:") + breach_word(*breach));
      return tokens;
    }
    tokens.push_back(record_token(parsed.record));
    rest = rest.subspan(parsed.size);
  }
  tokens.push_back("end");
  return tokens;
}

std::vector<std::string> assemble(const Vector& vector, size_t cut) {
  RecordAssembler assembler{limits_of(vector.limits)};
  std::vector<std::string> tokens;
  size_t at = 0;
  for (const size_t end : {cut, vector.bytes.size()}) {
    const Bytes chunk = Bytes(vector.bytes).subspan(at, end - at);
    const MutableBytes room = assembler.room();
    const size_t in_room = std::min(room.size(), chunk.size());
    std::copy_n(chunk.begin(), in_room, room.begin());
    const ExactBytes bulk{chunk.subspan(in_room)};
    const auto on_record = [&](const Record& record) {
      const std::optional<Breach> breach = breach_in(record);
      if (!breach) tokens.push_back(record_token(record));
      return breach;
    };
    if (const auto breach = assembler.accept(chunk.size(), bulk.view(), on_record)) {
      tokens.push_back(std::string("breach:") + breach_word(*breach));
      return tokens;
    }
    at = end;
  }
  tokens.push_back(assembler.has_unfinished() ? "needed:" + std::to_string(assembler.owned_bytes())
                                              : "end");
  return tokens;
}

TEST_CASE("vectors: streams") {
  for (const Vector& vector : vectors_of("stream")) {
    CAPTURE(vector.name);
    CHECK(joined(parse_whole(vector)) == joined(vector.outcome));
  }
}

TEST_CASE("vectors: streams, however they are cut") {
  for (const Vector& vector : vectors_of("stream")) {
    // Of the long ones both ends: their middles are all the same byte.
    constexpr size_t kEnd = 100;
    for (size_t cut = 0; cut <= vector.bytes.size(); ++cut) {
      if (cut > kEnd && cut + kEnd < vector.bytes.size()) continue;
      CAPTURE(vector.name);
      CAPTURE(cut);
      CHECK(joined(assemble(vector, cut)) == joined(vector.outcome));
    }
  }
}

// --- HELLO and control

// Fields as text, in the order of the bytes for those of the same key.
using Fields = std::multimap<std::string, std::string>;

Fields fields_of(const Vector& vector) {
  Fields fields;
  for (size_t i = 1; i < vector.outcome.size(); ++i) {
    const std::string& token = vector.outcome[i];
    const size_t equals = token.find('=');
    CAPTURE(token);
    REQUIRE(equals != std::string::npos);
    const std::string key = token.substr(0, equals);
    std::string value = token.substr(equals + 1);
    if (key == "detail") value = test::to_hex(test::bytes_of(value));
    fields.emplace(key, value);
  }
  return fields;
}

std::string text_of(const Fields& fields) {
  std::string text;
  for (const auto& [key, value] : fields) text += key + "=" + value + " ";
  return text;
}

std::string hex64(uint64_t value) {
  uint8_t bytes[8];
  store_be64(bytes, value);
  return test::to_hex(bytes);
}

Fields fields_of(const Hello& hello) {
  std::ostringstream accepts;
  accepts << std::hex << hello.accepts;
  Fields fields{{"nonce", hex64(hello.nonce)}, {"accepts", accepts.str()}};
  if (hello.largest_record != 0) {
    fields.emplace("largest-record", std::to_string(hello.largest_record));
  }
  if (hello.largest_burst != 0) {
    fields.emplace("largest-burst", std::to_string(hello.largest_burst));
  }
  if (hello.mtu) fields.emplace("mtu", std::to_string(*hello.mtu));
  if (hello.mac) fields.emplace("mac", format_mac(*hello.mac));
  const InterfaceConfig& config = hello.interface_config;
  if (config.mac) fields.emplace("interface-mac", format_mac(*config.mac));
  if (config.mtu) fields.emplace("interface-mtu", std::to_string(*config.mtu));
  for (const IpPrefix& prefix : config.addresses) {
    fields.emplace("interface-address", format_prefix(prefix));
  }
  for (const IpAddress& gateway : config.gateways) {
    fields.emplace("interface-gateway", format_ip(gateway));
  }
  for (const IpAddress& dns : config.dns) fields.emplace("interface-dns", format_ip(dns));
  return fields;
}

Fields fields_of(const Control& control) {
  Fields fields;
  if (control.ping) fields.emplace("ping", hex64(*control.ping));
  if (control.pong) fields.emplace("pong", hex64(*control.pong));
  if (!control.goodbye) return fields;
  fields.emplace("goodbye", goodbye_word(control.goodbye->reason));
  const std::string& detail = control.goodbye->detail;
  if (!detail.empty()) {
    fields.emplace("detail", test::to_hex(ByteList(detail.begin(), detail.end())));
  }
  return fields;
}

// `decoded` is empty if the decoder refused the bytes; `encoded` is what it encodes to again.
template <typename Payload>
void check_decoded(const Vector& vector, const std::optional<Payload>& decoded,
                   const ByteList& encoded) {
  const std::string& expected = vector.outcome[0];
  REQUIRE((expected == "canonical" || expected == "decoded" || expected == "malformed"));
  REQUIRE(decoded.has_value() == (expected != "malformed"));
  if (!decoded) return;
  CHECK(text_of(fields_of(*decoded)) == text_of(fields_of(vector)));
  CHECK((encoded == vector.bytes) == (expected == "canonical"));
}

TEST_CASE("vectors: HELLO") {
  for (const Vector& vector : vectors_of("hello")) {
    CAPTURE(vector.name);
    const ExactBytes frame{Bytes(vector.bytes)};
    const bool addressed = is_hello_frame(frame.view());
    CHECK(addressed == (vector.outcome[0] != "ordinary"));
    if (!addressed) continue;
    const std::optional<Hello> hello = decode_hello(frame.view());
    check_decoded(vector, hello, hello ? encode_hello(*hello) : ByteList());
  }
}

TEST_CASE("vectors: control") {
  for (const Vector& vector : vectors_of("control")) {
    CAPTURE(vector.name);
    const ExactBytes payload{Bytes(vector.bytes)};
    const std::optional<Control> control = decode_control(payload.view());
    check_decoded(vector, control, control ? encode_control(*control) : ByteList());
  }
}

}  // namespace
}  // namespace arca
