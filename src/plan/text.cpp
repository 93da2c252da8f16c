// The plan as JSON and as text.
#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "plan/plan.h"

namespace moestro::plan {
namespace {

json::object entry_json(const PlanEntry& e) {
  json::object o;
  o["part"] = e.part;
  o["name"] = e.name;
  o["op"] = e.op;
  o["layers"] = layer_ranges(e.layers);
  o["num_layers"] = static_cast<int64_t>(e.layers.size());
  o["shape"] = e.shape;
  if (!e.scheme.empty()) {
    o["scheme"] = e.scheme;
    o["weights"] = e.weights;
    o["activations"] = e.activations;
  }
  if (!e.layout.empty()) o["layout"] = e.layout;
  if (!e.dispatch.empty()) {
    o["dispatch"] = e.dispatch;
    o["wire"] = e.wire;
  }
  o["kernel"] = e.kernels_text();
  o["weight_bytes"] = e.weight_bytes;
  json::array buckets;
  for (const BucketPlan& b : e.buckets) {
    json::array rejected;
    double us = 0;
    for (const Candidate& c : b.candidates) {
      if (c.why_not.empty()) {
        us = c.us;
        continue;
      }
      json::object loser{{"kernel", c.kernel}, {"class", c.reason_class()}, {"why_not", c.why_not}};
      if (c.us > 0) loser["us"] = c.us;
      rejected.push_back(std::move(loser));
    }
    json::object bucket{{"tokens", tokens_text(b)}, {"kernel", b.kernel}};
    if (us > 0) bucket["us"] = us;
    bucket["rejected"] = std::move(rejected);
    buckets.push_back(std::move(bucket));
  }
  o["buckets"] = std::move(buckets);
  return o;
}

std::string pad(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

struct Row {
  std::string cells[6];
};

void append_table(std::string& out, const std::vector<Row>& rows) {
  size_t width[6] = {};
  for (const Row& r : rows)
    for (size_t i = 0; i < 6; ++i) width[i] = std::max(width[i], r.cells[i].size());
  for (size_t n = 0; n < rows.size(); ++n) {
    std::string line = "  ";
    for (size_t i = 0; i < 6; ++i) line += pad(rows[n].cells[i], width[i] + 2);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (n == 0) {
      size_t total = 10;
      for (const size_t w : width) total += w;
      out += "  " + std::string(total, '-') + "\n";
    }
  }
}

}  // namespace

std::string layer_ranges(const std::vector<int32_t>& layers) {
  std::string text;
  for (size_t i = 0; i < layers.size();) {
    size_t j = i;
    while (j + 1 < layers.size() && layers[j + 1] == layers[j] + 1) ++j;
    if (!text.empty()) text += ", ";
    text += i == j ? format("{}", layers[i]) : format("{}-{}", layers[i], layers[j]);
    i = j + 1;
  }
  return text;
}

json::object to_json(const Plan& plan) {
  json::object o;
  if (!plan.id.empty()) o["plan_id"] = plan.id;
  o["model_type"] = plan.input.model_type;
  o["compute_dtype"] = torch_name(plan.input.compute);
  o["kv_cache_dtype"] = torch_name(plan.input.kv_dtype);
  o["isa"] = platform::isa_names(plan.input.isa);
  o["workers"] = plan.input.num_workers;
  o["page_size"] = plan.input.page_size;
  o["max_num_batched_tokens"] = plan.limits.max_tokens;
  o["max_model_len"] = plan.limits.max_context;
  o["bytes"] = json::object{{"weights", plan.weight_bytes},
                            {"activations", plan.activation_bytes},
                            {"scratch", plan.scratch_bytes},
                            {"kv_per_token", plan.kv_bytes_per_token}};
  json::array layers;
  for (const PlanEntry& e : plan.entries) layers.push_back(entry_json(e));
  o["ops"] = std::move(layers);
  return o;
}

std::string to_text(const Plan& plan, bool verbose) {
  std::string out =
      format("Plan {} for {}: compute {}, KV cache {}, {} worker{}, {}\n\n", plan.id,
             plan.input.model_type, torch_name(plan.input.compute), torch_name(plan.input.kv_dtype),
             plan.input.num_workers, plan.input.num_workers == 1 ? "" : "s",
             platform::isa_names(plan.input.isa));
  std::vector<Row> rows{{{"part", "layers", "what", "scheme", "layout", "kernel"}}};
  for (const PlanEntry& e : plan.entries)
    rows.push_back({{e.part, layer_ranges(e.layers), e.name, e.scheme.empty() ? "-" : e.scheme,
                     e.layout, e.kernels_text()}});
  append_table(out, rows);
  out += format("\n  resident weights {}, KV cache {} a token, step memory {} + scratch {}\n",
                human_bytes(static_cast<uint64_t>(plan.weight_bytes)),
                human_bytes(static_cast<uint64_t>(plan.kv_bytes_per_token)),
                human_bytes(static_cast<uint64_t>(plan.activation_bytes)),
                human_bytes(static_cast<uint64_t>(plan.scratch_bytes)));
  if (!verbose) return out;
  out += "\nWhat was not chosen, and why\n";
  for (const PlanEntry& e : plan.entries) {
    for (const BucketPlan& b : e.buckets) {
      out += format("  {} / {} ({}, {}), {} tokens: {}\n", e.part, e.name, e.op,
                    e.shape.empty() ? "rows" : e.shape, tokens_text(b), b.kernel);
      for (const Candidate& c : b.candidates)
        if (!c.why_not.empty()) out += format("      not {}: {}\n", c.kernel, c.why_not);
    }
  }
  return out;
}

}  // namespace moestro::plan
