#include "io/tap_device.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "io/write_ring.h"
#include "record/virtio_net.h"

namespace arca {
namespace {

// Kernel 6.2, missing from Debian 12's headers.
constexpr unsigned kTunUso4 = 0x20;
constexpr unsigned kTunUso6 = 0x40;

unsigned tun_offload_flags(Offloads offloads) {
  unsigned flags = 0;
  if ((offloads & kOffloadChecksum) == 0) return flags;  // segmentation needs it
  flags |= TUN_F_CSUM;
  if ((offloads & kOffloadTso4) != 0) flags |= TUN_F_TSO4;
  if ((offloads & kOffloadTso6) != 0) flags |= TUN_F_TSO6;
  if ((offloads & kOffloadUso) != 0) flags |= kTunUso4 | kTunUso6;
  return flags;
}

// Below so many a batch costs more than it saves: measured (docs/decisions/0003-io-uring.md).
constexpr size_t kLeastForRing = 4;

// Of bytes, or -errno.
IoOutcome tap_outcome(ssize_t result) {
  if (result < 0) return judge_tap_errno(static_cast<int>(-result));
  return {.kind = IoOutcome::Kind::kMoved, .size = static_cast<size_t>(result), .error = 0};
}

}  // namespace

bool is_interface_name(std::string_view name) {
  constexpr std::string_view kForbidden("/:% \t\n\v\f\r\xA0\0", 11);
  return !name.empty() && name.size() < IFNAMSIZ && name != "." && name != ".." &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

Result<TapDevice> TapDevice::create(const std::string& name) {
  if (!is_interface_name(name)) return Error{"ioctl(TUNSETIFF)", EINVAL};
  ifreq request{};
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return last_error("open(/dev/net/tun)");
  std::memcpy(request.ifr_name, name.data(), name.size());
  // IFF_TUN_EXCL: refuse a device that exists, also a persistent one that nobody holds.
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL);
  if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) return last_error("ioctl(TUNSETIFF)");

  int header_size = kVirtioNetHeaderSize;
  if (::ioctl(fd.get(), TUNSETVNETHDRSZ, &header_size) < 0) {
    return last_error("ioctl(TUNSETVNETHDRSZ)");
  }
  TapDevice tap(std::move(fd), request.ifr_name);
  if (Status status = tap.set_offloads(kOffloadNone); !status.ok()) return status.error();
  if (Status status = tap.set_carrier(false); !status.ok()) return status.error();
  return tap;
}

Status TapDevice::set_carrier(bool up) {
  int carrier = up ? 1 : 0;
  if (::ioctl(fd_.get(), TUNSETCARRIER, &carrier) < 0) return last_error("ioctl(TUNSETCARRIER)");
  return Done{};
}

Status TapDevice::set_offloads(Offloads offloads) {
  if (::ioctl(fd_.get(), TUNSETOFFLOAD, tun_offload_flags(offloads)) < 0) {
    return last_error("ioctl(TUNSETOFFLOAD)");
  }
  return Done{};
}

bool TapDevice::supports(Offloads offloads) {
  const bool known = set_offloads(offloads).ok();
  return set_offloads(kOffloadNone).ok() && known;
}

IoOutcome TapDevice::read_frame(std::span<const iovec> header_and_frame) {
  ssize_t result;
  do {
    result = ::readv(fd_.get(), header_and_frame.data(), static_cast<int>(header_and_frame.size()));
  } while (result < 0 && errno == EINTR);
  return tap_outcome(result < 0 ? -errno : result);
}

IoOutcome TapDevice::write_frame(std::span<const iovec> header_and_frame) {
  ssize_t result;
  do {
    result =
        ::writev(fd_.get(), header_and_frame.data(), static_cast<int>(header_and_frame.size()));
  } while (result < 0 && errno == EINTR);
  return tap_outcome(result < 0 ? -errno : result);
}

size_t TapDevice::write_frames(std::span<const Bytes> frames, std::span<IoOutcome> outcomes,
                               WriteRing& ring) {
  size_t system_calls = 0;
  while (frames.size() >= kLeastForRing) {
    std::array<int32_t, WriteRing::kMostWrites> results;
    const size_t tried = ring.write(fd_.get(), frames, results);
    if (tried == 0) break;
    ++system_calls;
    std::transform(results.begin(), results.begin() + tried, outcomes.begin(), tap_outcome);
    frames = frames.subspan(tried);
    outcomes = outcomes.subspan(tried);
  }
  return system_calls + FramePort::write_frames(frames, outcomes, ring);
}

}  // namespace arca
