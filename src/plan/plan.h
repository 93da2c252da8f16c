// Plan: which kernel runs at every place of the model, and why the others do not; made before a
// weight is read, from the model's spec (config and header), the processor and the flags. A pure
// function of its inputs; the chosen kernels are written into the spec, which then loads. Called by
// app/; printed by explain, logged at start, served at /v1/plan.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "models/model_spec.h"
#include "platform/cpu_features.h"

namespace moestro::plan {

struct PlanInput {
  platform::IsaSet isa;  // what kernels may use: the processor's, limited by --isa
  int num_workers = 1;
  std::vector<std::string> forced_kernels;  // "op=name" (--kernel): that op's places use this
                                            // kernel; kinds of op as in PlanEntry::op
  std::string model_type;
  DType compute = DType::kBF16, kv_dtype = DType::kBF16;
  int32_t page_size = 64;
};

// A kernel that was looked at. why_not empty: it was chosen.
struct Candidate {
  std::string kernel, why_not;
};

// One kind of place: the same op, shape and scheme in `layers`.
struct PlanEntry {
  std::string part, name, op;                // "experts", "256 experts, top 8", "expert_mlp"
  std::vector<int32_t> layers;               // empty: outside the layers
  std::string scheme, weights, activations;  // "" when the op has no weight
  std::string layout;                        // "panel32-int8"
  std::string shape;                         // in words: "n 6144, k 2048"
  std::string dispatch;                      // experts only
  std::string kernel;
  std::vector<Candidate> candidates;  // in the order of the list
  int64_t weight_bytes = 0;           // of all layers together
};

struct Plan {
  std::string id;  // changes when anything of the plan changes
  PlanInput input;
  models::ModelLimits limits;
  std::vector<PlanEntry> entries;
  int64_t weight_bytes = 0;                         // packed, resident
  int64_t activation_bytes = 0, scratch_bytes = 0;  // of a step
  int64_t kv_bytes_per_token = 0;                   // all layers
};

// Chooses a kernel for every op of the spec and writes it there. Nothing fits, or a forced kernel
// cannot run here: kUnsupported with the reason.
Result<Plan> make_plan(models::ModelSpec& spec, const PlanInput& input);

json::object to_json(const Plan& plan);
// For people: one table, the losers with reasons when verbose.
std::string to_text(const Plan& plan, bool verbose);
std::string layer_ranges(const std::vector<int32_t>& layers);  // "0-2, 5"

}  // namespace moestro::plan
