// The decode kernel: both products of a MoE layer in one launch that streams each expert's weights
// once, for few rows an expert. Called by moe_layer.cu.
//
// One persistent block an SM. One thread requests weights (32 KiB a step) through a ring of shared
// memory and runs ahead from gate_up into down, since weights depend on the routing alone; two
// warpgroups multiply, weights as the 64-row operand; three warps quantise rows of h as they are
// needed, once all gate_up blocks of their expert are done. Each product's steps are cut into equal
// spans (decode_schedule.cuh); a block that is cut is summed by whoever finishes it last, in the
// order of the spans. Up to 8 tokens (MoeSizes::resident) the kernel also routes, in every block
// alike, keeps all of x in shared memory, multiplies all tokens with every expert that was hit, and
// the last part of a block of columns adds up its tokens' experts: the layer is this one launch.
#pragma once
#include "kernels/cuda/moe_workspace.h"

namespace moestro::kernels::cuda {

// Sets the shared-memory limits, once a device before the first launch (not during capture).
template <class Format>
Status prepare_decode();
template <class Format>
Status launch_decode(const DeviceMoeShape& shape, int32_t num_sms, const DeviceMoeWeights& weights,
                     const DeviceMoeArgs& args, const MoeWorkspace& w, CUstream_st* stream);

}  // namespace moestro::kernels::cuda
