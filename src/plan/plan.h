// Plan: which kernel runs at every place of the model, for few and for many tokens, and why the
// others do not; made before a weight is read, from the model's spec (config and header), the
// machine, the flags and the table of measured times. A pure function of its inputs; the chosen
// kernels are written into the spec, which then loads. Called by app/; printed by explain, logged
// at start, served at /v1/plan; executed.h compares it with what ran.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "kernels/op_counts.h"
#include "models/model_spec.h"
#include "plan/ranks.h"
#include "plan/substitution.h"
#include "platform/cpu_features.h"

namespace moestro::plan {

class KernelTable;

struct PlanInput {
  platform::IsaSet isa;  // what kernels may use: the processor's, limited by --isa
  int num_workers = 1;
  std::vector<std::string> forced_kernels;  // "op=name" (--kernel): that op's places use this
                                            // kernel; kinds of op as in PlanEntry::op
  std::string model_type;
  DType compute = DType::kBF16, kv_dtype = DType::kBF16;
  int32_t page_size = 64;
  RankLayout ranks;                         // of place_ranks(); the default is one rank
  std::vector<Substitution> substitutions;  // found before planning: types, lengths
  const KernelTable* table = nullptr;       // measured times; null: the order of the lists decides.
                                            // Used by make_plan only.
};

// A kernel that was looked at. why_not empty: it was chosen. Else "class: reason"; classes are isa,
// shape, scheme, parallel, flag, slower, rounding and order.
struct Candidate {
  std::string kernel, why_not;
  double us = 0;  // measured; 0: not

  std::string_view reason_class() const;
};

// What runs for steps of first … last tokens.
struct BucketPlan {
  int32_t first = 1, last = -1;  // -1: no limit
  std::string kernel;
  std::vector<Candidate> candidates;  // in the order of the list

  // What decided: "flag" (--kernel), "measured" (the table of times) or "order" (of the list).
  std::string_view chosen_by() const;
};
std::string tokens_text(const BucketPlan& bucket);  // "1-4", "257 and more", "all"
// Of buckets in ascending order; null: never that many.
const BucketPlan* bucket_of(const std::vector<BucketPlan>& buckets, int32_t tokens);

// One kind of place: the same op, shape and scheme in `layers`.
struct PlanEntry {
  std::string part, name, op;                // "experts", "256 experts, top 8", "expert_mlp"
  std::vector<int32_t> layers;               // empty: outside the layers
  std::string scheme, weights, activations;  // "" when the op has no weight
  std::string layout;                        // "panel32-int8"
  std::string shape;                         // in words: "n 6144, k 2048"
  std::string dispatch, wire, placement;     // experts and dispatch only
  std::vector<BucketPlan> buckets;           // ascending; neighbours differ in something
  int64_t weight_bytes = 0;                  // resident on rank 0, of all layers together
  std::vector<int64_t> rank_bytes;           // the same of each rank; [1] with one
  int64_t scratch_bytes = 0;                 // transient: of one call, shared by all places

  const BucketPlan* bucket_of(int32_t tokens) const { return plan::bucket_of(buckets, tokens); }
  // The distinct kernels, in the order of their buckets: "a, b".
  std::string kernels_text() const;
};

// The counters of one place in one layer (-1: outside).
struct PlaceCounts {
  size_t entry = 0;
  int32_t layer = -1;
  std::shared_ptr<const kernels::OpCounts> counts;
};

struct Plan {
  std::string id;  // changes when anything of the plan changes
  PlanInput input;
  models::ModelLimits limits;
  std::vector<PlanEntry> entries;
  std::vector<PlaceCounts> counts;
  std::vector<Substitution> substitutions;  // the input's and those of the modules
  kernels::RowOpsChoice sampling;           // for the engine
  int64_t weight_bytes = 0;                 // packed, resident on rank 0, which has the most
  std::vector<int64_t> rank_bytes;          // the same of each rank
  int64_t activation_bytes = 0, scratch_bytes = 0;  // of a step
  int64_t kv_bytes_per_token = 0;                   // all layers, of a rank
};

// Chooses a kernel for every op of the spec and writes it there. Nothing fits, or a forced kernel
// cannot run here: kUnsupported with the reason.
Result<Plan> make_plan(models::ModelSpec& spec, const PlanInput& input);

json::object to_json(const Plan& plan);
// For people, at most 100 columns: what runs in each kind of layer, then every kernel that does not
// and why.
std::string to_text(const Plan& plan);
std::string layer_ranges(const std::vector<int32_t>& layers);  // "0-2, 5"

}  // namespace moestro::plan
