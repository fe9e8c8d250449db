// systemd's notification protocol, sd_notify(3): one datagram of text.
#pragma once

#include <string>

#include "io/result.h"

namespace arca {

// `path` is what NOTIFY_SOCKET holds: a path, or @ and an abstract name. Does not block: EAGAIN
// when nobody reads.
Status sd_notify(const std::string& path, const std::string& state);

}  // namespace arca
