#include "plan/kernel_table.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moestro::plan {

const KernelTime* KernelTimes::find(std::string_view kernel) const {
  for (const KernelTime& t : kernels)
    if (t.kernel == kernel) return &t;
  return nullptr;
}

// Every bucket counts alike: the geometric mean of the group's best time in each.
int KernelTimes::best_results(const std::vector<std::string_view>& names) const {
  int best = -1;
  double best_score = std::numeric_limits<double>::infinity();
  for (const std::string_view name : names) {
    const KernelTime* member = find(name);
    if (member == nullptr || member->results == best) continue;
    double score = 0;
    for (size_t b = 0; b < kernels::kTokenBuckets; ++b) {
      double fastest = 0;
      for (const KernelTime& t : kernels)
        if (t.results == member->results && t.us[b] > 0 &&
            std::find(names.begin(), names.end(), t.kernel) != names.end())
          fastest = fastest > 0 ? std::min(fastest, t.us[b]) : t.us[b];
      if (fastest > 0) score += std::log(fastest);
    }
    if (score < best_score) {
      best_score = score;
      best = member->results;
    }
  }
  return best;
}

}  // namespace moestro::plan
