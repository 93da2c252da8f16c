// Routing in one launch: scores, top-k, per-token int8 quantisation of x, and the stable grouping
// of (token, slot) pairs by expert. Formulas: moe/router.h. Called by moe_layer.cu.
#pragma once
#include "kernels/cuda/moe_workspace.h"

namespace moestro::kernels::cuda {

// Blocks of the routing grid for a shape.
int32_t route_grid(const DeviceMoeShape& shape, int32_t num_sms);
Status launch_route(const DeviceMoeShape& shape, int32_t num_sms, const DeviceMoeArgs& args,
                    const MoeWorkspace& w, CUstream_st* stream);

}  // namespace moestro::kernels::cuda
