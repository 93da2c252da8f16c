// Grouped-query attention (multi-head and multi-query included) over paged key and value caches,
// causal, with an optional sliding window and optional per-head sinks. Key/value head j serves
// query heads [j * g, (j + 1) * g), g = heads / kv_heads. For token t at position p, head h and
// visible position s: score = (q . key_s) * scale; softmax over s (and the sink, which has no
// value); out = sum p_s value_s. Rotary embedding happens outside. Softmax in float32; positions
// are visited in ascending order in blocks that start at multiples of a constant, so the result
// does not depend on page size, chunking or batch company. Called by layers/attention.
#pragma once
#include <cstdint>

#include "kernels/kernel_list.h"
#include "kernels/step_input.h"
#include "tensor/paged_view.h"

namespace moestro::kernels {

struct GqaShape {
  DType kv_dtype;  // kF32 or kBF16, keys and values alike
  int32_t max_tokens, heads, kv_heads, head_dim, v_head_dim;
  int32_t max_context;  // longest sequence
};

inline constexpr std::string_view kWantsWholeGroups =
    "query heads are not a multiple of key/value heads";
constexpr bool divides_heads(const GqaShape& s) {
  return s.kv_heads > 0 && s.heads % s.kv_heads == 0;
}

struct GqaArgs {
  const StepInput* step;
  const float* q;           // [tokens, heads, head_dim], rotated
  int64_t q_stride;         // in floats, from token to token (q may lie inside a fused q/k/v row)
  tensor::PagedView key;    // width kv_heads * head_dim, this step's tokens already stored
  tensor::PagedView value;  // width kv_heads * v_head_dim, likewise
  int32_t heads, kv_heads, head_dim, v_head_dim;
  float scale;
  int32_t window = 0;            // > 0: position s is visible from p iff 0 <= p - s < window
  const float* sinks = nullptr;  // [heads] one more logit a head in the softmax's sum, or null
  float* out;                    // [tokens, heads, v_head_dim]
  std::byte* scratch;
};
using GqaKernel = Kernel<GqaShape, GqaArgs>;
std::span<const GqaKernel> gqa_kernels();

}  // namespace moestro::kernels
