// The workers that any number of relays share. A single relay runs two: one a direction.
#pragma once

#include <memory>
#include <vector>

#include "relay/worker.h"

namespace arca {

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> start(size_t worker_count);

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
