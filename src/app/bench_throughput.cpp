// moestro bench throughput: many random requests, all submitted at once.
#include "app/bench_load.h"
#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"

namespace moestro::app {
namespace {

struct Totals {
  int64_t prompt_tokens = 0, output_tokens = 0;
  double seconds = 0;
  std::vector<double> first_tokens, latencies;
};

Totals sum_up(const std::vector<BenchRequest>& requests, const std::vector<Timing>& timings) {
  Totals totals;
  for (size_t i = 0; i < requests.size(); ++i) {
    totals.prompt_tokens += static_cast<int64_t>(requests[i].prompt.size());
    totals.output_tokens += timings[i].num_tokens;
    totals.seconds = std::max(totals.seconds, timings[i].seconds);
    totals.first_tokens.push_back(timings[i].seconds_to_first);
    totals.latencies.push_back(timings[i].seconds);
  }
  return totals;
}

}  // namespace

Status run_bench_throughput(const config::CommandLine& line) {
  const config::Options& options = line.options;
  const config::BenchOptions& bench = options.bench;
  RandomLoad load;
  load.count = bench.num_prompts;
  load.input_len = bench.input_len.value_or(bench.random_input_len);
  load.output_len = bench.output_len.value_or(bench.random_output_len);
  load.prefix_len = bench.random_prefix_len;
  load.spread = bench.random_range_ratio;
  load.seed = static_cast<uint64_t>(options.model.seed);
  const auto longest = load.prefix_len +
                       static_cast<int64_t>(static_cast<double>(load.input_len + load.output_len) *
                                            (1 + load.spread)) +
                       2;
  const HostNeeds needs{.longest_sequence = longest,
                        .max_waiting = bench.num_prompts + bench.num_warmups};
  MOESTRO_ASSIGN(const auto host, ModelHost::start(options, needs));
  load.vocab = host->config().vocab_size;
  if (bench.num_warmups > 0) {
    RandomLoad warmup = load;
    warmup.count = bench.num_warmups;
    warmup.seed = ~load.seed;
    MOESTRO_TRY(run_requests(host->engine(), random_requests(warmup)).status());
  }
  const std::vector<BenchRequest> requests = random_requests(load);
  MOESTRO_ASSIGN(const std::vector<Timing> timings, run_requests(host->engine(), requests));
  const Totals t = sum_up(requests, timings);
  const int64_t tokens = t.prompt_tokens + t.output_tokens;
  const json::object result{
      {"elapsed_time", t.seconds},
      {"num_requests", requests.size()},
      {"total_num_tokens", tokens},
      {"total_output_tokens", t.output_tokens},
      {"requests_per_second", static_cast<double>(requests.size()) / t.seconds},
      {"tokens_per_second", static_cast<double>(tokens) / t.seconds},
      {"output_tokens_per_second", static_cast<double>(t.output_tokens) / t.seconds},
      {"median_seconds_to_first_token", percentile(t.first_tokens, 50)},
      {"median_latency", percentile(t.latencies, 50)},
      {"threads", host->planned().plan.input.num_workers},
      {"plan_id", host->planned().plan.id}};
  if (bench.output_json) MOESTRO_TRY(write_json(*bench.output_json, result));
  if (options.json) {
    print_json(result);
    return {};
  }
  std::string out = format("{} requests, {} prompt and {} output tokens in {:.2f} s\n",
                           requests.size(), t.prompt_tokens, t.output_tokens, t.seconds);
  out += format("  requests       {:.2f} a second\n", result.at("requests_per_second").as_double());
  out += format("  tokens         {:.1f} a second\n", result.at("tokens_per_second").as_double());
  out += format("  output tokens  {:.1f} a second\n",
                result.at("output_tokens_per_second").as_double());
  print(out);
  return {};
}

}  // namespace moestro::app
