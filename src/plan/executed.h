// What ran, beside what the plan announced: read from the counters that the calls themselves fill
// (kernels/op_counts.h). Any thread, while steps run.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/metrics.h"
#include "plan/plan.h"

namespace moestro::plan {

// One kernel that ran at one kind of place in one token-count bucket; all layers together.
struct Execution {
  size_t entry = 0;
  int32_t first = 1, last = -1;  // tokens, as in BucketPlan
  std::string kernel;
  uint64_t runs = 0, rows = 0;
};
std::vector<Execution> executions(const Plan& plan);

// Where the two differ, one sentence each: a kernel ran that the plan does not name for that place
// and number of tokens; or one layer ran more often than another of its kind. Empty: they agree.
std::vector<std::string> mismatches(const Plan& plan);

// The plan as to_json() gives it, with "ranks": what each rank planned and executed.
json::object to_json_with_counts(const Plan& plan);

// moestro_kernel_executions_total and moestro_kernel_rows_total{op, part, tokens, kernel},
// moestro_plan_mismatches; brought up to date whenever the registry is exposed. The plan must
// outlive the registry.
void publish_counts(const Plan& plan, MetricsRegistry& metrics);

}  // namespace moestro::plan
