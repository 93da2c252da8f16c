// Products of grouped rows with their expert's packed weights on integer wgmma, weights as the
// 64-row operand: the gate_up product ends in SwiGLU, the down product in scaled rows. Called by
// moe_layer.cu.
//
// One persistent block an SM: one thread streams weights (32 KiB a step) and activations through a
// ring of shared memory, two warpgroups multiply, each 128 of a block's 256 packed rows. Few rows
// an expert: the k-steps of all blocks form one line that is cut into equal spans, one an SM, and a
// block that is cut is summed in L2 (exact in int32, hence in any order) by whoever comes last.
// Many rows: whole blocks, neighbours in the order share weights in L2.
#pragma once
#include "kernels/cuda/moe_workspace.h"

namespace moestro::kernels::cuda {

enum class Product { kGateUp, kDown };

struct GemmParams {
  const int8_t* weights;       // [experts] packed matrices
  const float* weight_scales;  // [experts, 256 * blocks]
  const int8_t* rows;          // tiles of activations
  const float* row_scales;     // [rows]
  const int32_t* tile_start;   // [experts + 1]
  const int32_t* expert_rows;  // [experts]
  uint16_t* out;               // bfloat16 [rows, out_stride]
  int32_t* part_sums;
  uint32_t* part_count;
  int32_t experts, blocks, k_steps;
  int32_t out_stride, out_columns;
};

// Sets the shared-memory limits of all kernels, once a device before the first launch (not during
// capture).
Status prepare_grouped_gemm();
Status launch_grouped_gemm(Product product, int32_t row_tile, int32_t num_sms,
                           const GemmParams& params, CUstream_st* stream);

}  // namespace moestro::kernels::cuda
