#include "kernels/cuda/lists.h"

namespace moestro::kernels::cuda {
namespace {

#ifdef MOESTRO_CUDA
constexpr auto kRunInt8 = &launch_moe_int8;
#else
constexpr decltype(&launch_moe_int8) kRunInt8 = nullptr;
#endif

constexpr MoeLayerKernel kInt8[] = {
    {"moe_layer_int8_sm90", {9, 0, 227 * 1024}, &check_moe_shape, &moe_workspace_bytes, kRunInt8},
};

}  // namespace

std::span<const MoeLayerKernel> moe_layer_kernels_int8() { return kInt8; }

}  // namespace moestro::kernels::cuda
