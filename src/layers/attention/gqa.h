// Grouped-query attention (Ainslie et al., 2023; multi-head and multi-query included): q, k and v
// in one linear call, optional norms of queries and keys, rotary embedding of the first values of
// each head (half split), attention over the paged cache. Cache: `key` holds the rotated keys,
// `value` the values, [kv_heads * head_dim] each.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "kernels/op_choice.h"
#include "layers/attention/attention.h"
#include "layers/linear.h"
#include "layers/norm.h"

namespace moestro::layers {

struct GqaSpec {
  int32_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int32_t rope = 0;    // values of a head that rotate, at most head_dim
  int32_t window = 0;  // > 0: a token sees itself and window - 1 before it
  float scale = 0;     // of the scores
  float clip = 0;      // > 0: q, k, v are clamped to [-clip, clip] after the norms
  std::string sinks;   // tensor [heads]: one more logit a head in the softmax's sum; "": none
  LinearGroups input;  // of h: q, k, v, in this order
  // Before rotation, each of its own: width head_dim (one head at a time) or all heads' values
  // together.
  std::optional<NormSpec> q_norm, k_norm;
  kernels::GqaChoice attention;
  LinearSpec output;  // o_proj

  int32_t q_width() const { return heads * head_dim; }
  int32_t kv_width() const { return kv_heads * head_dim; }
};

// Floats of workspace that forward() wants for max_tokens tokens.
int64_t gqa_workspace_floats(const GqaSpec& spec, int32_t max_tokens);

Result<std::unique_ptr<Attention>> load_gqa(quant::LoadContext& context, const GqaSpec& spec);

}  // namespace moestro::layers
