// SIGINT and SIGTERM for verbs that stop in an orderly way. One object a process; the handlers do
// only what is safe in handlers.
#pragma once

namespace moestro::app {

// serve: before wait() a signal ends the process at once; then the first one makes wait() return
// and the second one ends the process at once (exit status 128 + signal).
class StopSignals {
 public:
  StopSignals();
  // Returns true when a signal came, false after timeout_ms.
  bool wait(int timeout_ms);
};

// chat: SIGINT sets a flag and nothing else, so that Ctrl-C stops an answer and not the program.
class InterruptFlag {
 public:
  InterruptFlag();
  bool take();  // true once for any number of interrupts
};

}  // namespace moestro::app
