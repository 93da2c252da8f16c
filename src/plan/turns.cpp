#include "plan/turns.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "base/deadline.h"

namespace moestro::plan {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

std::vector<double> time_in_turns(size_t rivals, const std::function<void(size_t)>& job,
                                  const TurnsOptions& options) {
  std::vector<std::vector<double>> samples(rivals);
  std::vector<double> us(rivals), least(rivals, std::numeric_limits<double>::infinity());
  std::vector<bool> beaten(rivals);
  const double start = options.now();
  for (int round = 1; round <= options.rounds; ++round) {
    for (size_t i = 0; i < rivals; ++i) {
      if (beaten[i]) continue;
      const double begin = options.now();
      job(i);
      const double taken = (options.now() - begin) * 1e6;
      samples[i].push_back(taken);
      us[i] = std::max(median(samples[i]), 0.01);
      least[i] = std::min(least[i], taken);
    }
    const double best = *std::ranges::min_element(us),
                 best_of_all = *std::ranges::min_element(least);
    size_t left = 0;
    for (size_t i = 0; i < rivals; ++i) {
      if (beaten[i]) continue;
      beaten[i] = (round >= options.least_rounds && us[i] > options.beaten_above * best) ||
                  (round >= options.least_rounds_for_hopeless &&
                   least[i] > options.hopeless_above * best_of_all);
      left += !beaten[i];
    }
    const bool late = options.now() - start > options.max_seconds;
    if (left < 2 || (round >= options.least_rounds && late)) break;
  }
  return us;
}

}  // namespace moestro::plan
