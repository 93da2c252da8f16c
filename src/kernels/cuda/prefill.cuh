// The prefill kernel: one product of grouped rows with their expert's packed weights, for many rows
// an expert. Called by moe_layer.cu, twice a layer.
//
// Persistent clusters of two blocks. A block multiplies 256 packed weight rows (the 64-row operand)
// by up to 160 rows of one expert; an expert's rows are split evenly into tiles, and wgmma is as
// wide as the tile needs. The two blocks of a cluster take two tiles of rows and the same weights,
// each requesting half of them for both, or, where an expert has one tile left, two blocks of
// weights and the same rows: a pair asks L2 for 48 to 52 KiB a step where two blocks alone would
// for 100.
#pragma once
#include "kernels/cuda/moe_workspace.h"
#include "kernels/cuda/product.cuh"

namespace moestro::kernels::cuda {

// Sets the shared-memory limits, once a device before the first launch (not during capture).
template <class Format>
Status prepare_prefill();
template <class Format>
Status launch_prefill(Product product, const DeviceMoeShape& shape, int32_t num_sms,
                      const DeviceMoeWeights& weights, const MoeWorkspace& w, CUstream_st* stream);

}  // namespace moestro::kernels::cuda
