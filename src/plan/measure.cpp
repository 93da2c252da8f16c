#include "plan/measure.h"

#include <functional>
#include <map>

#include "base/deadline.h"
#include "base/log.h"
#include "plan/ops.h"
#include "plan/samples.h"

namespace moestro::plan {
namespace {

using models::OpSite;

// The keys of a model that want measuring, with how to do it.
class Collector final : public models::OpVisitor {
 public:
  using Work = std::function<Result<KernelTimes>(double seconds, platform::Gang&, SampleMemory&)>;

  Collector(const PlanInput& input, const KernelTable& table, const MeasureOptions& options)
      : input_(input), table_(table), options_(options) {}
  void visit(const OpSite&, kernels::LinearChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::ExpertMlpChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::HeadLinearChoice&) override {}
  void visit(const OpSite&, kernels::GqaChoice&) override {}
  void visit(const OpSite&, kernels::MlaChoice&) override {}
  void visit(const OpSite&, kernels::SparseIndexChoice&) override {}
  void visit(const OpSite&, kernels::RowOpsChoice&) override {}
  void visit(const OpSite&, moe::DispatchChoice&) override {}

  std::map<std::string, Work> work;

 private:
  template <class Op>
  void add(Op& op) {
    const std::string key = table_key(op.shape, input_.num_workers);
    if (work.contains(key) || table_.find(key) != nullptr) return;
    const std::string forced = describe(op.shape).op + "=";
    for (const std::string& f : input_.forced_kernels)
      if (f.starts_with(forced)) return;
    std::vector<const typename Op::KernelType*> kernels;
    for (const auto& kernel : candidates_of(op.shape)) {
      const bool reference = kernel.needs == platform::kBaseline;
      if (input_.isa.contains(kernel.needs) && kernel.why_not(op.shape).empty() &&
          (!reference || options_.with_reference))
        kernels.push_back(&kernel);
    }
    if (kernels.size() < 2) return;
    work[key] = [shape = op.shape, kernels](double seconds, platform::Gang& gang,
                                            SampleMemory& memory) {
      return time_sample(shape, kernels, seconds, gang, memory);
    };
  }

  const PlanInput& input_;
  const KernelTable& table_;
  const MeasureOptions& options_;
};

}  // namespace

int count_unmeasured(const OpWalk& walk, const PlanInput& input, const KernelTable& table,
                     const MeasureOptions& options) {
  Collector collector(input, table, options);
  walk(collector);
  return static_cast<int>(collector.work.size());
}

Result<MeasureReport> measure(const OpWalk& walk, const PlanInput& input, platform::Gang& gang,
                              KernelTable& table, const MeasureOptions& options) {
  Collector collector(input, table, options);
  walk(collector);
  SampleMemory memory;
  MeasureReport report;
  const Clock::time_point start = Clock::now();
  size_t left = collector.work.size();
  for (const auto& [key, work] : collector.work) {
    // Packing the sample takes about as long as timing it.
    const double share = (options.max_seconds - seconds_since(start)) / static_cast<double>(left);
    if (share <= 0) break;
    MOESTRO_ASSIGN(KernelTimes times, work(share / 2, gang, memory));
    table.set(key, std::move(times));
    log_debug("measured {} in {:.2f} s", key, seconds_since(start));
    ++report.measured;
    --left;
  }
  report.left = static_cast<int>(left);
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace moestro::plan
