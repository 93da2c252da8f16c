// float8 e4m3 weights with AVX-512, times e4m3 or bfloat16 activations: exact operands, float32
// sums; scales of groups count at the end of each.
#include "kernels/cpu/float_panel_avx512.h"

namespace moestro::kernels::cpu {

const TileOps kFp8Avx512 = avx512::float_panel_ops<avx512::Fp8Weights>();

}  // namespace moestro::kernels::cpu
