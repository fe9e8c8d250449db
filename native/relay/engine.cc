#include "relay/engine.h"

#include <sched.h>

namespace arca {

size_t default_worker_count() {
  constexpr int kEnoughForTwo = 4;
  cpu_set_t processors;
  // Fails only with more processors than a cpu_set_t has bits.
  const bool known = ::sched_getaffinity(0, sizeof processors, &processors) == 0;
  return !known || CPU_COUNT(&processors) >= kEnoughForTwo ? 2 : 1;
}

Result<std::unique_ptr<Engine>> Engine::start(const EngineOptions& options) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (size_t i = 0; i < options.worker_count; ++i) {
    Result<std::unique_ptr<Worker>> worker = Worker::start(options.busy_poll);
    if (!worker.ok()) return worker.error();
    workers.push_back(std::move(worker.value()));
  }
  return std::unique_ptr<Engine>(new Engine(std::move(workers)));
}

Engine::Placement Engine::place() {
  const size_t home = next_++ % workers_.size();
  return {*workers_[home], *workers_[(home + 1) % workers_.size()]};
}

void Engine::stop() {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->stop();
}

}  // namespace arca
