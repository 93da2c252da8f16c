// float4 e2m1 weights (MXFP4, NVFP4) with AVX2, times bfloat16 activations: as
// gemm_int4_avx2.cpp, the codes by table.
#include "kernels/cpu/float_panel_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {

using Fp4Panel = avx2::FloatPanel<avx2::WidenFp4>;

const TileOps kFp4Avx2 = {tensor::WeightType::kFp4,
                          Fp4Panel::kStepBytes,
                          avx2::sums_per_row,
                          avx2::pack_bf16_row<avx2::WidenFp4>,
                          Fp4Panel::run,
                          avx2::store,
                          avx2::silu,
                          finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
