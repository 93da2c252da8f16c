#include "kernels/cuda/decode_kernel.cuh"

namespace moestro::kernels::cuda {

template Status prepare_decode<Fp8>();
template Status launch_decode<Fp8>(const DeviceMoeShape&, int32_t, const DeviceMoeWeights&,
                                   const DeviceMoeArgs&, const MoeWorkspace&, CUstream_st*);

}  // namespace moestro::kernels::cuda
