// Where a stream is listened for or dialled to: `vsock:[CID:]PORT` or `unix:PATH`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace arca {

inline constexpr uint32_t kVsockCidAny = 0xFFFFFFFF;  // VMADDR_CID_ANY
inline constexpr size_t kLongestUnixPath = 107;       // unix(7), bytes

enum class Transport : uint8_t { kVsock, kUnix };

struct Endpoint {
  Transport transport = Transport::kUnix;
  uint32_t cid = kVsockCidAny;  // kVsock
  uint32_t port = 0;            // kVsock
  std::string path;             // kUnix
};

struct ParsedEndpoint {
  std::optional<Endpoint> endpoint;
  std::string problem;  // for the user, when there is no endpoint
};

// Whether unix(7) can hold it.
bool is_unix_path(std::string_view path);

ParsedEndpoint parse_endpoint(std::string_view text);
std::string format_endpoint(const Endpoint& endpoint);

// Who is at the other end of an accepted stream.
struct Peer {
  Transport transport = Transport::kUnix;
  uint32_t cid = 0;   // kVsock
  uint32_t port = 0;  // kVsock
  int32_t pid = 0;    // kUnix: as SO_PEERCRED tells it
};

}  // namespace arca
