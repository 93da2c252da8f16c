// Four-bit integer weights with AVX2, times bfloat16 activations: float32 products of the unsigned
// codes, less the zero point's share at the end of each run.
#include "kernels/cpu/float_panel_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {

using Int4Panel = avx2::FloatPanel<avx2::WidenInt4>;

const TileOps kInt4Avx2 = {tensor::WeightType::kInt4,
                           Int4Panel::kStepBytes,
                           avx2::sums_per_row,
                           avx2::pack_bf16_row<avx2::WidenInt4>,
                           Int4Panel::run,
                           avx2::store,
                           avx2::silu,
                           finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
