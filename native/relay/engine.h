// The workers that any number of relays share.
#pragma once

#include <memory>
#include <vector>

#include "relay/worker.h"

namespace arca {

// Two, one a direction, where they have processors of their own; one where they would share them
// with each other, with the link's far end and with those who speak over it: two threads of a link
// then only wake each other (docs/performance.md).
size_t default_worker_count();

inline constexpr std::chrono::microseconds kLongestBusyPoll{10000};

struct EngineOptions {
  size_t worker_count = default_worker_count();
  // How long a worker asks for events before it sleeps.
  std::chrono::microseconds busy_poll{0};
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> start(const EngineOptions& options);

  struct Placement {
    Worker& home;
    Worker& other;
  };
  // Where the next relay runs: in turn, the two directions on different workers if there are two.
  Placement place();

  // Stops and joins every worker. After that, relays that are still open may be destroyed as they
  // are: nothing runs that could touch them.
  void stop();

 private:
  explicit Engine(std::vector<std::unique_ptr<Worker>> workers) : workers_(std::move(workers)) {}

  std::vector<std::unique_ptr<Worker>> workers_;
  size_t next_ = 0;
};

}  // namespace arca
