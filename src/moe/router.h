// Router: logits of the gate to (expert, weight) pairs per token, every family's mode in one place.
// Pure functions, one token at a time; the MoE layer shares tokens out over the workers. Formulas:
// DeepSeek-V3 report, section 2.1.2 (sigmoid, bias, groups); Switch/Mixtral (softmax).
#pragma once
#include <cstdint>
#include <span>

#include "checkpoint/model_config.h"

namespace moestro::moe {

struct RouterSpec {
  int32_t num_experts = 0, top_k = 0;
  checkpoint::ScoringFunc scoring = checkpoint::ScoringFunc::kSoftmax;
  checkpoint::TopkMethod method = checkpoint::TopkMethod::kGreedy;
  int32_t n_group = 1, topk_group = 1;
  bool renormalize = false;
  bool softmax_after_topk = false;  // gpt_oss: softmax over the chosen logits only
  float scaling = 1;
  // The expert sees weight * x and its output counts once (Llama 4); top_k is 1, as more would need
  // a row of its own for each expert.
  bool weight_on_input = false;

  static RouterSpec from(const checkpoint::ModelConfig& config);
};

inline constexpr int32_t kMaxExperts = 1024;

// logits, bias (null: none): [num_experts]. ids, weights: [top_k], best first (after the bias);
// ties go to the lower id, NaN ranks last. weights carry renormalisation and scaling.
// Deterministic, allocates nothing.
void route_token(const RouterSpec& spec, const float* logits, const float* bias, int32_t* ids,
                 float* weights);

}  // namespace moestro::moe
