// Measured kernel times around a start: which file --kernel-table means, reading it before
// planning, measuring what it lacks before loading. A file that cannot be read or written costs a
// warning, never the start. Main thread.
#pragma once
#include <string>

#include "base/status.h"
#include "config/options.h"
#include "plan/kernel_table.h"
#include "plan/machine.h"
#include "plan/measure.h"
#include "plan/plan.h"
#include "platform/gang.h"

namespace moestro::app {

struct KernelTimesState {
  plan::KernelTable table;
  std::string path;         // where times are kept; empty: nowhere
  std::string why_not;      // why none are measured; empty: they may be
  bool is_warning = false;  // why_not is worth one
};
KernelTimesState open_kernel_times(const config::Options& options, const plan::Machine& machine);

// Measures what the table lacks for these places and keeps it. True: times were added, so plan
// again.
bool complete_kernel_times(KernelTimesState& state, const plan::OpWalk& walk,
                           const plan::PlanInput& input, platform::Gang& gang,
                           const plan::MeasureOptions& measuring = {});

}  // namespace moestro::app
