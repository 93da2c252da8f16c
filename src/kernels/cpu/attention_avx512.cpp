// MLA and grouped-query attention in AVX-512 float32 vectors.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/attention_plan.h"
#include "platform/target.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
    "-Wuninitialized"  // g++ 12: false alarms inside its AVX-512 intrinsics
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::avx512 {
namespace {
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.h"
}  // namespace
#include "kernels/cpu/attention_body.h"
}  // namespace moestro::kernels::avx512
MOESTRO_TARGET_END
#pragma GCC diagnostic pop
