// The plan as JSON: the same facts as text.cpp prints.
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
    o["placement"] = e.placement;
  }
  o["kernel"] = e.kernels_text();
  o["weight_bytes"] = e.weight_bytes;
  o["scratch_bytes"] = e.scratch_bytes;
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
    json::object bucket{
        {"tokens", tokens_text(b)}, {"kernel", b.kernel}, {"chosen_by", b.chosen_by()}};
    if (us > 0) bucket["us"] = us;
    bucket["rejected"] = std::move(rejected);
    buckets.push_back(std::move(bucket));
  }
  o["buckets"] = std::move(buckets);
  return o;
}

// What a rank runs: its share of every kind of place.
json::array rank_layers_json(const Plan& plan, size_t rank) {
  json::array layers;
  for (const PlanEntry& e : plan.entries) {
    json::object o{{"layers", layer_ranges(e.layers)},
                   {"part", e.part},
                   {"name", e.name},
                   {"scheme", e.scheme},
                   {"layout", e.layout},
                   {"kernel", e.kernels_text()},
                   {"weight_bytes", e.rank_bytes[rank]}};
    if (!e.dispatch.empty()) {
      o["dispatch"] = e.dispatch;
      o["wire"] = e.wire;
    }
    layers.push_back(std::move(o));
  }
  return layers;
}

json::object rank_json(const Plan& plan, const RankShard& s) {
  const RankLayout& layout = plan.input.ranks;
  const auto rank = static_cast<size_t>(s.rank);
  return {{"rank", s.rank},
          {"data_rank", s.data_rank},
          {"tensor_rank", s.tensor_rank},
          {"experts", layer_ranges(s.experts)},
          {"expert_channels", range_text(s.expert_channels)},
          {"heads", range_text(s.heads)},
          {"kv_heads", range_text(s.kv_heads)},
          {"dense_channels", range_text(s.dense_channels)},
          {"shared_expert_channels", range_text(s.shared_channels)},
          {"vocab", range_text(s.vocab)},
          {"weight_bytes", rank < plan.rank_bytes.size() ? plan.rank_bytes[rank] : 0},
          {"kv_bytes_per_token", plan.kv_bytes_per_token},
          {"layers", rank_layers_json(plan, rank)},
          {"placement", layout.placement_text()}};
}

}  // namespace

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
  json::array ranks;
  for (const RankShard& shard : plan.input.ranks.shards) ranks.push_back(rank_json(plan, shard));
  o["ranks"] = std::move(ranks);
  json::array substitutions;
  for (const Substitution& s : plan.substitutions) substitutions.push_back(s.to_json());
  o["substitutions"] = std::move(substitutions);
  return o;
}

}  // namespace moestro::plan
