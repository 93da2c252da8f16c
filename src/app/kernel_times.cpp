#include "app/kernel_times.h"

#include "base/format.h"
#include "base/log.h"
#include "plan/kernel_table_file.h"

namespace moestro::app {

KernelTimesState open_kernel_times(const config::Options& options, const plan::Machine& machine) {
  KernelTimesState state;
  if (machine.described) {
    state.why_not = "times of a described machine are not known";
    return state;
  }
  if (options.moe.kernel_table == "none") {
    state.why_not = "--kernel-table none";
    return state;
  }
  const auto identity = plan::TableIdentity::of_this_machine();
  state.path = options.moe.kernel_table == "measure" ? plan::default_table_path(identity)
                                                     : options.moe.kernel_table;
  if (state.path.empty()) return state;  // measured at every start
  Result<plan::KernelTable> table = plan::read_table(state.path, identity);
  if (table.ok()) {
    state.table = std::move(*table);
  } else {
    state.why_not = format("{}; delete the file to measure again", table.status().message());
    state.is_warning = true;
  }
  return state;
}

bool complete_kernel_times(KernelTimesState& state, const plan::OpWalk& walk,
                           const plan::PlanInput& input, platform::Gang& gang,
                           const plan::MeasureOptions& measuring) {
  if (state.is_warning) log_warning("{}; the order of the kernel lists decides", state.why_not);
  if (!state.why_not.empty()) return false;
  const int missing = plan::count_unmeasured(walk, input, state.table, measuring);
  if (missing == 0) return false;
  log_info("measuring kernels for {} shapes, once on this machine (--kernel-table)", missing);
  const Result<plan::MeasureReport> report =
      plan::measure(walk, input, gang, state.table, measuring);
  if (!report.ok()) {
    log_warning("{}; the order of the kernel lists decides", report.status().message());
    return !state.table.empty();
  }
  log_info(
      "measured {} shapes in {:.1f} s{}", report->measured, report->seconds,
      report->left > 0 ? format("; {} are left for the next start", report->left) : std::string());
  if (state.path.empty()) {
    log_warning(
        "the times are not kept, as this user has no home directory; --kernel-table FILE keeps "
        "them");
  } else if (const Status kept =
                 plan::write_table(state.path, plan::TableIdentity::of_this_machine(), state.table);
             !kept.ok()) {
    log_warning("{}; measured again at the next start", kept.message());
  }
  return true;
}

}  // namespace moestro::app
