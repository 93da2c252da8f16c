#include "app/bench_load.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <numeric>
#include <random>

#include "base/format.h"

namespace moestro::app {
namespace {

// What the callbacks of all requests share; they run on the engine's thread.
struct Progress {
  std::mutex mutex;
  std::condition_variable done;
  std::vector<Timing> timings;
  size_t running = 0;
  Status error;
};

void on_event(Progress& progress, size_t index, Clock::time_point start,
              const engine::TokenEvent& event) {
  const std::lock_guard lock(progress.mutex);
  Timing& timing = progress.timings[index];
  if (timing.num_tokens == 0 && !event.tokens.empty())
    timing.seconds_to_first = seconds_since(start);
  timing.num_tokens += static_cast<int64_t>(event.tokens.size());
  if (event.finish == engine::FinishReason::kNone) return;
  timing.seconds = seconds_since(start);
  if (!event.error.ok() && progress.error.ok()) progress.error = event.error;
  if (--progress.running == 0) progress.done.notify_all();
}

}  // namespace

std::vector<BenchRequest> random_requests(const RandomLoad& load) {
  std::mt19937_64 random(load.seed);
  // Integers from the raw generator: the standard's distributions differ between libraries.
  const auto below = [&random](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  const auto length = [&](int64_t len) {
    const auto low = static_cast<int64_t>(std::floor(static_cast<double>(len) * (1 - load.spread)));
    const auto high = static_cast<int64_t>(std::ceil(static_cast<double>(len) * (1 + load.spread)));
    return std::max<int64_t>(1, low + below(high - low + 1));
  };
  std::vector<int32_t> prefix(static_cast<size_t>(load.prefix_len));
  for (int32_t& id : prefix) id = static_cast<int32_t>(below(load.vocab));
  std::vector<BenchRequest> requests(static_cast<size_t>(load.count));
  for (BenchRequest& request : requests) {
    request.prompt = prefix;
    const int64_t input = length(load.input_len);
    for (int64_t i = 0; i < input; ++i)
      request.prompt.push_back(static_cast<int32_t>(below(load.vocab)));
    request.output_len = static_cast<int32_t>(length(load.output_len));
  }
  return requests;
}

Result<std::vector<Timing>> run_requests(engine::Engine& engine,
                                         const std::vector<BenchRequest>& requests) {
  const auto progress = std::make_shared<Progress>();
  progress->timings.resize(requests.size());
  progress->running = requests.size();
  const Clock::time_point start = Clock::now();
  for (size_t i = 0; i < requests.size(); ++i) {
    engine::Request request;
    request.client_id = format("bench {}", i);
    request.prompt = requests[i].prompt;
    request.sampling.temperature = 0;
    request.sampling.max_tokens = requests[i].output_len;
    request.sampling.ignore_eos = true;
    request.on_event = [progress, i, start](engine::TokenEvent&& event) {
      on_event(*progress, i, start, event);
    };
    MOESTRO_TRY(engine.submit(std::move(request)).status());
  }
  std::unique_lock lock(progress->mutex);
  progress->done.wait(lock, [&] { return progress->running == 0; });
  if (!progress->error.ok()) return progress->error;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (progress->timings[i].num_tokens != requests[i].output_len) {
      return internal_error(format("request {} gave {} tokens instead of {}", i,
                                   progress->timings[i].num_tokens, requests[i].output_len));
    }
  }
  return progress->timings;
}

double percentile(std::vector<double> values, double percent) {
  std::sort(values.begin(), values.end());
  const double rank = percent / 100 * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(rank);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (rank - static_cast<double>(low));
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

Status write_json(const std::string& path, const json::object& result) {
  std::ofstream file(path);
  file << json::dump(json::value(result)) << "\n";
  file.close();
  return file ? Status() : Status(Code::kInternal, format("cannot write {}", path));
}

}  // namespace moestro::app
