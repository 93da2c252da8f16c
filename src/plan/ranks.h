// Ranks: how a model is split over tensor x data ranks: who holds which experts, heads, channels
// and vocabulary, and how tokens get to their experts. From the flags and config.json alone; a pure
// function, called by make_plan. Sizes of groups and shards as vLLM has them (expert parallelism
// spans tensor x data; without it experts are sliced over all ranks).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "checkpoint/model_config.h"

namespace moestro::plan {

enum class Placement : uint8_t { kLinear, kRoundRobin };

// What the flags ask for.
struct RankRequest {
  int32_t tensor = 1, data = 1;
  bool expert_parallel = false;
  Placement placement = Placement::kLinear;
  std::string backend;  // --all2all-backend, vLLM's name; empty: its default

  int32_t ranks() const { return tensor * data; }
};

// Consecutive heads, channels, rows.
struct Range {
  int32_t first = 0, count = 0;
  bool operator==(const Range&) const = default;
};
std::string range_text(const Range& range);  // "8-15", "none"

// What one rank holds of every layer.
struct RankShard {
  int32_t rank = 0, data_rank = 0, tensor_rank = 0;
  std::vector<int32_t>
      experts;            // global ids in the order of their slots; all where they are sliced
  Range expert_channels;  // of each expert's intermediate size
  Range heads;            // of attention
  Range kv_heads{0, 1};   // shared by neighbours where ranks outnumber them; MLA: one latent
  Range dense_channels, shared_channels;  // of the dense MLP and of the shared expert
  Range vocab;                            // rows of the head
};

// A way to the experts that was looked at; why_not empty: taken.
struct DispatchCandidate {
  std::string_view name;
  std::string why_not;  // "parallel: …", "flag: …"
};

// What moves rows between ranks.
struct DispatchPlan {
  std::string_view name = "local";  // as moe::Dispatch has them
  std::string because;              // in words
  bool all_reduce = false;          // the tensor ranks' partial sums are added after the experts
  std::vector<DispatchCandidate> candidates;
  bool crosses_ranks() const { return name != "local"; }
};

struct RankLayout {
  RankRequest request;
  int32_t num_experts = 0, kv_heads = 1;  // of the whole model
  bool experts_are_sliced = false;        // else each is whole on its rank
  DispatchPlan dispatch;
  std::string asked_backend;  // "deepep_low_latency is alltoall_batched here"; empty: not asked for
  std::vector<RankShard> shards = {RankShard{}};  // by rank: data_rank * tensor + tensor_rank

  int32_t ranks() const { return static_cast<int32_t>(shards.size()); }
  // Rank of an expert, -1 where every rank has a slice of it.
  int32_t rank_of(int32_t expert) const;
  std::string placement_text() const;
};

// What vLLM's backend is here: "allgather", "alltoall" or "alltoall_batched"; empty: no such name.
std::string_view dispatch_of_backend(std::string_view backend);

// Sizes that do not divide, more ranks than experts, expert parallelism without experts:
// kInvalidArgument that names flag, size and remedy.
Result<RankLayout> place_ranks(const checkpoint::ModelConfig& config, const RankRequest& request);

}  // namespace moestro::plan
