// Measuring a KernelTable: the kernels that could run a place are timed in turns on a sample of it
// (samples.h), and which of them give equal bits is found out. Called at the first start of a
// program on a machine, on the main thread, before the weights are read.
#pragma once
#include <functional>

#include "base/status.h"
#include "models/op_visitor.h"
#include "plan/kernel_table.h"
#include "plan/plan.h"
#include "platform/gang.h"

namespace moestro::plan {

// Shows a visitor the places to measure: `spec.visit(visitor)` of a model.
using OpWalk = std::function<void(models::OpVisitor&)>;

struct MeasureOptions {
  double max_seconds = 4.5;
  // The reference, and whatever else needs no instruction set, is there for correctness: it is not
  // timed, as it cannot win but takes for ever.
  bool with_reference = false;
};

struct MeasureReport {
  int measured = 0;  // keys that were added to the table
  int left = 0;      // keys that there was no time for; the order decides for them
  double seconds = 0;
};

// Places with two or more kernels to time that the table does not know.
int count_unmeasured(const OpWalk& walk, const PlanInput& input, const KernelTable& table,
                     const MeasureOptions& options = {});
// Adds them. No memory for the samples: kResourceExhausted, and the table holds what was measured
// until then.
Result<MeasureReport> measure(const OpWalk& walk, const PlanInput& input, platform::Gang& gang,
                              KernelTable& table, const MeasureOptions& options = {});

}  // namespace moestro::plan
