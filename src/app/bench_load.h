// Made-up requests for the benchmarks, and how their timings are summed up. Main thread.
#pragma once
#include <cstdint>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "engine/engine.h"

namespace moestro::app {

struct BenchRequest {
  std::vector<int32_t> prompt;
  int32_t output_len = 0;
};

struct Timing {
  double seconds_to_first = 0, seconds = 0;  // since all were submitted
  int64_t num_tokens = 0;
};

// count requests of random ids below vocab, the same for the same seed. Lengths are uniform in [len
// * (1 - spread), len * (1 + spread)]; the first prefix_len ids are the same in all, beside
// input_len.
struct RandomLoad {
  int64_t count = 1, input_len = 1, output_len = 1, prefix_len = 0;
  double spread = 0;
  int32_t vocab = 1;
  uint64_t seed = 0;
};
std::vector<BenchRequest> random_requests(const RandomLoad& load);

// Submits all, waits for all; every request writes exactly its output_len tokens.
Result<std::vector<Timing>> run_requests(engine::Engine& engine,
                                         const std::vector<BenchRequest>& requests);

// values must not be empty; linear between ranks, as numpy's default.
double percentile(std::vector<double> values, double percent);
double mean(const std::vector<double>& values);
// Writes `result` to the file as one line.
Status write_json(const std::string& path, const json::object& result);

}  // namespace moestro::app
