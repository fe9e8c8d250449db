// TapDevice, TapInterface and Netlink on real devices, in network namespaces of their own.
#include "io/tap_interface.h"

#include <doctest/doctest.h>

#include "io/write_ring.h"
#include "net.h"

using namespace arca;
using namespace arca::test;

namespace {

IpPrefix prefix(const char* text) { return parse_prefix(text).value(); }

}  // namespace

TEST_CASE("TapInterface: carrier off at first, then follows; gone with its owner" * needs_root()) {
  const OwnNamespace own;
  {
    Result<TapInterface> made = TapInterface::create("tap0");
    REQUIRE(made.ok());
    TapInterface& interface = made.value();
    CHECK(interface.tap.name() == "tap0");
    CHECK(interface.index == static_cast<int>(::if_nametoindex("tap0")));
    CHECK((flags_of("tap0") & IFF_UP) == 0);
    REQUIRE(bring_up_silent(interface, 1400).ok());
    CHECK_FALSE(has_carrier("tap0"));
    REQUIRE(interface.tap.set_carrier(true).ok());
    CHECK(has_carrier("tap0"));
    REQUIRE(interface.tap.set_carrier(false).ok());
    CHECK_FALSE(has_carrier("tap0"));
  }
  CHECK_FALSE(has_interface("tap0"));
}

TEST_CASE("bring_up_silent: the host's stack takes no part" * needs_root()) {
  const OwnNamespace own;
  Result<TapInterface> made = TapInterface::create("tap0");
  REQUIRE(made.ok());
  REQUIRE(bring_up_silent(made.value(), 9000).ok());
  REQUIRE(made.value().tap.set_carrier(true).ok());
  CHECK(mtu_of("tap0") == 9000);
  CHECK((flags_of("tap0") & IFF_UP) != 0);
  CHECK((flags_of("tap0") & IFF_NOARP) != 0);
  const std::string conf = "/proc/sys/net/ipv4/conf/tap0/";
  CHECK(read_file(conf + "rp_filter") == "1\n");
  CHECK(read_file(conf + "arp_ignore") == "8\n");
  CHECK(read_file("/proc/sys/net/ipv6/conf/tap0/disable_ipv6") == "1\n");
  CHECK(read_file("/proc/sys/net/ipv6/conf/all/disable_ipv6") == "0\n");
  CHECK(eventually([] { return (flags_of("tap0") & IFF_RUNNING) != 0; }));
  CHECK(read_file("/proc/thread-self/net/if_inet6").find("tap0") == std::string::npos);
  // Nothing of its own accord: no router solicitation, no MLD report.
  ByteVector room(2000);
  const iovec one[] = {{room.data(), room.size()}};
  CHECK(made.value().tap.read_frame(one).kind == IoOutcome::Kind::kWouldBlock);
}

TEST_CASE("TapInterface refuses a device that exists" * needs_root()) {
  const OwnNamespace own;
  Result<TapInterface> made = TapInterface::create("tap0");
  REQUIRE(made.ok());
  Result<TapInterface> again = TapInterface::create("tap0");
  REQUIRE_FALSE(again.ok());
  CHECK(again.error().code == EBUSY);
  CHECK(std::string(again.error().operation) == "ioctl(TUNSETIFF)");
  CHECK(has_interface("tap0"));
  // Not a TAP, but taken all the same.
  CHECK(TapInterface::create("lo").error().code == EBUSY);
}

TEST_CASE("TapInterface takes the names that the kernel takes, as they are" * needs_root()) {
  const OwnNamespace own;
  for (const std::string name : {"a", "fifteen-bytes-x", "t.1", "all1", "tap@x"}) {
    CAPTURE(name);
    Result<TapInterface> made = TapInterface::create(name);
    REQUIRE(made.ok());
    CHECK(made.value().tap.name() == name);
    CHECK(bring_up_silent(made.value(), 1500).ok());
    CHECK(has_interface(name));
  }
  const std::string bad[] = {"",
                             "sixteen-bytes-xy",
                             std::string(300, 'x'),
                             "a/b",
                             "a b",
                             "a:b",
                             "%d",
                             "tap%d",
                             "a%b",
                             ".",
                             "..",
                             "default",
                             "all",
                             "a\n",
                             std::string("a\0b", 3)};
  for (const std::string& name : bad) {
    CAPTURE(name);
    Result<TapInterface> made = TapInterface::create(name);
    REQUIRE_FALSE(made.ok());
    CHECK(made.error().code == EINVAL);
    CHECK(std::string(made.error().operation) == "ioctl(TUNSETIFF)");
  }
  CHECK(read_file("/proc/sys/net/ipv6/conf/all/disable_ipv6") == "0\n");
}

TEST_CASE("TapDevice: frames in both directions, and the errors of a device that goes down" *
          needs_root()) {
  using Kind = IoOutcome::Kind;
  const OwnNamespace own;
  Result<TapInterface> made = TapInterface::create("tap0");
  REQUIRE(made.ok());
  TapInterface& interface = made.value();
  ByteVector header(kVirtioNetHeaderSize);
  ByteVector frame = make_frame(100);
  const iovec out[] = {{header.data(), header.size()}, {frame.data(), frame.size()}};
  CHECK(interface.tap.write_frame(out).kind == Kind::kDropped);  // down

  REQUIRE(bring_up_silent(interface, 1500).ok());
  REQUIRE(interface.tap.set_carrier(true).ok());
  const PacketSocket host("tap0");
  CHECK(interface.tap.write_frame(out).kind == Kind::kMoved);
  CHECK(host.receive() == frame);

  ByteVector room(70000);
  const iovec in[] = {{header.data(), header.size()}, {room.data(), room.size()}};
  CHECK(interface.tap.read_frame(in).kind == Kind::kWouldBlock);
  REQUIRE(host.send(frame));
  const IoOutcome got = interface.tap.read_frame(in);
  REQUIRE(got.kind == Kind::kMoved);
  REQUIRE(got.size == header.size() + frame.size());
  CHECK(std::equal(frame.begin(), frame.end(), room.begin()));

  REQUIRE(delete_interface("tap0"));
  CHECK(interface.tap.write_frame(out).kind == Kind::kGone);
  CHECK(interface.tap.read_frame(in).kind == Kind::kGone);
  CHECK(interface.tap.set_carrier(true).error().code == EBADFD);
}

TEST_CASE("TapDevice: many frames at once, with io_uring and without" * needs_root()) {
  using Kind = IoOutcome::Kind;
  const OwnNamespace own;
  Result<TapInterface> made = TapInterface::create("tap0");
  REQUIRE(made.ok());
  TapInterface& interface = made.value();
  WriteRing ring;
  bool may_batch = true;
  SUBCASE("as the kernel lets us") {}
  SUBCASE("one by one") {
    // A file that a ring can't write: it gives up for all.
    const UniqueFd full(::open("/dev/full", O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    const uint8_t byte = 0;
    const Bytes one[] = {{&byte, 1}};
    int32_t result = 0;
    REQUIRE(ring.write(full.get(), one, std::span(&result, 1)) == 0);
    REQUIRE(ring.state() == WriteRing::State::kRefused);
    may_batch = false;
  }
  std::vector<ByteVector> frames;
  for (uint8_t i = 0; i < 70; ++i) frames.push_back(make_frame(60 + i, i));
  std::vector<ByteVector> wholes;
  for (const ByteVector& frame : frames) {
    wholes.emplace_back(kVirtioNetHeaderSize);
    wholes.back().insert(wholes.back().end(), frame.begin(), frame.end());
  }
  wholes[3].resize(kVirtioNetHeaderSize + 5);  // the kernel refuses it
  const std::vector<Bytes> views(wholes.begin(), wholes.end());
  std::vector<IoOutcome> outcomes(views.size());
  const auto write = [&] { return interface.tap.write_frames(views, outcomes, ring); };

  write();
  for (const IoOutcome& outcome : outcomes) CHECK(outcome.kind == Kind::kDropped);  // down

  REQUIRE(bring_up_silent(interface, 1500).ok());
  REQUIRE(interface.tap.set_carrier(true).ok());
  const PacketSocket host("tap0");
  const size_t calls = write();
  // Of 70, 64 at once and then 6.
  CHECK(calls == (ring.state() == WriteRing::State::kOpen ? 2 : 70));
  if (!may_batch) CHECK(ring.state() == WriteRing::State::kRefused);
  for (size_t i = 0; i < frames.size(); ++i) {
    CAPTURE(i);
    CHECK(outcomes[i].kind == (i == 3 ? Kind::kDropped : Kind::kMoved));
    if (i != 3) CHECK(host.receive() == frames[i]);
  }

  REQUIRE(delete_interface("tap0"));
  write();
  for (const IoOutcome& outcome : outcomes) {
    CHECK(outcome.kind == Kind::kGone);
    CHECK(outcome.error == EBADFD);
  }
}

TEST_CASE("Netlink: MTU limits, MAC, and what is not there" * needs_root()) {
  const OwnNamespace own;
  Result<TapInterface> made = TapInterface::create("tap0");
  REQUIRE(made.ok());
  Netlink& netlink = made.value().netlink;
  const int index = made.value().index;

  const auto set_mtu = [&](uint32_t mtu) {
    LinkChange change;
    change.mtu = mtu;
    return netlink.change_link(index, change);
  };
  CHECK(set_mtu(kLeastMtu).ok());
  CHECK(set_mtu(kMostMtu).ok());
  CHECK(mtu_of("tap0") == static_cast<int>(kMostMtu));
  CHECK(set_mtu(kLeastMtu - 1).error().code == EINVAL);
  CHECK(set_mtu(kMostMtu + 1).error().code == EINVAL);

  LinkChange mac;
  mac.mac = parse_mac("02:00:00:00:00:07");
  REQUIRE(netlink.change_link(index, mac).ok());
  ifreq request = request_for("tap0");
  REQUIRE(ask_interface(SIOCGIFHWADDR, request));
  CHECK(std::memcmp(request.ifr_hwaddr.sa_data, mac.mac->data(), 6) == 0);

  CHECK(netlink.index_of("none").error().code == ENODEV);
  CHECK(netlink.statistics(index + 1000).error().code == ENODEV);
  CHECK(set_mtu(1500).ok());  // an error leaves the socket usable
}

TEST_CASE("Netlink: addresses and routes, also before there is a carrier" * needs_root()) {
  const OwnNamespace own;
  Result<TapInterface> made = TapInterface::create("eth0");
  REQUIRE(made.ok());
  Netlink& netlink = made.value().netlink;
  const int index = made.value().index;
  LinkChange up;
  up.up = true;
  REQUIRE(netlink.change_link(index, up).ok());

  CHECK(netlink.add_address(index, prefix("10.9.0.2/24")).ok());
  CHECK(netlink.add_address(index, prefix("10.9.0.2/24")).ok());  // there already
  CHECK(netlink.add_address(index, prefix("fd00::2/64")).ok());
  CHECK(netlink.set_default_route(index, *parse_ip("10.9.0.1")).ok());
  CHECK(netlink.set_default_route(index, *parse_ip("10.9.0.254")).ok());  // replaced
  CHECK(netlink.set_default_route(index, *parse_ip("fd00::1")).ok());
  CHECK(netlink.set_default_route(index, *parse_ip("192.168.1.1")).error().code == ENETUNREACH);
  const std::string routes = read_file("/proc/thread-self/net/route");
  CHECK(routes.find("eth0\t00000000\tFE00090A") != std::string::npos);
  CHECK(routes.find("eth0\t00000000\t0100090A") == std::string::npos);
  CHECK(read_file("/proc/thread-self/net/if_inet6").find("fd000000000000000000000000000002") !=
        std::string::npos);

  CHECK(netlink.remove_address(index, prefix("fd00::2/64")).ok());
  CHECK(netlink.remove_address(index, prefix("10.9.0.2/24")).ok());
  CHECK(netlink.remove_address(index, prefix("10.9.0.2/24")).error().code == EADDRNOTAVAIL);
}

TEST_CASE("Netlink: frames that find the TAP's queue full are counted" * needs_root()) {
  const OwnNamespace own;
  Result<TapInterface> made = TapInterface::create("tap0");
  REQUIRE(made.ok());
  REQUIRE(bring_up_silent(made.value(), 1500).ok());
  REQUIRE(made.value().tap.set_carrier(true).ok());
  const PacketSocket host("tap0");
  for (int i = 0; i < 3000; ++i) host.send(make_frame(100));
  Result<LinkStatistics> statistics = made.value().netlink.statistics(made.value().index);
  REQUIRE(statistics.ok());
  CHECK(statistics.value().tx_dropped > 0);
  CHECK(statistics.value().tx_dropped < 3000);
}
