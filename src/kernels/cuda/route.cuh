// Routing in one launch: scores and top-k, the stable grouping of (token, slot) pairs by expert,
// and x of every pair in the format of the product at its grouped row. Formulas: moe/router.h.
// Called by moe_layer.cu.
#pragma once
#include "kernels/cuda/moe_workspace.h"

namespace moestro::kernels::cuda {

template <class Format>
Status launch_route(const DeviceMoeShape& shape, int32_t num_sms, const DeviceMoeArgs& args,
                    const MoeWorkspace& w, CUstream_st* stream);

}  // namespace moestro::kernels::cuda
