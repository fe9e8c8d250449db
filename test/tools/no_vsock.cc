// Runs a program for which the kernel has no vsock: socket(AF_VSOCK) fails with EAFNOSUPPORT, by a
// seccomp filter.
//
//   no-vsock COMMAND [ARGUMENT...]
//
// Needs root, or no_new_privs would have to be set, which also takes file capabilities from
// COMMAND.

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

#if defined(__x86_64__)
constexpr unsigned kArch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArch = AUDIT_ARCH_AARCH64;
#else
#error "add this machine's AUDIT_ARCH"
#endif

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "no-vsock: %s: %s\n", what, std::strerror(errno));
  std::exit(125);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: no-vsock COMMAND [ARGUMENT...]\n", stderr);
    return 2;
  }
  const auto load = [](std::size_t offset) -> sock_filter {
    return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset));
  };
  sock_filter filter[] = {
      load(offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArch, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      load(offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
      load(offsetof(seccomp_data,
                    args)),  // the low half of the first argument on a little-endian machine
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_VSOCK, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) fail("seccomp");
  // Not a word of COMMAND runs where the filter does not hold.
  if (socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 || errno != EAFNOSUPPORT)
    fail("socket(AF_VSOCK) was not refused");
  execvp(argv[1], argv + 1);
  fail(argv[1]);
}
