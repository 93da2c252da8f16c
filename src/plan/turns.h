// Timing rivals in turns: every round runs each of them once, so that a slow phase of the machine
// hits all alike; who is clearly beaten leaves early, so that the time goes to those that are
// close. Used by measure.h. Any thread.
#pragma once
#include <cstddef>
#include <functional>
#include <vector>

namespace moestro::plan {

double steady_seconds();

struct TurnsOptions {
  double max_seconds = 1;  // no round begins after it, but for the first `least_rounds`
  int rounds = 9;          // at most
  // From the third round on a median so many times the best one leaves; from the second on one
  // whose best time is so many times the best, as a single run may have met a slow moment.
  int least_rounds = 3, least_rounds_for_hopeless = 2;
  double beaten_above = 1.25, hopeless_above = 2.5;
  std::function<double()> now = steady_seconds;  // another clock, for tests
};

// Median microseconds of each rival; job(i) runs rival i once. Nothing is warmed up here.
std::vector<double> time_in_turns(size_t rivals, const std::function<void(size_t)>& job,
                                  const TurnsOptions& options);

}  // namespace moestro::plan
