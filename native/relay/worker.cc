#include "relay/worker.h"

#include <csignal>

namespace arca {

Result<std::unique_ptr<Worker>> Worker::start() {
  Result<UniqueFd> epoll = EventLoop::make_epoll();
  if (!epoll.ok()) return epoll.error();
  Result<UniqueFd> wakeup = EventLoop::make_wakeup();
  if (!wakeup.ok()) return wakeup.error();
  std::unique_ptr<Worker> worker(new Worker(std::move(epoll.value()), std::move(wakeup.value())));

  // Signals are the main thread's business.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  worker->thread_ = std::thread([loop = &worker->loop_] { loop->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return worker;
}

void Worker::stop() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace arca
