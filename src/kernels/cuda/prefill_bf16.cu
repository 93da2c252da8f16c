#include "kernels/cuda/prefill_kernel.cuh"

namespace moestro::kernels::cuda {

template Status prepare_prefill<Bf16>();
template Status launch_prefill<Bf16>(Product, const DeviceMoeShape&, int32_t,
                                     const DeviceMoeWeights&, const MoeWorkspace&, CUstream_st*);

}  // namespace moestro::kernels::cuda
