// moestro bench moe: one MoE layer in the shape of a published model, timed against the read
// bandwidth and the multiply rate measured in the same run.
#include <algorithm>

#include "app/bench_load.h"
#include "app/moe_bench.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "kernels/row_ops.h"
#include "plan/choose.h"
#include "platform/cpu_features.h"

namespace moestro::app {
namespace {

struct Ceilings {
  double read = 0, amx_int8 = 0, amx_bf16 = 0;  // bytes and operations a second
};

struct SchemeRows {
  std::string scheme;
  std::vector<MoeBenchRow> rows;
};

struct Report {
  std::string shape, cpu;
  int workers = 1;
  Ceilings ceilings;
  bool slow_phase = false;
  double slowest_read = 0, fastest_read = 0;
  std::vector<SchemeRows> schemes;
};

// The host was slower at one time than at another: reads of the same memory differ by a third.
void judge_phases(Report& report, std::vector<double> reads) {
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

std::string forced_kernel(const config::Options& options) {
  for (const std::string& text : options.moe.kernels)
    if (text.starts_with("expert_mlp=")) return text.substr(11);
  return {};
}

class MoeBench {
 public:
  MoeBench(const config::Options& options, const MoeBenchShape& shape, platform::IsaSet isa,
           int workers)
      : options_(options), shape_(shape), isa_(isa), gang_(workers, options.parallel.pin_threads) {
    for (const kernels::RowOps& ops : kernels::row_ops())
      if (!ops_ && isa.contains(ops.needs)) ops_ = &ops;
  }

  Result<Report> run() {
    Report report;
    report.shape = shape_.name;
    report.cpu = platform::read_cpu_info().model_name;
    report.workers = gang_.num_workers();
    using platform::Unit;
    report.ceilings.amx_int8 = platform::compute_ceiling(gang_, Unit::kAmxInt8);
    report.ceilings.amx_bf16 = platform::compute_ceiling(gang_, Unit::kAmxBf16);
    for (const std::string& scheme : options_.bench.moe_schemes) {
      MOESTRO_ASSIGN(SchemeRows rows, run_scheme(scheme));
      report.schemes.push_back(std::move(rows));
    }
    judge_phases(report, reads_);
    return report;
  }

 private:
  Result<SchemeRows> run_scheme(const std::string& scheme);
  Result<std::vector<const kernels::ExpertMlpKernel*>> kernels_for(
      const kernels::ExpertMlpShape& shape) const;

  const config::Options& options_;
  const MoeBenchShape& shape_;
  const platform::IsaSet isa_;
  platform::Gang gang_;
  const kernels::RowOps* ops_ = nullptr;
  std::vector<double> reads_;
};

// The planned kernel; with --all-kernels every one that can run, but for the reference.
Result<std::vector<const kernels::ExpertMlpKernel*>> MoeBench::kernels_for(
    const kernels::ExpertMlpShape& shape) const {
  const auto list = kernels::expert_mlp_kernels(shape.format);
  std::vector<plan::Candidate> candidates;
  const std::string forced = forced_kernel(options_);
  const auto* chosen = plan::choose(list, shape, isa_, forced, candidates);
  if (!chosen)
    return unsupported(format("--kernel expert_mlp={}: no such kernel can run {} here", forced,
                              tensor::packed_format_name(shape.format)));
  std::vector<const kernels::ExpertMlpKernel*> kernels{chosen};
  if (!options_.bench.moe_all_kernels) return kernels;
  for (const auto& kernel : list)
    if (&kernel != chosen && &kernel != &list.back() && isa_.contains(kernel.needs) &&
        kernel.why_not(shape).empty())
      kernels.push_back(&kernel);
  return kernels;
}

Result<SchemeRows> MoeBench::run_scheme(const std::string& scheme) {
  MOESTRO_ASSIGN(const tensor::PackedFormat packed, moe_bench_format(scheme));
  const auto& tokens = options_.bench.moe_tokens;
  const auto most = static_cast<int32_t>(*std::ranges::max_element(tokens));
  MOESTRO_TRY(kernels_for({.format = packed,
                           .max_tokens = most,
                           .max_rows = most * shape_.router.top_k,
                           .experts = shape_.router.num_experts,
                           .hidden = shape_.hidden,
                           .intermediate = shape_.intermediate})
                  .status());
  log_info("{}: making up layers", scheme);
  MOESTRO_ASSIGN(const auto layers, MoeBenchLayers::make(shape_, packed, most, gang_));
  log_info("{}: {} layer{} of {} experts ({} distinct), {} in {}", scheme, layers->num_layers(),
           layers->num_layers() == 1 ? "" : "s", shape_.router.num_experts, layers->num_distinct(),
           human_bytes(layers->memory().size()), tensor::packed_format_name(packed));
  SchemeRows result{scheme, {}};
  for (const int64_t n : tokens) {
    const auto count = static_cast<int32_t>(n);
    std::vector<plan::Candidate> unused;
    MoeBenchRun run{.tokens = count,
                    .iterations = options_.bench.moe_iters,
                    .gate = plan::choose(kernels::linear_kernels(tensor::PackedFormat::kF32),
                                         layers->gate_shape(count), isa_, "", unused),
                    .kernels = {},
                    .ops = ops_};
    MOESTRO_ASSIGN(run.kernels, kernels_for(layers->expert_shape(count)));
    MOESTRO_ASSIGN(const std::vector<MoeBenchRow> rows, run_moe_bench(*layers, run, gang_, reads_));
    result.rows.insert(result.rows.end(), rows.begin(), rows.end());
    log_debug("{} tokens done", n);
  }
  return result;
}

json::object to_json(const Report& report) {
  json::array rows;
  for (const SchemeRows& scheme : report.schemes)
    for (const MoeBenchRow& r : scheme.rows)
      rows.push_back(json::object{{"tokens", r.tokens},
                                  {"scheme", scheme.scheme},
                                  {"kernel", r.kernel},
                                  {"unit", r.unit},
                                  {"us", r.us},
                                  {"best_us", r.best_us},
                                  {"weight_bytes", r.weight_bytes},
                                  {"read_share", r.read_share},
                                  {"peak_share", r.peak_share},
                                  {"floor_ratio", r.floor_ratio},
                                  {"rel_error", r.rel_error},
                                  {"read_gbs", r.read_gbs}});
  return {{"shape", report.shape},
          {"device", "cpu"},
          {"cpu", report.cpu},
          {"threads", report.workers},
          {"rows", std::move(rows)},
          {"ceilings", json::object{{"read_gbs", report.ceilings.read / 1e9},
                                    {"amx_int8_tops", report.ceilings.amx_int8 / 1e12},
                                    {"amx_bf16_tflops", report.ceilings.amx_bf16 / 1e12}}},
          {"slow_phase", report.slow_phase}};
}

std::string to_text(const Report& report, const MoeBenchShape& shape) {
  std::string out =
      format("MoE layer of {}: hidden {}, {} experts of {}, {} a token\n", shape.name, shape.hidden,
             shape.router.num_experts, shape.intermediate, shape.router.top_k);
  out += format("{}, {} thread{}: reads {:.1f} GB/s", report.cpu, report.workers,
                report.workers == 1 ? "" : "s", report.ceilings.read / 1e9);
  if (report.ceilings.amx_int8 > 0)
    out += format(", AMX int8 {:.2f} Tops, AMX bf16 {:.2f} Tflops", report.ceilings.amx_int8 / 1e12,
                  report.ceilings.amx_bf16 / 1e12);
  out += "\n\n";
  size_t width = 6;
  for (const SchemeRows& s : report.schemes)
    for (const MoeBenchRow& r : s.rows) width = std::max(width, r.kernel.size());
  const auto row = [&](std::string_view scheme, std::string_view tokens, std::string_view kernel,
                       std::string_view time, std::string_view read, std::string_view peak,
                       std::string_view unit, std::string_view floor, std::string_view error) {
    return format("{:<11}{:>7}  {:<{}}{:>12}{:>9}{:>9}  {:<12}{:>8}{:>10}\n", scheme, tokens,
                  kernel, width, time, read, peak, unit, floor, error);
  };
  out +=
      row("scheme", "tokens", "kernel", "time", "of read", "of peak", "unit", "x floor", "error");
  for (const SchemeRows& s : report.schemes)
    for (const MoeBenchRow& r : s.rows)
      out += row(s.scheme, format("{}", r.tokens), r.kernel,
                 r.us < 1e4 ? format("{:.0f} us", r.us) : format("{:.1f} ms", r.us / 1e3),
                 format("{:.0f} %", 100 * r.read_share), format("{:.1f} %", 100 * r.peak_share),
                 r.unit, format("{:.2f}", r.floor_ratio), format("{:.1e}", r.rel_error));
  out +=
      "\nMedians. of read: weight bytes against the read bandwidth of the same moment; of peak: "
      "against the\nunit with operands in registers; floor: the larger of the two times; error: "
      "against the reference.\n";
  if (report.slow_phase)
    out += format(
        "\nThe machine changed its speed while this ran: reads between {:.1f} and {:.1f} GB/s. "
        "Shares hold,\ntimes do not; run it again.\n",
        report.slowest_read / 1e9, report.fastest_read / 1e9);
  return out;
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
  MOESTRO_ASSIGN(const Report report, bench.run());
  const json::object result = to_json(report);
  if (options.bench.output_json) MOESTRO_TRY(write_json(*options.bench.output_json, result));
  if (options.json)
    print_json(result);
  else
    print(to_text(report, *shape));
  return {};
}

}  // namespace moestro::app
