// Holds N streams open and moves nothing over them: the peers of idle links.
//
//   idle_peers PATH_PREFIX FIRST COUNT       connects to PATH_PREFIX<FIRST> and so on
//
// Prints "ready" when all are connected, then waits until standard input ends.

#include <sys/resource.h>

#include <vector>

#include "tap_and_stream.h"

int main(int argc, char** argv) {
  using namespace arca::bench;
  if (argc != 4) {
    std::fprintf(stderr, "Usage: %s PATH_PREFIX FIRST COUNT\n", argv[0]);
    return 2;
  }
  const int first = std::atoi(argv[2]);
  const int count = std::atoi(argv[3]);
  const rlim_t wanted = static_cast<rlim_t>(count) + 64;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = wanted;
    limit.rlim_max = std::max(limit.rlim_max, wanted);
    if (::setrlimit(RLIMIT_NOFILE, &limit) < 0) die("setrlimit");
  }

  std::vector<arca::UniqueFd> streams;
  for (int i = first; i < first + count; ++i) {
    streams.push_back(connect_to(argv[1] + std::to_string(i)));
  }
  std::puts("ready");
  std::fflush(stdout);
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
}
