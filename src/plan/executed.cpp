#include "plan/executed.h"

#include <algorithm>

#include "base/format.h"

namespace moestro::plan {
namespace {

using kernels::OpCounts;

int32_t last_of_bucket(int b) {
  return b + 1 < kernels::kTokenBuckets ? kernels::kTokenBucketEnds[static_cast<size_t>(b)] : -1;
}

template <class F>  // f(place, bucket, kernel, runs, rows)
void for_each_count(const Plan& plan, F f) {
  for (const PlaceCounts& place : plan.counts)
    for (int b = 0; b < kernels::kTokenBuckets; ++b)
      for (const OpCounts::Slot& slot : place.counts->bucket(b)) {
        const char* name = slot.name.load(std::memory_order_acquire);
        if (name == nullptr) continue;
        f(place, b, std::string_view(name), slot.runs.load(std::memory_order_relaxed),
          slot.rows.load(std::memory_order_relaxed));
      }
}

std::string place_text(const PlanEntry& e, int32_t layer) {
  const std::string where = layer < 0 ? std::string() : format(", layer {}", layer);
  return format("{} ({}, {}{})", e.part, e.name, e.op, where);
}

uint64_t runs_of(const OpCounts& counts) {
  uint64_t runs = counts.others();
  for (int b = 0; b < kernels::kTokenBuckets; ++b)
    for (const OpCounts::Slot& slot : counts.bucket(b))
      runs += slot.runs.load(std::memory_order_relaxed);
  return runs;
}

// Every layer of a kind runs once a step, so a layer's count is never more than one behind what
// another's was before. (Steps go on between the two passes; that only makes the second larger.)
void find_skipped_layers(const Plan& plan, std::vector<std::string>& found) {
  struct Most {
    uint64_t runs = 0;
    int32_t layer = -1;
  };
  std::vector<Most> most(plan.entries.size());
  for (const PlaceCounts& place : plan.counts) {
    const uint64_t runs = runs_of(*place.counts);
    if (runs > most[place.entry].runs) most[place.entry] = {runs, place.layer};
  }
  std::vector<bool> said(plan.entries.size(), false);
  for (const PlaceCounts& place : plan.counts) {
    const Most& m = most[place.entry];
    const uint64_t runs = runs_of(*place.counts);
    if (runs + 1 >= m.runs || said[place.entry]) continue;
    said[place.entry] = true;
    found.push_back(format("{} ran {} times, but {} times in layer {}",
                           place_text(plan.entries[place.entry], m.layer), m.runs, runs,
                           place.layer));
  }
}

}  // namespace

std::vector<Execution> executions(const Plan& plan) {
  std::vector<Execution> all;
  for_each_count(plan, [&](const PlaceCounts& place, int b, std::string_view kernel, uint64_t runs,
                           uint64_t rows) {
    const int32_t first = kernels::first_of_bucket(b);
    const auto known = std::find_if(all.begin(), all.end(), [&](const Execution& e) {
      return e.entry == place.entry && e.first == first && e.kernel == kernel;
    });
    if (known == all.end())
      all.push_back({place.entry, first, last_of_bucket(b), std::string(kernel), runs, rows});
    else
      known->runs += runs, known->rows += rows;
  });
  return all;
}

std::vector<std::string> mismatches(const Plan& plan) {
  std::vector<std::string> found;
  for_each_count(
      plan, [&](const PlaceCounts& place, int b, std::string_view kernel, uint64_t runs, uint64_t) {
        const PlanEntry& entry = plan.entries[place.entry];
        const BucketPlan* planned = entry.bucket_of(kernels::first_of_bucket(b));
        if (planned != nullptr && planned->kernel == kernel) return;
        BucketPlan bucket;
        bucket.first = kernels::first_of_bucket(b);
        bucket.last = last_of_bucket(b);
        found.push_back(format("{} at {} tokens: the plan says {}, {} ran {} times",
                               place_text(entry, place.layer), tokens_text(bucket),
                               planned ? planned->kernel : "nothing", kernel, runs));
      });
  for (const PlaceCounts& place : plan.counts)
    if (place.counts->others() > 0)
      found.push_back(format("{}: {} runs of further kernels",
                             place_text(plan.entries[place.entry], place.layer),
                             place.counts->others()));
  find_skipped_layers(plan, found);
  return found;
}

json::object to_json_with_counts(const Plan& plan) {
  const std::vector<Execution> ran = executions(plan);
  json::array layers;
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    const PlanEntry& e = plan.entries[i];
    json::object o;
    o["layers"] = layer_ranges(e.layers);
    o["part"] = e.part;
    o["name"] = e.name;
    o["op"] = e.op;
    o["scheme"] = e.scheme;
    o["layout"] = e.layout;
    o["kernel"] = e.kernels_text();
    o["dispatch"] = e.dispatch;
    o["wire"] = e.wire;
    uint64_t runs = 0, rows = 0;
    json::array kernels;
    for (const Execution& x : ran) {
      if (x.entry != i) continue;
      runs += x.runs, rows += x.rows;
      BucketPlan bucket;
      bucket.first = x.first, bucket.last = x.last;
      kernels.push_back(json::object{{"tokens", tokens_text(bucket)},
                                     {"kernel", x.kernel},
                                     {"executed", x.runs},
                                     {"rows", x.rows}});
    }
    o["executed"] = runs;
    o["rows"] = rows;
    o["ran"] = std::move(kernels);
    layers.push_back(std::move(o));
  }
  json::array differences;
  for (const std::string& text : mismatches(plan)) differences.push_back(json::value(text));
  json::object all = to_json(plan);
  all["ranks"] = json::array{json::object{{"rank", 0}, {"layers", std::move(layers)}}};
  all["mismatches"] = std::move(differences);
  return all;
}

void publish_counts(const Plan& plan, MetricsRegistry& metrics) {
  metrics.before_exposition([&plan, &metrics] {
    for (const Execution& x : executions(plan)) {
      const PlanEntry& e = plan.entries[x.entry];
      BucketPlan bucket;
      bucket.first = x.first, bucket.last = x.last;
      const Labels labels{{"op", e.op},
                          {"part", e.part},
                          {"place", e.name},
                          {"tokens", tokens_text(bucket)},
                          {"kernel", x.kernel}};
      Counter& runs = metrics.counter("moestro_kernel_executions",
                                      "Calls of a kernel, all layers together.", labels);
      Counter& rows = metrics.counter("moestro_kernel_rows",
                                      "Rows (tokens) that a kernel was called for.", labels);
      runs.raise_to(static_cast<double>(x.runs));
      rows.raise_to(static_cast<double>(x.rows));
    }
    metrics
        .gauge("moestro_plan_mismatches", "Places where something ran that the plan does not name.")
        .set(static_cast<double>(mismatches(plan).size()));
  });
}

}  // namespace moestro::plan
