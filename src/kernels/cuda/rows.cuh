// The two small kernels of a layer: h of the prefill path to operand tiles of down, and the
// weighted sum over a token's experts. Called by moe_layer.cu.
#pragma once
#include "kernels/cuda/moe_workspace.h"

namespace moestro::kernels::cuda {

template <class Format>
Status launch_requantise(const DeviceMoeShape& shape, int32_t num_sms, const MoeWorkspace& w,
                         CUstream_st* stream);
Status launch_combine(const DeviceMoeShape& shape, int32_t num_sms, const DeviceMoeArgs& args,
                      const MoeWorkspace& w, CUstream_st* stream);

}  // namespace moestro::kernels::cuda
