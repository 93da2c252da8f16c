#include "kernels/cuda/decode_kernel.cuh"

namespace moestro::kernels::cuda {

template Status prepare_decode<Fp8Block>();
template Status launch_decode<Fp8Block>(const DeviceMoeShape&, int32_t, const DeviceMoeWeights&,
                                        const DeviceMoeArgs&, const MoeWorkspace&, CUstream_st*);

}  // namespace moestro::kernels::cuda
