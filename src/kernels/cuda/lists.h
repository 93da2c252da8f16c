// The CUDA kernels by name, with what they need and which shapes they take: dispatch policy that a
// build without CUDA has too, so that a plan for a GPU can be made anywhere. `run` is null there.
// Best first.
#pragma once
#include <span>
#include <string_view>

#include "kernels/cuda/moe_layer.h"

namespace moestro::kernels::cuda {

struct CudaNeeds {
  int32_t compute_major = 0, compute_minor = 0;  // exactly: wgmma exists on 9.0 alone
  int32_t shared_bytes = 0;                      // a block may opt in to
};

struct MoeLayerKernel {
  std::string_view name;  // printed by explain
  CudaNeeds needs;
  Status (*supports)(const DeviceMoeShape&);  // ok, or the reason why not
  int64_t (*workspace_bytes)(const DeviceMoeShape&, int32_t num_sms);
  Status (*run)(const DeviceMoeShape&, int32_t num_sms, const DeviceMoeWeights&,
                const DeviceMoeArgs&, CUstream_st*);
};
std::span<const MoeLayerKernel> moe_layer_kernels_int8();  // channel scales, rows quantised to int8
std::span<const MoeLayerKernel> moe_layer_kernels_fp8();   // channel scales, rows quantised to e4m3
// Scales of 128 x 128 weights, rows quantised to e4m3; the shape says step_scales.
std::span<const MoeLayerKernel> moe_layer_kernels_fp8_block();
std::span<const MoeLayerKernel> moe_layer_kernels_bf16();
// Weights of 4 bits with scales of groups of 64 or 128, bfloat16 activations; the shape says int4.
std::span<const MoeLayerKernel> moe_layer_kernels_int4();

}  // namespace moestro::kernels::cuda
