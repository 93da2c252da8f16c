#include "kernels/cuda/prefill_kernel.cuh"

namespace moestro::kernels::cuda {

template Status prepare_prefill<Fp8Block>();
template Status launch_prefill<Fp8Block>(Product, const DeviceMoeShape&, int32_t,
                                         const DeviceMoeWeights&, const MoeWorkspace&,
                                         CUstream_st*);

}  // namespace moestro::kernels::cuda
