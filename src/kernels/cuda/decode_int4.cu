#include "kernels/cuda/decode_kernel.cuh"

namespace moestro::kernels::cuda {

template Status prepare_decode<Int4>();
template Status launch_decode<Int4>(const DeviceMoeShape&, int32_t, const DeviceMoeWeights&,
                                    const DeviceMoeArgs&, const MoeWorkspace&, CUstream_st*);

}  // namespace moestro::kernels::cuda
