// MLA and grouped-query attention in AVX-512 float32 vectors.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/attention_plan.h"
#include "platform/target.h"

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::avx512 {
namespace {
// Each builds on those before.
// clang-format off
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.h"
#include "kernels/cpu/score_body.h"
#include "kernels/cpu/attention_state_body.h"
// clang-format on
}  // namespace
#include "kernels/cpu/attention_body.h"
}  // namespace moestro::kernels::avx512
MOESTRO_TARGET_END
