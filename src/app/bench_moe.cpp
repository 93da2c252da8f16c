// moestro bench moe: one MoE layer in the shape of a published model, with the kernels that serve
// would run, timed against the read bandwidth and the multiply rate measured in the same run.
#include <algorithm>

#include "app/bench_load.h"
#include "app/kernel_times.h"
#include "app/moe_bench.h"
#include "app/moe_bench_report.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "kernels/row_ops.h"
#include "plan/machine.h"
#include "plan/ops.h"
#include "platform/cpu_features.h"

namespace moestro::app {
namespace {

// Kernels are planned for serve's steps: --max-num-batched-tokens by default.
constexpr int32_t kServeTokens = 2048;
// What the two places of a scheme would get of the 4.5 s that a model's ten or so share.
constexpr double kMeasureSeconds = 1.0;

// The host was slower at one time than at another: reads of the same memory differ by a third.
void judge_phases(MoeBenchReport& report, std::vector<double> reads) {
  std::ranges::sort(reads);
  report.slowest_read = reads[reads.size() / 10];
  report.fastest_read = reads[reads.size() * 9 / 10];
  report.slow_phase = report.slowest_read < 0.67 * report.fastest_read;
  report.ceilings.read = median(reads);
}

Result<platform::IsaSet> isa_of(const config::Options& options) {
  const platform::IsaSet here = platform::detect_isa();
  if (options.moe.isa == "auto") return here;
  MOESTRO_ASSIGN(const platform::IsaSet isa, platform::parse_isa(options.moe.isa).with("--isa"));
  if (!here.contains(isa))
    return unsupported(format("--isa: this processor lacks {}", platform::isa_names(isa - here)));
  return isa;
}

std::string forced_kernel(const config::Options& options, std::string_view op) {
  for (const std::string& text : options.moe.kernels)
    if (text.starts_with(format("{}=", op))) return text.substr(op.size() + 1);
  return {};
}

// What serve would run, planned with the same lists, table and buckets.
struct Planned {
  kernels::LinearChoice gate;
  kernels::ExpertMlpChoice experts;
  std::vector<plan::BucketPlan> buckets;  // of the experts
};

class MoeBench {
 public:
  MoeBench(const config::Options& options, const MoeBenchShape& shape, platform::IsaSet isa,
           int workers)
      : options_(options),
        shape_(shape),
        gang_(workers, options.parallel.pin_threads),
        times_(open_kernel_times(options, plan::this_machine())) {
    input_.isa = isa;
    input_.num_workers = workers;
    input_.forced_kernels = options.moe.kernels;
    input_.table = &times_.table;
    for (const kernels::RowOps& ops : kernels::row_ops())
      if (!ops_ && isa.contains(ops.needs)) ops_ = &ops;
  }

  Result<MoeBenchReport> run() {
    MoeBenchReport report;
    report.shape = shape_.name;
    report.cpu = platform::read_cpu_info().model_name;
    report.workers = gang_.num_workers();
    report.all_kernels = options_.bench.moe_all_kernels;
    using platform::Unit;
    report.ceilings.amx_int8 = platform::compute_ceiling(gang_, Unit::kAmxInt8);
    report.ceilings.amx_bf16 = platform::compute_ceiling(gang_, Unit::kAmxBf16);
    for (const std::string& scheme : options_.bench.moe_schemes) {
      MOESTRO_ASSIGN(MoeBenchScheme rows, run_scheme(scheme));
      report.schemes.push_back(std::move(rows));
    }
    report.times = times_text(report);
    judge_phases(report, reads_);
    return report;
  }

 private:
  std::string times_text(const MoeBenchReport& report) const;
  Result<MoeBenchScheme> run_scheme(const std::string& scheme);
  Result<Planned> plan_layer(const tensor::PackedFormat& format, int32_t most);
  std::vector<const kernels::ExpertMlpKernel*> kernels_for(const Planned& planned,
                                                           int32_t tokens) const;

  const config::Options& options_;
  const MoeBenchShape& shape_;
  platform::Gang gang_;
  KernelTimesState times_;
  plan::PlanInput input_;
  const kernels::RowOps* ops_ = nullptr;
  std::vector<double> reads_;
};

std::string MoeBench::times_text(const MoeBenchReport& report) const {
  if (!times_.why_not.empty())
    return format("none ({}); the order of the lists decides", times_.why_not);
  for (const MoeBenchScheme& s : report.schemes)
    for (const plan::BucketPlan& b : s.buckets)
      if (b.chosen_by() == "measured") return format("measured, kept in {}", times_.path);
  return "none needed, as one kernel is left to choose from";
}

Result<Planned> MoeBench::plan_layer(const tensor::PackedFormat& format, int32_t most) {
  const int32_t step = std::max(most, kServeTokens);
  Planned planned;
  planned.gate.shape = gate_shape(shape_, step);
  planned.experts.shape = expert_shape(shape_, format, step);
  const auto walk = [&planned](models::OpVisitor& visitor) {
    visitor.visit({.part = "router", .name = "gate"}, planned.gate);
    visitor.visit({.part = "experts", .name = "experts"}, planned.experts);
  };
  complete_kernel_times(times_, walk, input_, gang_, {.max_seconds = kMeasureSeconds});
  MOESTRO_TRY(
      plan::choose_kernels(planned.gate, "the router", input_, forced_kernel(options_, "linear"))
          .status());
  MOESTRO_ASSIGN(planned.buckets, plan::choose_kernels(planned.experts, "the experts", input_,
                                                       forced_kernel(options_, "expert_mlp")));
  return planned;
}

// The planned kernel first; with --all-kernels every one that can run, but for the reference.
std::vector<const kernels::ExpertMlpKernel*> MoeBench::kernels_for(const Planned& planned,
                                                                   int32_t tokens) const {
  const auto* chosen = planned.experts.kernels[static_cast<size_t>(kernels::token_bucket(tokens))];
  std::vector<const kernels::ExpertMlpKernel*> kernels{chosen};
  if (!options_.bench.moe_all_kernels) return kernels;
  const auto list = kernels::expert_mlp_kernels(planned.experts.shape.format);
  for (const auto& kernel : list)
    if (&kernel != chosen && &kernel != &list.back() && input_.isa.contains(kernel.needs) &&
        kernel.why_not(planned.experts.shape).empty())
      kernels.push_back(&kernel);
  return kernels;
}

Result<MoeBenchScheme> MoeBench::run_scheme(const std::string& scheme) {
  MOESTRO_ASSIGN(const tensor::PackedFormat packed, moe_bench_format(scheme));
  const auto& tokens = options_.bench.moe_tokens;
  const auto most = static_cast<int32_t>(*std::ranges::max_element(tokens));
  MOESTRO_ASSIGN(const Planned planned, plan_layer(packed, most));
  log_info("{}: making up layers", scheme);
  MOESTRO_ASSIGN(const auto layers, MoeBenchLayers::make(shape_, packed, most, gang_));
  log_info("{}: {} layer{} of {} experts ({} distinct), {} in {}", scheme, layers->num_layers(),
           layers->num_layers() == 1 ? "" : "s", shape_.router.num_experts, layers->num_distinct(),
           human_bytes(layers->memory().size()), tensor::packed_format_name(packed));
  MoeBenchScheme result{scheme, planned.buckets, {}};
  for (const int64_t n : tokens) {
    const auto count = static_cast<int32_t>(n);
    const MoeBenchRun run{
        .tokens = count,
        .iterations = options_.bench.moe_iters,
        .gate = planned.gate.kernels[static_cast<size_t>(kernels::token_bucket(count))],
        .kernels = kernels_for(planned, count),
        .ops = ops_};
    MOESTRO_ASSIGN(const std::vector<MoeBenchRow> rows, run_moe_bench(*layers, run, gang_, reads_));
    result.rows.insert(result.rows.end(), rows.begin(), rows.end());
    log_debug("{} tokens done", n);
  }
  return result;
}

}  // namespace

Status run_bench_moe(const config::CommandLine& line) {
  const config::Options& options = line.options;
  const MoeBenchShape* shape = find_moe_bench_shape(options.bench.moe_shape);
  if (!shape) return invalid_argument(format("--shape {}: not known", options.bench.moe_shape));
  if (options.bench.moe_device == "cuda")
    return unsupported("--device cuda: this build has no CUDA kernels; --device cpu");
  if (options.bench.moe_tokens.empty())
    return invalid_argument("--tokens: give at least one, such as 1,32,512");
  for (const std::string& scheme : options.bench.moe_schemes)
    MOESTRO_TRY(moe_bench_format(scheme).status());
  MOESTRO_ASSIGN(const platform::IsaSet isa, isa_of(options));
  const int workers =
      static_cast<int>(options.parallel.threads.value_or(platform::read_cpu_info().num_cpus));
  MoeBench bench(options, *shape, isa, workers);
  MOESTRO_ASSIGN(const MoeBenchReport report, bench.run());
  const json::object result = to_json(report);
  if (options.bench.output_json) MOESTRO_TRY(write_json(*options.bench.output_json, result));
  if (options.json)
    print_json(result);
  else
    print(to_text(report, *shape));
  return {};
}

}  // namespace moestro::app
