#include "plan/choose.h"

#include <algorithm>

namespace moestro::plan {
namespace {

// A kernel later in the list must be clearly faster: a few per cent are noise.
constexpr double kClearly = 0.97;

double time_of(const KernelTimes& times, const Candidate& c, int bucket) {
  const KernelTime* t = times.find(c.kernel);
  return t == nullptr ? 0 : t->us[static_cast<size_t>(bucket)];
}

std::string ratio(double slow, double fast) { return format("{:.2f}", slow / fast); }

int pick_by_order(std::vector<Candidate>& candidates) {
  int chosen = -1;
  for (size_t i = 0; i < candidates.size(); ++i) {
    Candidate& c = candidates[i];
    if (!c.why_not.empty()) continue;
    if (chosen < 0)
      chosen = static_cast<int>(i);
    else
      c.why_not = format("order: after {}", candidates[static_cast<size_t>(chosen)].kernel);
  }
  return chosen;
}

}  // namespace

std::string_view Candidate::reason_class() const {
  return std::string_view(why_not).substr(0, why_not.find(':'));
}

int pick(std::vector<Candidate>& candidates, const KernelTimes* times, int bucket) {
  if (times == nullptr) return pick_by_order(candidates);
  std::vector<std::string_view> names;
  for (Candidate& c : candidates) {
    if (!c.why_not.empty()) continue;
    c.us = time_of(*times, c, bucket);
    if (c.us > 0) names.push_back(c.kernel);
  }
  const int results = names.size() < 2 ? -1 : times->best_results(names);
  if (results < 0) return pick_by_order(candidates);

  const auto in_group = [&](const Candidate& c) {
    return c.why_not.empty() && c.us > 0 && times->find(c.kernel)->results == results;
  };
  int chosen = -1;
  for (size_t i = 0; i < candidates.size(); ++i)
    if (in_group(candidates[i]) &&
        (chosen < 0 || candidates[i].us < kClearly * candidates[static_cast<size_t>(chosen)].us))
      chosen = static_cast<int>(i);
  if (chosen < 0) return pick_by_order(candidates);
  const Candidate winner = candidates[static_cast<size_t>(chosen)];
  for (size_t i = 0; i < candidates.size(); ++i) {
    Candidate& c = candidates[i];
    if (!c.why_not.empty() || static_cast<int>(i) == chosen) continue;
    if (c.us <= 0)
      c.why_not = "order: not measured, as it is not meant to be fast";
    else if (c.us >= winner.us)
      c.why_not =
          format("slower: by {} x ({:.1f} us, {:.1f} us)", ratio(c.us, winner.us), c.us, winner.us);
    else if (in_group(c))
      c.why_not = format("order: faster by {} x only, which may be noise", ratio(winner.us, c.us));
    else
      c.why_not = format(
          "rounding: faster by {} x here, slower over all sizes, and its last bits "
          "differ from {}",
          ratio(winner.us, c.us), winner.kernel);
  }
  return chosen;
}

}  // namespace moestro::plan
