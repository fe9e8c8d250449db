// A TAP device of our own. tun(4), Documentation/networking/tuntap.rst.
#pragma once

#include <string>
#include <string_view>

#include "io/ports.h"
#include "io/result.h"
#include "io/unique_fd.h"
#include "record/offload.h"

namespace arca {

// Whether the kernel takes it for the name of an interface, as it is: a % would be a pattern.
bool is_interface_name(std::string_view name);

// The device lives as long as its descriptor: never persistent, so that a killed process leaves
// none.
class TapDevice final : public FramePort {
 public:
  // Makes the device in the calling thread's network namespace, with carrier off and link down.
  // EINVAL: no name for an interface. EBUSY: a device of that name exists. EPERM: CAP_NET_ADMIN.
  // ENOENT, ENXIO: no /dev/net/tun.
  static Result<TapDevice> create(const std::string& name);

  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }

  Status set_carrier(bool up);
  // What the kernel may hand over unfinished on read: partial checksums, large TCP segments.
  // With kOffloadNone it segments and fills every checksum first.
  Status set_offloads(Offloads offloads);
  // Whether the kernel knows them: UDP segmentation came with 6.2. Only before the device is used:
  // it is left without offloads.
  bool supports(Offloads offloads);

  IoOutcome read_frame(std::span<const iovec> header_and_frame) override;
  IoOutcome write_frame(std::span<const iovec> header_and_frame) override;
  size_t write_frames(std::span<const Bytes> frames, std::span<IoOutcome> outcomes,
                      WriteRing& ring) override;

 private:
  TapDevice(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

  UniqueFd fd_;
  std::string name_;
};

}  // namespace arca
