#include "kernels/cuda/moe_layer.h"

#include "kernels/cuda/decode.cuh"
#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill.cuh"
#include "kernels/cuda/route.cuh"
#include "kernels/cuda/rows.cuh"

namespace moestro::kernels::cuda {
namespace {

template <class F>
Status prepare() {
  MOESTRO_TRY(prepare_decode<F>());
  return prepare_prefill<F>();
}

template <class F>
Status launch_moe(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeWeights& weights,
                  const DeviceMoeArgs& args, CUstream_st* stream) {
  MOESTRO_TRY(check_moe_shape(s));
  if (s.value_bytes != F::kValueBytes)
    return invalid_argument("CUDA MoE layer: the shape's value_bytes is " +
                            std::to_string(s.value_bytes) + ", the kernel's " +
                            std::to_string(F::kValueBytes));
  if (s.step_scales != F::kStepScales)
    return invalid_argument(std::string("CUDA MoE layer: the shape's scales are by ") +
                            (s.step_scales ? "blocks" : "channels") + ", the kernel's are not");
  if (s.int4 != F::kInt4)
    return invalid_argument(std::string("CUDA MoE layer: the shape's weights have ") +
                            (s.int4 ? "4 bits" : "whole bytes") + ", the kernel's have not");
  const MoeWorkspace w = place_moe_workspace(s, num_sms, args.workspace);
  const MoeSizes z = moe_sizes(s);
  if (z.resident) return launch_decode<F>(s, num_sms, weights, args, w, stream);
  MOESTRO_TRY(launch_route<typename F::Activations>(s, num_sms, args, w, stream));
  if (z.row_tile < kPrefillRows) {
    MOESTRO_TRY(launch_decode<F>(s, num_sms, weights, args, w, stream));
  } else {
    MOESTRO_TRY(launch_prefill<F>(kUp, s, num_sms, weights, w, stream));
    if constexpr (F::kScaled) MOESTRO_TRY(launch_requantise<F>(s, num_sms, w, stream));
    MOESTRO_TRY(launch_prefill<F>(kDown, s, num_sms, weights, w, stream));
  }
  return launch_combine(s, num_sms, args, w, stream);
}

}  // namespace

Status prepare_moe_workspace(const DeviceMoeShape& s, int32_t num_sms, std::byte* workspace,
                             CUstream_st* stream) {
  MOESTRO_TRY(check_moe_shape(s));
  MOESTRO_TRY(prepare<Int8>());
  MOESTRO_TRY(prepare<Fp8>());
  MOESTRO_TRY(prepare<Fp8Block>());
  MOESTRO_TRY(prepare<Bf16>());
  MOESTRO_TRY(prepare<Int4>());
  const MoeWorkspace w = place_moe_workspace(s, num_sms, workspace);
  MOESTRO_TRY(cuda_status(cudaMemsetAsync(workspace, 0, static_cast<size_t>(w.zero_bytes), stream),
                          "workspace"));
  return cuda_status(cudaMemsetAsync(workspace + w.zero_bytes, 0xff,
                                     static_cast<size_t>(w.ones_end - w.zero_bytes), stream),
                     "workspace of a MoE layer");
}

Status launch_moe_int8(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeWeights& weights,
                       const DeviceMoeArgs& args, CUstream_st* stream) {
  return launch_moe<Int8>(s, num_sms, weights, args, stream);
}
Status launch_moe_fp8(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeWeights& weights,
                      const DeviceMoeArgs& args, CUstream_st* stream) {
  return launch_moe<Fp8>(s, num_sms, weights, args, stream);
}
Status launch_moe_fp8_block(const DeviceMoeShape& s, int32_t num_sms,
                            const DeviceMoeWeights& weights, const DeviceMoeArgs& args,
                            CUstream_st* stream) {
  return launch_moe<Fp8Block>(s, num_sms, weights, args, stream);
}
Status launch_moe_int4(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeWeights& weights,
                       const DeviceMoeArgs& args, CUstream_st* stream) {
  return launch_moe<Int4>(s, num_sms, weights, args, stream);
}
Status launch_moe_bf16(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeWeights& weights,
                       const DeviceMoeArgs& args, CUstream_st* stream) {
  return launch_moe<Bf16>(s, num_sms, weights, args, stream);
}

}  // namespace moestro::kernels::cuda
