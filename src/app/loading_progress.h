// A progress bar on stderr while weights load; nothing if stderr is no terminal or it was switched
// off. add() may be called by any thread.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/deadline.h"

namespace moestro::app {

class LoadingProgress {
 public:
  // total 0: unknown. what: the word before the bar.
  LoadingProgress(uint64_t total_bytes, bool wanted, std::string what = "loading");
  ~LoadingProgress();  // clears the line
  void add(uint64_t bytes);

 private:
  void draw(uint64_t done);

  const uint64_t total_;
  const bool enabled_;
  const std::string what_;
  const Clock::time_point start_ = Clock::now();
  std::atomic<uint64_t> done_{0};
  std::mutex drawing_;
  Clock::time_point next_draw_ = start_;
};

}  // namespace moestro::app
