// moestro bench latency: one batch of random prompts from submission to its last token, again and
// again.
#include "app/bench_load.h"
#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/log.h"

namespace moestro::app {
namespace {

struct Runs {
  std::vector<double> latencies, first_tokens,
      decode_rates;  // seconds, seconds, tokens a second of the whole batch
};

Status run_once(ModelHost& host, const std::vector<BenchRequest>& requests, Runs* runs) {
  MOESTRO_ASSIGN(const std::vector<Timing> timings, run_requests(host.engine(), requests));
  if (!runs) return {};
  double last = 0, first = 0;
  int64_t decoded = 0;
  for (const Timing& timing : timings) {
    last = std::max(last, timing.seconds);
    first = std::max(first, timing.seconds_to_first);
    decoded += timing.num_tokens - 1;
  }
  runs->latencies.push_back(last);
  runs->first_tokens.push_back(first);
  if (decoded > 0 && last > first)
    runs->decode_rates.push_back(static_cast<double>(decoded) / (last - first));
  return {};
}

constexpr double kPercents[] = {10, 25, 50, 75, 90, 99};

json::object to_json(const Runs& runs, const config::Options& options, const RandomLoad& load,
                     const ModelHost& host) {
  json::object percentiles;
  for (const double percent : kPercents)
    percentiles[format("{}", static_cast<int>(percent))] = percentile(runs.latencies, percent);
  json::array latencies;
  for (const double latency : runs.latencies) latencies.push_back(json::value(latency));
  json::object result{{"avg_latency", mean(runs.latencies)},
                      {"latencies", std::move(latencies)},
                      {"percentiles", std::move(percentiles)},
                      {"avg_seconds_to_first_token", mean(runs.first_tokens)},
                      {"batch_size", options.bench.batch_size},
                      {"input_len", load.input_len},
                      {"output_len", load.output_len},
                      {"threads", host.planned().plan.input.num_workers},
                      {"plan_id", host.planned().plan.id}};
  result["decode_tokens_per_second"] =
      runs.decode_rates.empty() ? json::value(nullptr) : json::value(mean(runs.decode_rates));
  result["prefill_tokens_per_second"] =
      static_cast<double>(options.bench.batch_size * load.input_len) / mean(runs.first_tokens);
  return result;
}

}  // namespace

Status run_bench_latency(const config::CommandLine& line) {
  const config::Options& options = line.options;
  const config::BenchOptions& bench = options.bench;
  RandomLoad load;
  load.count = bench.batch_size;
  load.input_len = bench.input_len.value_or(32);
  load.output_len = bench.output_len.value_or(128);
  load.seed = static_cast<uint64_t>(options.model.seed);
  // The same prompts come again and again: what the cache saves is not what is measured here.
  MOESTRO_ASSIGN(const auto host,
                 ModelHost::start(options, {.longest_sequence = load.input_len + load.output_len,
                                            .num_seqs = bench.batch_size,
                                            .max_waiting = bench.batch_size,
                                            .prefix_caching = false}));
  load.vocab = host->config().vocab_size;
  const std::vector<BenchRequest> requests = random_requests(load);
  for (int64_t i = 0; i < bench.num_iters_warmup; ++i)
    MOESTRO_TRY(run_once(*host, requests, nullptr));
  Runs runs;
  for (int64_t i = 0; i < bench.num_iters; ++i) {
    MOESTRO_TRY(run_once(*host, requests, &runs));
    log_debug("iteration {}: {:.4f} s", i, runs.latencies.back());
  }
  const json::object result = to_json(runs, options, load, *host);
  if (bench.output_json) MOESTRO_TRY(write_json(*bench.output_json, result));
  if (options.json) {
    print_json(result);
    return {};
  }
  std::string out = format("{} sequences, {} + {} tokens, {} runs\n", bench.batch_size,
                           load.input_len, load.output_len, bench.num_iters);
  out += format("  latency       {:.4f} s on average\n", mean(runs.latencies));
  for (const double percent : kPercents)
    out += format("    {:>3.0f}%        {:.4f} s\n", percent, percentile(runs.latencies, percent));
  out += format("  first tokens  {:.4f} s, {:.1f} prompt tokens a second\n",
                mean(runs.first_tokens), result.at("prefill_tokens_per_second").as_double());
  if (!runs.decode_rates.empty())
    out += format("  decode        {:.1f} tokens a second\n", mean(runs.decode_rates));
  print(out);
  return {};
}

}  // namespace moestro::app
