// A TAP device with what configures it as a network interface.
#pragma once

#include "io/netlink.h"
#include "io/tap_device.h"

namespace arca {

struct TapInterface {
  TapDevice tap;
  Netlink netlink;
  int index;

  // Makes the device in the calling thread's network namespace; link down, carrier off.
  static Result<TapInterface> create(const std::string& name);
};

// The relay's side: the MTU, no IPv6, no ARP, no address, and then up. The host's own stack must
// not answer the container.
Status bring_up_silent(TapInterface& interface, uint32_t mtu);

}  // namespace arca
