// Configures a network interface by rtnetlink(7), in the network namespace that open() ran in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/result.h"
#include "io/unique_fd.h"
#include "record/ethernet.h"
#include "record/ip.h"

namespace arca {

// Each field that is set is changed; all in one message, so that the kernel checks them together.
struct LinkChange {
  std::optional<uint32_t> mtu;  // bytes, L3
  std::optional<MacAddress> mac;
  std::optional<bool> up;
  // The host's own stack must not take part behind this device: no ARP, no answer to ARP for other
  // interfaces' addresses, strict reverse path filter, no IPv6 link-local address.
  bool silence_host = false;
};

struct LinkStatistics {
  uint64_t tx_dropped = 0;  // for a TAP: frames that found its queue full
};

class Netlink {
 public:
  static Result<Netlink> open();

  Result<int> index_of(const std::string& link);
  Status change_link(int index, const LinkChange& change);
  // Replaces nothing: adding what is there already succeeds.
  Status add_address(int index, const IpPrefix& address);
  Status remove_address(int index, const IpPrefix& address);
  // A default route through `gateway`, replacing one of the same family and metric.
  Status set_default_route(int index, const IpAddress& gateway);
  Result<LinkStatistics> statistics(int index);

 private:
  class Request;

  explicit Netlink(UniqueFd fd) : fd_(std::move(fd)) {}
  Status change_link(int index, const LinkChange& change, bool kernel_has_ipv6);
  Status transact(Request& request);

  UniqueFd fd_;
  uint32_t sequence_ = 0;
};

// Writes 1 to net.ipv6.conf.<link>.disable_ipv6 of the calling thread's namespace. A kernel without
// IPv6 is fine.
Status disable_ipv6(const std::string& link);

}  // namespace arca
