#include "io/endpoint.h"

#include <sys/un.h>

#include <charconv>

namespace arca {
namespace {

constexpr std::string_view kVsockPrefix = "vsock:";
constexpr std::string_view kUnixPrefix = "unix:";
static_assert(kLongestUnixPath == sizeof(sockaddr_un::sun_path) - 1);

std::optional<uint32_t> parse_u32(std::string_view digits) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

ParsedEndpoint problem(std::string text) { return {.endpoint = std::nullopt, .problem = text}; }

std::string quoted(std::string_view text) {
  std::string out(1, '\'');
  out += text;
  out += '\'';
  return out;
}

ParsedEndpoint parse_vsock(std::string_view text) {
  const std::string_view address = text.substr(kVsockPrefix.size());
  const size_t colon = address.find(':');
  const bool has_cid = colon != std::string_view::npos;
  const std::optional<uint32_t> port = parse_u32(has_cid ? address.substr(colon + 1) : address);
  if (!port || *port == 0 || *port == 0xFFFFFFFF) {
    return problem(quoted(text) + ": the vsock port must be a number from 1 to 4294967294");
  }
  std::optional<uint32_t> cid = kVsockCidAny;
  if (has_cid) cid = parse_u32(address.substr(0, colon));
  if (!cid) {
    return problem(quoted(text) + ": the CID must be a number from 0 to 4294967295");
  }
  return {.endpoint = Endpoint{Transport::kVsock, *cid, *port, {}}, .problem = {}};
}

ParsedEndpoint parse_unix(std::string_view text) {
  const std::string_view path = text.substr(kUnixPrefix.size());
  if (path.empty()) return problem("'unix:' wants a path, for example unix:/run/arca/web.sock");
  if (path.size() > kLongestUnixPath) {
    return problem(quoted(text) + ": the path is longer than " + std::to_string(kLongestUnixPath) +
                   " bytes, the most that unix(7) takes");
  }
  if (path.find('\0') != std::string_view::npos) {
    return problem("the path of a Unix socket must not contain a zero byte");
  }
  return {.endpoint = Endpoint{Transport::kUnix, kVsockCidAny, 0, std::string(path)},
          .problem = {}};
}

}  // namespace

bool is_unix_path(std::string_view path) {
  return !path.empty() && path.size() <= kLongestUnixPath &&
         path.find('\0') == std::string_view::npos;
}

ParsedEndpoint parse_endpoint(std::string_view text) {
  if (text.starts_with(kVsockPrefix)) return parse_vsock(text);
  if (text.starts_with(kUnixPrefix)) return parse_unix(text);
  return problem(quoted(text) + " is neither vsock:[CID:]PORT nor unix:PATH");
}

std::string format_endpoint(const Endpoint& endpoint) {
  if (endpoint.transport == Transport::kUnix) return "unix:" + endpoint.path;
  const std::string cid = endpoint.cid == kVsockCidAny ? "" : std::to_string(endpoint.cid) + ":";
  return "vsock:" + cid + std::to_string(endpoint.port);
}

}  // namespace arca
