// Gated MLPs over rows grouped by expert: y[r] = down_e( act(gate_e x[r], up_e x[r]) ), e the
// expert of row r. The heart of an MoE layer; with one expert and identity rows it is also the
// dense MLP and the shared expert. Called by moe/experts and layers/mlp.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/gated_activation.h"
#include "kernels/kernel_list.h"
#include "tensor/packed_matrix.h"

namespace moestro::kernels {

struct ExpertMlpShape {
  tensor::PackedFormat format;
  int32_t max_tokens;  // rows of x
  int32_t max_rows;    // grouped rows (tokens * top-k at most)
  int32_t experts, hidden, intermediate;
};

struct ExpertMlpArgs {
  const float* x;    // [tokens, hidden]
  int64_t x_stride;  // in floats
  int32_t tokens;
  std::span<const int32_t>
      row_offsets;           // [experts + 1] rows of expert e: [row_offsets[e], row_offsets[e + 1])
  const int32_t* row_token;  // [rows] the row of x; null: row r is token r
  std::span<const tensor::PackedMatrix>
      gate_up;  // [experts] [2 * intermediate, hidden], interleaved (packed_matrix.h)
  // [experts] [hidden, intermediate], no k_order: gate_up has its channels in that order
  std::span<const tensor::PackedMatrix> down;
  GatedActivation activation;
  float* y;  // [rows, hidden] unweighted
  int64_t y_stride;
  bool accumulate = false;  // y += …
  std::byte* scratch;
};
// Rounding as in linear.h; the intermediate row is rounded (bf16) or requantised per row (int8)
// before down.
using ExpertMlpKernel = Kernel<ExpertMlpShape, ExpertMlpArgs>;
std::span<const ExpertMlpKernel> expert_mlp_kernels(const tensor::PackedFormat& format);

}  // namespace moestro::kernels
