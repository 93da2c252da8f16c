// Four-bit integer weights with AVX2, times bfloat16 activations, in integers (int16_panel_avx2.h).
#include "kernels/cpu/int16_panel_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {

using Int4Panel = avx2::Int16Panel<avx2::Int4Codes>;

const TileOps kInt4Avx2 = {tensor::WeightType::kInt4,
                           Int4Panel::kStepBytes,
                           avx2::sums_and_scales,
                           avx2::pack_int16_row<avx2::Int4Codes>,
                           Int4Panel::run,
                           avx2::store,
                           avx2::gated,
                           finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
