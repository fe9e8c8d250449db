#include "io/tap_interface.h"

namespace arca {

Result<TapInterface> TapInterface::create(const std::string& name) {
  Result<TapDevice> tap = TapDevice::create(name);
  if (!tap.ok()) return tap.error();
  Result<Netlink> netlink = Netlink::open();
  if (!netlink.ok()) return netlink.error();
  Result<int> index = netlink.value().index_of(name);
  if (!index.ok()) return index.error();
  return TapInterface{std::move(tap.value()), std::move(netlink.value()), index.value()};
}

Status bring_up_silent(TapInterface& interface, uint32_t mtu) {
  if (Status status = disable_ipv6(interface.tap.name()); !status.ok()) return status;
  LinkChange quiet;
  quiet.mtu = mtu;
  quiet.silence_host = true;
  if (Status status = interface.netlink.change_link(interface.index, quiet); !status.ok()) {
    return status;
  }
  LinkChange up;
  up.up = true;
  return interface.netlink.change_link(interface.index, up);
}

}  // namespace arca
