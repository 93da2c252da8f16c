// Four-bit weights with AVX-512: integers less 8 (the zero points' share goes off at the end of
// each group) times bfloat16 activations, and float4 e2m1.
#include "kernels/cpu/float_panel_avx512.h"

namespace moestro::kernels::cpu {

const TileOps kInt4Avx512 = avx512::float_panel_ops<avx512::Int4Weights>();
const TileOps kFp4Avx512 = avx512::float_panel_ops<avx512::Fp4Weights>();

}  // namespace moestro::kernels::cpu
