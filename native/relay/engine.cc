#include "relay/engine.h"

namespace arca {

Result<std::unique_ptr<Engine>> Engine::start(size_t worker_count) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (size_t i = 0; i < worker_count; ++i) {
    Result<std::unique_ptr<Worker>> worker = Worker::start();
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
