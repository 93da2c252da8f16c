#include "app/loading_progress.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "app/print.h"
#include "base/format.h"
#include "base/strings.h"

namespace moestro::app {

LoadingProgress::LoadingProgress(uint64_t total_bytes, bool wanted, std::string what)
    : total_(total_bytes), enabled_(wanted && stderr_is_terminal()), what_(std::move(what)) {}

LoadingProgress::~LoadingProgress() {
  if (enabled_) std::fputs("\r\033[K", stderr);
}

void LoadingProgress::add(uint64_t bytes) {
  const uint64_t done = done_.fetch_add(bytes) + bytes;
  if (!enabled_) return;
  const std::unique_lock lock(drawing_, std::try_to_lock);
  if (!lock || Clock::now() < next_draw_) return;
  next_draw_ = Clock::now() + std::chrono::milliseconds(100);
  draw(done);
}

void LoadingProgress::draw(uint64_t done) {
  const double rate = static_cast<double>(done) / std::max(seconds_since(start_), 1e-3);
  std::string line = format("\r\033[K{} ", what_);
  if (total_ > 0) {
    constexpr uint64_t kCells = 30;
    const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    const auto cells = static_cast<size_t>(part * kCells);
    line += format("[{}{}] {:.0f}%  {} of {}", std::string(cells, '='),
                   std::string(kCells - cells, ' '), part * 100, human_bytes(done),
                   human_bytes(total_));
  } else {
    line += human_bytes(done);
  }
  line += format("  {}/s", human_bytes(static_cast<uint64_t>(rate)));
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace moestro::app
