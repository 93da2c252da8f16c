// moestro repack MODEL [flags of serve]: the plan's packed weights into a file that the next start
// with such flags maps.
#include "app/loading_progress.h"
#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/deadline.h"
#include "base/format.h"
#include "base/strings.h"

namespace moestro::app {
namespace {

struct Report {
  std::string path, what;
  uint64_t weights = 0, bytes = 0;
  double seconds = 0;
};

Status write_cache(const PlannedModel& planned, const quant::PackedCacheKey& key, bool progress_bar,
                   platform::Gang& gang, Report& report) {
  const Result<std::shared_ptr<quant::PackedCacheWriter>> writer =
      quant::PackedCacheWriter::create(report.path, key);
  if (!writer.ok())
    return Status(writer.status().code(),
                  writer.status().message() + "; --packed-cache DIR names another place");
  report.bytes = (*writer)->file_bytes();
  const checkpoint::WeightSource& source = *planned.model.weights;
  {
    LoadingProgress progress(source.total_bytes(), progress_bar, "repacking");
    MOESTRO_TRY(planned.spec
                    ->load({.source = source,
                            .store = *writer,
                            .gang = gang,
                            .progress = [&](uint64_t bytes) { progress.add(bytes); }})
                    .status());
  }
  LoadingProgress progress(report.bytes, progress_bar, "writing");
  return (*writer)->finish(gang, [&](uint64_t bytes) { progress.add(bytes); });
}

Status verify_cache(const quant::PackedCacheKey& key, bool progress_bar, platform::Gang& gang,
                    Report& report) {
  MOESTRO_ASSIGN(const auto cache, quant::PackedCache::open(report.path, key));
  report.bytes = cache->file_bytes();
  LoadingProgress progress(report.bytes, progress_bar, "checking");
  return cache->verify(gang, [&](uint64_t bytes) { progress.add(bytes); });
}

}  // namespace

Status run_repack(const config::CommandLine& line) {
  const config::Options& options = line.options;
  const bool verify = options.tool.verify;
  // Memory is no obstacle: weights go to the file as they are packed.
  MOESTRO_ASSIGN(const PlannedModel planned, plan_model(options, {.plan_only = true}));
  MOESTRO_ASSIGN(const quant::PackedCacheKey key, packed_cache_key(planned));
  Report report;
  MOESTRO_ASSIGN(report.path, packed_cache_path(options, planned, key));
  report.weights = key.weights.size();
  report.what = verify ? "checked" : "written";
  platform::Gang gang(planned.plan.input.num_workers, options.parallel.pin_threads);
  const Clock::time_point start = Clock::now();
  const bool bar = options.model.show_load_progress;
  MOESTRO_TRY(verify ? verify_cache(key, bar, gang, report)
                     : write_cache(planned, key, bar, gang, report));
  report.seconds = seconds_since(start);
  if (options.json)
    print_json(json::object{{"path", report.path},
                            {"result", report.what},
                            {"weights", report.weights},
                            {"bytes", report.bytes},
                            {"seconds", report.seconds}});
  else
    print(format("{}: {} weights, {}, {} in {:.1f} s\n", report.path, report.weights,
                 human_bytes(report.bytes), report.what, report.seconds));
  return {};
}

}  // namespace moestro::app
