// float8 e4m3 weights with AVX2, times bfloat16 or e4m3 activations; both are multiplied as
// float32, where the products are exact.
#include "kernels/cpu/float_panel_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {

using Fp8Panel = avx2::FloatPanel<avx2::WidenFp8>;

const TileOps kFp8Avx2 = {tensor::WeightType::kFp8,
                          Fp8Panel::kStepBytes,
                          avx2::activation_scales_per_row,
                          avx2::pack_fp8_row,
                          Fp8Panel::run,
                          avx2::store,
                          avx2::silu,
                          finish_nothing};

const TileOps kFp8Bf16Avx2 = {tensor::WeightType::kFp8,
                              Fp8Panel::kStepBytes,
                              no_row_scales,
                              avx2::pack_bf16_row<avx2::WidenFp8>,
                              Fp8Panel::run,
                              avx2::store,
                              avx2::silu,
                              finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
