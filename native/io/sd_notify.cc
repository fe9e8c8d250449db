#include "io/sd_notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "io/unique_fd.h"

namespace arca {

Status sd_notify(const std::string& path, const std::string& state) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() >= sizeof address.sun_path) {
    return Error{"sendto(NOTIFY_SOCKET)", EINVAL};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // abstract

  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return last_error("socket(AF_UNIX)");
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (::sendto(fd.get(), state.data(), state.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address), size) < 0) {
    return last_error("sendto(NOTIFY_SOCKET)");
  }
  return Done{};
}

}  // namespace arca
