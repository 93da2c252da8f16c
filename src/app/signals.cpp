#include "app/signals.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "base/check.h"

namespace moestro::app {
namespace {

int wake_pipe[2] = {-1, -1};
std::atomic<bool> waiting{false};
std::atomic<int> stops{0};
std::atomic<bool> interrupted{false};

void on_stop(int signal) {
  if (!waiting.load() || stops.fetch_add(1) > 0) _exit(128 + signal);
  const char byte = 0;
  if (::write(wake_pipe[1], &byte, 1) != 1) _exit(128 + signal);
}

void on_interrupt(int) { interrupted.store(true); }

void install(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;  // without SA_RESTART: a read of the terminal returns
  sigemptyset(&action.sa_mask);
  CHECK(::sigaction(signal, &action, nullptr) == 0, "sigaction");
}

}  // namespace

StopSignals::StopSignals() {
  CHECK(::pipe(wake_pipe) == 0, "pipe");
  install(SIGINT, on_stop);
  install(SIGTERM, on_stop);
}

bool StopSignals::wait(int timeout_ms) {
  waiting.store(true);
  pollfd fd{wake_pipe[0], POLLIN, 0};
  int ready = ::poll(&fd, 1, timeout_ms);
  if (ready < 0) ready = ::poll(&fd, 1, 0);  // the handler ran on this thread and has written
  return ready > 0;
}

InterruptFlag::InterruptFlag() { install(SIGINT, on_interrupt); }

bool InterruptFlag::take() { return interrupted.exchange(false); }

}  // namespace moestro::app
