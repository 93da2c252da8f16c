// KernelTable: measured times of the kernels that could run a place, by op, format and shape; made
// by measure.h, kept in a file between starts. A miss means: not measured, the order of the list
// decides.
#pragma once
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/op_counts.h"

namespace moestro::plan {

// One kernel of one key.
struct KernelTime {
  std::string kernel;
  std::array<double, kernels::kTokenBuckets> us{};  // a bucket's typical step; 0: not measured
  int results = 0;  // kernels with the same number gave equal bits; a plan never mixes two numbers,
                    // as a token's result would depend on its company
};

struct KernelTimes {
  std::vector<KernelTime> kernels;

  const KernelTime* find(std::string_view kernel) const;
  // The group of equal results that is fastest over all buckets, of the kernels named; -1: none of
  // them is here.
  int best_results(const std::vector<std::string_view>& names) const;
};

class KernelTable {
 public:
  const KernelTimes* find(const std::string& key) const {
    const auto at = times_.find(key);
    return at == times_.end() ? nullptr : &at->second;
  }
  void set(const std::string& key, KernelTimes times) { times_[key] = std::move(times); }
  const std::map<std::string, KernelTimes>& all() const { return times_; }
  bool empty() const { return times_.empty(); }

 private:
  std::map<std::string, KernelTimes> times_;
};

}  // namespace moestro::plan
