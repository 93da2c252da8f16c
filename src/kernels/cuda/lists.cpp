#include "kernels/cuda/lists.h"

namespace moestro::kernels::cuda {
namespace {

#ifdef MOESTRO_CUDA
#define MOESTRO_RUN(launch) &launch
#else
#define MOESTRO_RUN(launch) nullptr
#endif

constexpr CudaNeeds kHopper = {9, 0, 227 * 1024};

constexpr MoeLayerKernel kInt8[] = {
    {"moe_layer_int8_sm90", kHopper, &check_moe_shape, &moe_workspace_bytes,
     MOESTRO_RUN(launch_moe_int8)},
};
constexpr MoeLayerKernel kFp8[] = {
    {"moe_layer_fp8_sm90", kHopper, &check_moe_shape, &moe_workspace_bytes,
     MOESTRO_RUN(launch_moe_fp8)},
};
constexpr MoeLayerKernel kFp8Block[] = {
    {"moe_layer_fp8_block_sm90", kHopper, &check_moe_shape, &moe_workspace_bytes,
     MOESTRO_RUN(launch_moe_fp8_block)},
};
constexpr MoeLayerKernel kBf16[] = {
    {"moe_layer_bf16_sm90", kHopper, &check_moe_shape, &moe_workspace_bytes,
     MOESTRO_RUN(launch_moe_bf16)},
};

constexpr MoeLayerKernel kInt4[] = {
    {"moe_layer_int4_bf16_sm90", kHopper, &check_moe_shape, &moe_workspace_bytes,
     MOESTRO_RUN(launch_moe_int4)},
};

#undef MOESTRO_RUN

}  // namespace

std::span<const MoeLayerKernel> moe_layer_kernels_int8() { return kInt8; }
std::span<const MoeLayerKernel> moe_layer_kernels_fp8() { return kFp8; }
std::span<const MoeLayerKernel> moe_layer_kernels_fp8_block() { return kFp8Block; }
std::span<const MoeLayerKernel> moe_layer_kernels_bf16() { return kBf16; }
std::span<const MoeLayerKernel> moe_layer_kernels_int4() { return kInt4; }

}  // namespace moestro::kernels::cuda
