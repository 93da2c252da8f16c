// What `moestro bench moe` prints: one table of times beside the machine's ceilings, the kernels
// that serve would run and what chose them, and with --all-kernels how far they are from the
// fastest. Pure functions of the results.
#pragma once
#include <string>
#include <vector>

#include "app/moe_bench.h"
#include "base/json.h"
#include "plan/plan.h"

namespace moestro::app {

struct MoeBenchCeilings {
  double read = 0, amx_int8 = 0, amx_bf16 = 0;  // bytes and operations a second
};

struct MoeBenchScheme {
  std::string scheme;
  std::vector<plan::BucketPlan> buckets;  // of the experts' kernels, as serve would plan them
  std::vector<MoeBenchRow> rows;

  const plan::BucketPlan& bucket_of(const MoeBenchRow& row) const {
    return *plan::bucket_of(buckets, row.tokens);
  }
  // Is it the planned kernel's row?
  bool picked(const MoeBenchRow& row) const { return row.kernel == bucket_of(row).kernel; }
};

struct MoeBenchReport {
  std::string shape, cpu;
  int workers = 1;
  bool all_kernels = false;
  std::string times;  // where measured times came from, or why there are none
  MoeBenchCeilings ceilings;
  bool slow_phase = false;
  double slowest_read = 0, fastest_read = 0;
  std::vector<MoeBenchScheme> schemes;
};

// A planned kernel beside the fastest of the candidates that ran in turns with it.
struct MoeBenchPick {
  std::string scheme;
  int32_t tokens = 0;
  std::string kernel, fastest;
  double over_best = 1;
  std::string why;  // what the plan says against the fastest, where it is another
};
std::vector<MoeBenchPick> picks_of(const MoeBenchReport& report);
// A pick may be so many times slower than the best candidate.
inline constexpr double kPickTolerance = 1.05;

json::object to_json(const MoeBenchReport& report);
std::string to_text(const MoeBenchReport& report, const MoeBenchShape& shape);

}  // namespace moestro::app
