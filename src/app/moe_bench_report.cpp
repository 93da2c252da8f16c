#include "app/moe_bench_report.h"

#include <algorithm>

#include "base/format.h"

namespace moestro::app {
namespace {

std::string time_text(double us) {
  return us < 1e4 ? format("{:.0f} us", us) : format("{:.1f} ms", us / 1e3);
}

std::string title(const MoeBenchReport& report, const MoeBenchShape& shape) {
  std::string out =
      format("MoE layer of {}: hidden {}, {} experts of {}, {} a token\n", shape.name, shape.hidden,
             shape.router.num_experts, shape.intermediate, shape.router.top_k);
  out += format("{}, {} thread{}: reads {:.1f} GB/s", report.cpu, report.workers,
                report.workers == 1 ? "" : "s", report.ceilings.read / 1e9);
  if (report.ceilings.amx_int8 > 0)
    out += format(", AMX int8 {:.2f} Tops, AMX bf16 {:.2f} Tflops", report.ceilings.amx_int8 / 1e12,
                  report.ceilings.amx_bf16 / 1e12);
  return out + "\n\n";
}

struct Columns {
  std::string_view scheme, tokens, kernel, time, read, peak, unit, floor, error, best;
};

std::string line_of(const Columns& c, size_t width) {
  std::string line =
      format("{:<10}{:>6}  {:<{}}{:>9}{:>8}{:>8}  {:<10}{:>8}{:>9}{:>8}", c.scheme, c.tokens,
             c.kernel, width, c.time, c.read, c.peak, c.unit, c.floor, c.error, c.best);
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string table(const MoeBenchReport& report) {
  size_t width = 6;
  for (const MoeBenchScheme& s : report.schemes)
    for (const MoeBenchRow& r : s.rows) width = std::max(width, r.kernel.size());
  std::string out = line_of({"scheme", "tokens", "kernel", "time", "of read", "of peak", "unit",
                             "x floor", "error", report.all_kernels ? "x best" : ""},
                            width);
  for (const MoeBenchScheme& s : report.schemes)
    for (const MoeBenchRow& r : s.rows) {
      const std::string tokens = format("{}", r.tokens), time = time_text(r.us),
                        read = format("{:.0f} %", 100 * r.read_share),
                        peak = format("{:.1f} %", 100 * r.peak_share),
                        floor = format("{:.2f}", r.floor_ratio),
                        error = format("{:.1e}", r.rel_error),
                        best = report.all_kernels ? format("{:.2f}", r.over_best) : "";
      out += line_of({s.scheme, tokens, r.kernel, time, read, peak, r.unit, floor, error, best},
                     width);
    }
  return out;
}

// Which kernel serve would run for how many tokens, and what chose it.
std::string planned_text(const MoeBenchReport& report) {
  std::string out = format("\nPlanned kernels (times: {})\n", report.times);
  for (const MoeBenchScheme& s : report.schemes)
    for (const plan::BucketPlan& b : s.buckets) {
      out += format("  {:<12}{:<14}{:<36}by {}", s.scheme, plan::tokens_text(b), b.kernel,
                    b.chosen_by());
      for (const plan::Candidate& c : b.candidates)
        if (c.why_not.empty() && c.us > 0) out += format(", {:.1f} us a sample", c.us);
      out += "\n";
    }
  return out;
}

std::string picks_text(const MoeBenchReport& report) {
  const std::vector<MoeBenchPick> picks = picks_of(report);
  const auto within =
      std::ranges::count_if(picks, [](const auto& p) { return p.over_best <= kPickTolerance; });
  std::string out =
      format("  Within {:.0f} % of the fastest that ran in turns with them: {} of {}\n",
             100 * (kPickTolerance - 1), within, picks.size());
  for (const MoeBenchPick& p : picks)
    if (p.over_best > kPickTolerance)
      out += format("    {}, {} tokens: {} takes {:.2f} x the time of {}; {}\n", p.scheme, p.tokens,
                    p.kernel, p.over_best, p.fastest, p.why);
  return out;
}

json::object row_json(const MoeBenchScheme& scheme, const MoeBenchRow& r) {
  const plan::BucketPlan& bucket = scheme.bucket_of(r);
  return {{"tokens", r.tokens},
          {"scheme", scheme.scheme},
          {"kernel", r.kernel},
          {"planned", scheme.picked(r)},
          {"chosen_by", bucket.chosen_by()},
          {"bucket", plan::tokens_text(bucket)},
          {"unit", r.unit},
          {"us", r.us},
          {"best_us", r.best_us},
          {"over_best", r.over_best},
          {"weight_bytes", r.weight_bytes},
          {"read_share", r.read_share},
          {"peak_share", r.peak_share},
          {"floor_ratio", r.floor_ratio},
          {"rel_error", r.rel_error},
          {"read_gbs", r.read_gbs}};
}

}  // namespace

std::vector<MoeBenchPick> picks_of(const MoeBenchReport& report) {
  std::vector<MoeBenchPick> picks;
  for (const MoeBenchScheme& s : report.schemes)
    for (const MoeBenchRow& row : s.rows) {
      if (!s.picked(row)) continue;
      MoeBenchPick pick{s.scheme, row.tokens, row.kernel, row.kernel, row.over_best, {}};
      double fastest = row.us;
      for (const MoeBenchRow& other : s.rows)
        if (other.tokens == row.tokens && other.us < fastest) {
          fastest = other.us;
          pick.fastest = other.kernel;
        }
      for (const plan::Candidate& c : s.bucket_of(row).candidates)
        if (c.kernel == pick.fastest) pick.why = c.why_not;
      picks.push_back(std::move(pick));
    }
  return picks;
}

json::object to_json(const MoeBenchReport& report) {
  json::array rows;
  for (const MoeBenchScheme& scheme : report.schemes)
    for (const MoeBenchRow& r : scheme.rows) rows.push_back(row_json(scheme, r));
  json::object o{{"shape", report.shape},
                 {"device", "cpu"},
                 {"cpu", report.cpu},
                 {"threads", report.workers},
                 {"times", report.times},
                 {"rows", std::move(rows)},
                 {"ceilings", json::object{{"read_gbs", report.ceilings.read / 1e9},
                                           {"amx_int8_tops", report.ceilings.amx_int8 / 1e12},
                                           {"amx_bf16_tflops", report.ceilings.amx_bf16 / 1e12}}},
                 {"slow_phase", report.slow_phase}};
  if (!report.all_kernels) return o;
  json::array picks;
  for (const MoeBenchPick& p : picks_of(report))
    picks.push_back(json::object{{"scheme", p.scheme},
                                 {"tokens", p.tokens},
                                 {"kernel", p.kernel},
                                 {"fastest", p.fastest},
                                 {"over_best", p.over_best},
                                 {"why", p.why}});
  o["picks"] = std::move(picks);
  return o;
}

std::string to_text(const MoeBenchReport& report, const MoeBenchShape& shape) {
  std::string out = title(report, shape) + table(report);
  out +=
      "\nMedians. of read: weight bytes against the read bandwidth of the same moment; of peak: "
      "against the\nunit with operands in registers; floor: the larger of the two times; error: "
      "against the reference.\n";
  out += planned_text(report);
  if (report.all_kernels) out += picks_text(report);
  if (report.slow_phase)
    out += format(
        "\nThe machine changed its speed while this ran: reads between {:.1f} and {:.1f} GB/s. "
        "Shares hold,\ntimes do not; run it again.\n",
        report.slowest_read / 1e9, report.fastest_read / 1e9);
  return out;
}

}  // namespace moestro::app
