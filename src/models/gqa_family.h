// What the families with grouped-query attention share (qwen3_moe, qwen2_moe, olmoe, mixtral,
// glm4_moe, gpt_oss, minimax_m2; dense: qwen3, llama): q, k, v and o projections under one set of
// names, norms of queries and keys where config.json has them. Their own files say where they
// differ.
#pragma once
#include <memory>

#include "models/family_builder.h"
#include "models/model_spec.h"

namespace moestro::models {

struct GqaFamily {
  MoeNames moe = {};
  bool output_bias = false;       // attention_bias is o_proj's too
  bool norms_span_heads = false;  // q_norm and k_norm are over all heads' values, not one head's
};

Result<std::unique_ptr<ModelSpec>> make_gqa_family(const SpecRequest& request,
                                                   const GqaFamily& family);

}  // namespace moestro::models
