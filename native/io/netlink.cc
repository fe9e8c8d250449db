#include "io/netlink.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace arca {
namespace {

constexpr size_t kAnswerSize = 32 * 1024;  // what the kernel's own dumps use at most
constexpr int kAnswerTimeoutSeconds = 5;

sa_family_t family_of(const IpAddress& address) { return address.is_ipv4() ? AF_INET : AF_INET6; }

}  // namespace

// One message, grown attribute by attribute.
class Netlink::Request {
 public:
  template <typename Body>
  Request(uint16_t type, uint16_t flags, const Body& body) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    append(&header, sizeof header);
    append(&body, sizeof body);
  }

  void attribute(uint16_t type, const void* data, size_t size) {
    rtattr header{};
    header.rta_type = type;
    header.rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    append(&header, sizeof header);
    append(data, size);
  }
  void attribute_u32(uint16_t type, uint32_t value) { attribute(type, &value, sizeof value); }
  void attribute_u8(uint16_t type, uint8_t value) { attribute(type, &value, sizeof value); }

  template <typename Fill>
  void nested(uint16_t type, Fill fill) {
    const size_t start = bytes_.size();
    attribute(static_cast<uint16_t>(type | NLA_F_NESTED), nullptr, 0);
    fill();
    const auto size = static_cast<uint16_t>(bytes_.size() - start);
    std::memcpy(bytes_.data() + start, &size, sizeof size);  // rta_len is the first field
  }

  const std::vector<uint8_t>& finish(uint32_t sequence) {
    auto* header = reinterpret_cast<nlmsghdr*>(bytes_.data());
    header->nlmsg_len = static_cast<uint32_t>(bytes_.size());
    header->nlmsg_seq = sequence;
    return bytes_;
  }

  // The first answer that is no acknowledgement: the link that was asked for.
  std::vector<uint8_t> answer;
  const char* operation = "netlink";

 private:
  void append(const void* data, size_t size) {
    const size_t start = bytes_.size();
    bytes_.resize(start + NLMSG_ALIGN(size));
    if (size > 0) std::memcpy(bytes_.data() + start, data, size);
  }

  std::vector<uint8_t> bytes_;
};

Result<Netlink> Netlink::open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return last_error("socket(AF_NETLINK)");
  const timeval timeout{.tv_sec = kAnswerTimeoutSeconds, .tv_usec = 0};
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0) {
    return last_error("setsockopt(SO_RCVTIMEO)");
  }
  return Netlink(std::move(fd));
}

Status Netlink::transact(Request& request) {
  const uint32_t sequence = ++sequence_;
  const std::vector<uint8_t>& message = request.finish(sequence);
  if (::send(fd_.get(), message.data(), message.size(), 0) < 0) {
    return last_error(request.operation);
  }

  alignas(nlmsghdr) std::array<uint8_t, kAnswerSize> buffer;
  for (;;) {
    const ssize_t received = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return last_error(request.operation);
    auto rest = static_cast<uint32_t>(received);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, rest);
         header = NLMSG_NEXT(header, rest)) {
      if (header->nlmsg_seq != sequence) continue;
      if (header->nlmsg_type == NLMSG_ERROR) {
        const int code = -reinterpret_cast<nlmsgerr*>(NLMSG_DATA(header))->error;
        if (code != 0) return Error{request.operation, code};
        return Done{};
      }
      const auto* begin = reinterpret_cast<const uint8_t*>(header);
      request.answer.assign(begin, begin + header->nlmsg_len);
    }
  }
}

Result<int> Netlink::index_of(const std::string& link) {
  Request request(RTM_GETLINK, 0, ifinfomsg{});
  request.operation = "netlink(get link)";
  request.attribute(IFLA_IFNAME, link.c_str(), link.size() + 1);
  if (Status status = transact(request); !status.ok()) return status.error();
  if (request.answer.size() < NLMSG_SPACE(sizeof(ifinfomsg))) {
    return Error{request.operation, EPROTO};
  }
  ifinfomsg info;
  std::memcpy(&info, request.answer.data() + NLMSG_HDRLEN, sizeof info);
  return info.ifi_index;
}

Status Netlink::change_link(int index, const LinkChange& change) {
  Status status = change_link(index, change, /*kernel_has_ipv6=*/true);
  // A kernel without IPv6 knows no such family, and takes nothing of a message that names it.
  if (change.silence_host && !status.ok() && status.error().code == EAFNOSUPPORT) {
    status = change_link(index, change, /*kernel_has_ipv6=*/false);
  }
  return status;
}

Status Netlink::change_link(int index, const LinkChange& change, bool kernel_has_ipv6) {
  ifinfomsg info{};
  info.ifi_index = index;
  if (change.up) {
    info.ifi_change |= IFF_UP;
    if (*change.up) info.ifi_flags |= IFF_UP;
  }
  if (change.silence_host) {
    info.ifi_change |= IFF_NOARP;
    info.ifi_flags |= IFF_NOARP;
  }

  Request request(RTM_NEWLINK, 0, info);
  request.operation = "netlink(set link)";
  if (change.mtu) request.attribute_u32(IFLA_MTU, *change.mtu);
  if (change.mac) request.attribute(IFLA_ADDRESS, change.mac->data(), change.mac->size());
  if (change.silence_host) {
    request.nested(IFLA_AF_SPEC, [&] {
      request.nested(AF_INET, [&] {
        request.nested(IFLA_INET_CONF, [&] {
          request.attribute_u32(IPV4_DEVCONF_RP_FILTER, 1);
          request.attribute_u32(IPV4_DEVCONF_ARP_IGNORE, 8);
        });
      });
      if (kernel_has_ipv6) {
        request.nested(AF_INET6, [&] {
          request.attribute_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        });
      }
    });
  }
  return transact(request);
}

Status Netlink::add_address(int index, const IpPrefix& prefix) {
  ifaddrmsg info{};
  info.ifa_family = static_cast<uint8_t>(family_of(prefix.address));
  info.ifa_prefixlen = prefix.length;
  info.ifa_index = static_cast<uint32_t>(index);
  // An IPv6 address is usable at once: the address is the network's to give, nobody else has it.
  if (!prefix.address.is_ipv4()) info.ifa_flags = IFA_F_NODAD;
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, info);
  request.operation = "netlink(add address)";
  request.attribute(IFA_LOCAL, prefix.address.bytes.data(), prefix.address.size);
  request.attribute(IFA_ADDRESS, prefix.address.bytes.data(), prefix.address.size);
  return transact(request);
}

Status Netlink::remove_address(int index, const IpPrefix& prefix) {
  ifaddrmsg info{};
  info.ifa_family = static_cast<uint8_t>(family_of(prefix.address));
  info.ifa_prefixlen = prefix.length;
  info.ifa_index = static_cast<uint32_t>(index);
  Request request(RTM_DELADDR, 0, info);
  request.operation = "netlink(remove address)";
  request.attribute(IFA_LOCAL, prefix.address.bytes.data(), prefix.address.size);
  return transact(request);
}

Status Netlink::set_default_route(int index, const IpAddress& gateway) {
  rtmsg info{};
  info.rtm_family = static_cast<uint8_t>(family_of(gateway));
  info.rtm_table = RT_TABLE_MAIN;
  info.rtm_protocol = RTPROT_STATIC;
  info.rtm_scope = RT_SCOPE_UNIVERSE;
  info.rtm_type = RTN_UNICAST;
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, info);
  request.operation = "netlink(set default route)";
  request.attribute(RTA_GATEWAY, gateway.bytes.data(), gateway.size);
  request.attribute_u32(RTA_OIF, static_cast<uint32_t>(index));
  return transact(request);
}

Result<LinkStatistics> Netlink::statistics(int index) {
  ifinfomsg info{};
  info.ifi_index = index;
  Request request(RTM_GETLINK, 0, info);
  request.operation = "netlink(get link)";
  if (Status status = transact(request); !status.ok()) return status.error();

  const size_t attributes_at = NLMSG_SPACE(sizeof(ifinfomsg));
  if (request.answer.size() < attributes_at) return Error{request.operation, EPROTO};
  size_t rest = request.answer.size() - attributes_at;
  for (auto* attribute = reinterpret_cast<rtattr*>(request.answer.data() + attributes_at);
       RTA_OK(attribute, rest); attribute = RTA_NEXT(attribute, rest)) {
    if (attribute->rta_type != IFLA_STATS64) continue;
    rtnl_link_stats64 stats{};
    std::memcpy(&stats, RTA_DATA(attribute), std::min(sizeof stats, RTA_PAYLOAD(attribute)));
    return LinkStatistics{.tx_dropped = stats.tx_dropped};
  }
  return Error{request.operation, ENODATA};
}

// A kernel that has IPv6 as a module may load it later, and would then give addresses to devices
// that are up. To ask for a socket loads it now, where it can be loaded at all.
Status disable_ipv6(const std::string& link) {
  const UniqueFd loads_module(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::string path = "/proc/sys/net/ipv6/conf/" + link + "/disable_ipv6";
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return Done{};
  if (!fd) return last_error("open(/proc/sys/net/ipv6/conf/TAP/disable_ipv6)");
  if (::write(fd.get(), "1", 1) != 1) {
    return last_error("write(/proc/sys/net/ipv6/conf/TAP/disable_ipv6)");
  }
  return Done{};
}

}  // namespace arca
