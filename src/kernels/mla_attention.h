// Multi-head latent attention in absorbed form over a paged latent cache, dense (causal) or
// restricted to selected positions. For token t, head h and visible position s: score = (q_latent .
// latent_s + q_rope . rope_s) * scale; softmax over s; out = sum p_s latent_s. Softmax in float32;
// positions are visited in ascending order in blocks that start at multiples of a constant, so the
// result does not depend on page size, chunking or batch company. Called by layers/attention.
#pragma once
#include <cstdint>

#include "kernels/kernel_list.h"
#include "kernels/step_input.h"
#include "tensor/paged_view.h"

namespace moestro::kernels {

struct MlaShape {
  DType kv_dtype;  // kF32 or kBF16
  int32_t max_tokens, heads, latent, rope;
  int32_t max_context;  // longest sequence
};

struct MlaArgs {
  const StepInput* step;
  const float* q;        // [tokens, heads, latent + rope], rotated
  tensor::PagedView kv;  // width latent + rope, this step's tokens already stored
  int32_t heads, latent, rope;
  float scale;
  const int32_t*
      selected;  // [tokens, max_selected] ascending positions, or null: every token is dense
  const int32_t* num_selected;  // [tokens]; -1: this token is dense (all positions up to its own)
  int32_t max_selected;
  float* out;  // [tokens, heads, latent]
  std::byte* scratch;
};
using MlaKernel = Kernel<MlaShape, MlaArgs>;
std::span<const MlaKernel> mla_kernels();

}  // namespace moestro::kernels
