// float4 e2m1 weights (MXFP4, NVFP4) with AVX2, times bfloat16 activations, in integers
// (int16_panel_avx2.h).
#include "kernels/cpu/int16_panel_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {

using Fp4Panel = avx2::Int16Panel<avx2::Fp4Codes>;

const TileOps kFp4Avx2 = {tensor::WeightType::kFp4,
                          Fp4Panel::kStepBytes,
                          avx2::sums_and_scales,
                          avx2::pack_int16_row<avx2::Fp4Codes>,
                          Fp4Panel::run,
                          avx2::store,
                          avx2::gated,
                          finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
