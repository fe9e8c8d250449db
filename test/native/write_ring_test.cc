// WriteRing on sockets and devices, with a kernel that lets it and with kernels that do not.
#include "io/write_ring.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdio>
#include <thread>

#include "fakes.h"
#include "io/unique_fd.h"

using namespace arca;
using namespace arca::test;

namespace {

// Keeps messages apart, as a TAP does frames.
struct MessagePair {
  UniqueFd ours;
  UniqueFd theirs;

  MessagePair() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    ours.reset(fds[0]);
    theirs.reset(fds[1]);
  }

  // Empty: nothing waits.
  ByteVector receive() const {
    ByteVector bytes(70000);
    const ssize_t size = ::read(theirs.get(), bytes.data(), bytes.size());
    bytes.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return bytes;
  }
};

struct Batch {
  std::vector<ByteVector> frames;
  std::array<int32_t, WriteRing::kMostWrites> results{};

  explicit Batch(size_t count, size_t size = 60) {
    for (size_t i = 0; i < count; ++i) {
      frames.push_back(make_frame(size, static_cast<uint8_t>(i)));
    }
  }

  size_t write(WriteRing& ring, int fd) {
    const std::vector<Bytes> views(frames.begin(), frames.end());
    return ring.write(fd, views, results);
  }
};

// In CI and in containers io_uring may be off: then what needs it is skipped, and the reason said.
doctest::skip needs_io_uring() {
  static const bool missing = [] {
    WriteRing ring;
    const UniqueFd null(::open("/dev/null", O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    const uint8_t byte = 0;
    const Bytes one[] = {{&byte, 1}};
    int32_t result = 0;
    ring.write(null.get(), one, std::span(&result, 1));
    if (ring.state() == WriteRing::State::kOpen) return false;
    std::printf("skipped: io_uring is refused here (%s)\n", error_name(ring.refusal()).c_str());
    return true;
  }();
  return doctest::skip(missing);
}

// In a thread whose kernel answers `system_call` with `error`, as a container's seccomp profile
// does.
template <typename Work>
void with_refused(int system_call, int error, Work work) {
  std::thread([&] {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(system_call), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{std::size(program), program};
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
    work();
  }).join();
}

}  // namespace

TEST_CASE("WriteRing writes many, in order" * needs_io_uring()) {
  const MessagePair pair;
  WriteRing ring;
  CHECK(ring.state() == WriteRing::State::kUntried);
  // More than once around the ring, in batches that do not divide it.
  for (int round = 0; round < 50; ++round) {
    CAPTURE(round);
    Batch batch(7, static_cast<size_t>(60 + round));
    REQUIRE(batch.write(ring, pair.ours.get()) == 7);
    for (size_t i = 0; i < 7; ++i) {
      CHECK(batch.results[i] == 60 + round);
      CHECK(pair.receive() == batch.frames[i]);
    }
    CHECK(pair.receive().empty());
  }
  CHECK(ring.state() == WriteRing::State::kOpen);
  CHECK(ring.refusal() == 0);
}

TEST_CASE("WriteRing takes the first of more than it has room for" * needs_io_uring()) {
  const MessagePair pair;
  WriteRing ring;
  Batch batch(WriteRing::kMostWrites + 1);
  CHECK(batch.write(ring, pair.ours.get()) == WriteRing::kMostWrites);
  for (size_t i = 0; i < WriteRing::kMostWrites; ++i) CHECK(pair.receive() == batch.frames[i]);
  CHECK(pair.receive().empty());
}

TEST_CASE("WriteRing goes on behind a write that failed" * needs_io_uring()) {
  const MessagePair pair;
  const int small = 4096;
  REQUIRE(::setsockopt(pair.ours.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
  WriteRing ring;
  Batch batch(5);
  batch.frames[2] = make_frame(60000);
  REQUIRE(batch.write(ring, pair.ours.get()) == 5);
  CHECK(batch.results[2] == -EMSGSIZE);
  for (const size_t i : {0, 1, 3, 4}) {
    CHECK(batch.results[i] == 60);
    CHECK(pair.receive() == batch.frames[i]);
  }
  CHECK(pair.receive().empty());
}

TEST_CASE("WriteRing does not wait where there is no room" * needs_io_uring()) {
  const MessagePair pair;
  WriteRing ring;
  Batch batch(WriteRing::kMostWrites, 8000);
  REQUIRE(batch.write(ring, pair.ours.get()) == WriteRing::kMostWrites);
  // The first ones fit, the others are refused and never come.
  size_t fitted = 0;
  while (batch.results[fitted] == 8000) ++fitted;
  CHECK(fitted > 0);
  REQUIRE(fitted < WriteRing::kMostWrites);
  for (size_t i = fitted; i < WriteRing::kMostWrites; ++i) CHECK(batch.results[i] == -EAGAIN);
  for (size_t i = 0; i < fitted; ++i) CHECK(pair.receive() == batch.frames[i]);
  CHECK(pair.receive().empty());
  Batch next(1);
  CHECK(next.write(ring, pair.ours.get()) == 1);
  CHECK(pair.receive() == next.frames[0]);
}

TEST_CASE("WriteRing writes nothing where the kernel refuses io_uring, and remembers it") {
  struct {
    int system_call;
    int error;
  } const refusals[] = {
      {SYS_io_uring_setup, EPERM}, {SYS_io_uring_setup, ENOSYS}, {SYS_io_uring_enter, EPERM}};
  for (const auto& [system_call, error] : refusals) {
    CAPTURE(system_call);
    CAPTURE(error);
    const MessagePair pair;
    with_refused(system_call, error, [&, error = error] {
      WriteRing ring;
      for (int i = 0; i < 2; ++i) {
        Batch batch(5);
        CHECK(batch.write(ring, pair.ours.get()) == 0);
        CHECK(ring.state() == WriteRing::State::kRefused);
        CHECK(ring.refusal() == error);
      }
    });
    CHECK(pair.receive().empty());
  }
}

TEST_CASE("WriteRing tries again after a shortage of memory" * needs_io_uring()) {
  with_refused(SYS_io_uring_enter, ENOMEM, [] {
    const MessagePair pair;
    WriteRing ring;
    Batch batch(5);
    CHECK(batch.write(ring, pair.ours.get()) == 0);
    CHECK(ring.state() == WriteRing::State::kOpen);
    CHECK(pair.receive().empty());
  });
}

TEST_CASE("WriteRing leaves a file alone that can't promise not to wait" * needs_io_uring()) {
  // As a TAP before Linux 6.4: it takes writes, and not with RWF_NOWAIT.
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  REQUIRE(full);
  WriteRing ring;
  Batch batch(5);
  CHECK(batch.write(ring, full.get()) == 0);
  CHECK(ring.state() == WriteRing::State::kRefused);
  CHECK(ring.refusal() == EOPNOTSUPP);
}
