// bfloat16 with vdpbf16ps, for processors that have it without AMX. Sums in blocks of 256 k as
// gemm_f32_avx512.cpp.
#include "kernels/cpu/rows_avx512.h"

MOESTRO_TARGET_AVX512_BF16_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kBlockSteps = 8;
constexpr int64_t kPrefetchAhead = 6144;

__m512 dot_pairs(__m512 acc, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(acc, __builtin_bit_cast(__m512bh, a), __builtin_bit_cast(__m512bh, b));
}

template <int R>
void block(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
           bool first) {
  __m512 acc[R][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
  for (int32_t s = 0; s < steps; ++s, w += tensor::kKStepBytes, a += a_stride)
    for (int i = 0; i < 16; ++i) {
      if constexpr (R <= 4) {  // the weights come from memory
        _mm_prefetch(reinterpret_cast<const char*>(w + kPrefetchAhead + i * 128), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(w + kPrefetchAhead + i * 128 + 64), _MM_HINT_T0);
      }
      const __m512i b0 = _mm512_load_si512(w + i * 64), b1 = _mm512_load_si512(w + 1024 + i * 64);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        int32_t pair;
        std::memcpy(&pair, a + r * 64 + i * 4, 4);
        const __m512i x = _mm512_set1_epi32(pair);
        acc[r][0] = dot_pairs(acc[r][0], x, b0);
        acc[r][1] = dot_pairs(acc[r][1], x, b1);
      }
    }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    avx512::add_to(c + r * 32, acc[r][0], first);
    avx512::add_to(c + r * 32 + 16, acc[r][1], first);
  }
}

void some_rows(int32_t n, const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps,
               float* c, bool first) {
  switch (n) {
    case 1:
      return block<1>(w, a, a_stride, steps, c, first);
    case 2:
      return block<2>(w, a, a_stride, steps, c, first);
    case 3:
      return block<3>(w, a, a_stride, steps, c, first);
    case 4:
      return block<4>(w, a, a_stride, steps, c, first);
    case 5:
      return block<5>(w, a, a_stride, steps, c, first);
    case 6:
      return block<6>(w, a, a_stride, steps, c, first);
    case 7:
      return block<7>(w, a, a_stride, steps, c, first);
    default:
      return block<8>(w, a, a_stride, steps, c, first);
  }
}

void panel(const PanelCall& call, TileState&) {
  const int32_t k_steps = call.w->k_steps();
  const std::byte* w = call.w->panel(call.panel);
  for (int32_t s = 0; s < k_steps; s += kBlockSteps) {
    const int32_t steps = std::min(kBlockSteps, k_steps - s);
    for (int32_t b = 0; b < call.rows; b += kBlockRows) {
      const int32_t in_block = std::min(kBlockRows, call.rows - b);
      const std::byte* a = call.a + (int64_t{b} * k_steps + int64_t{s} * in_block) * 64;
      for (int32_t r = 0; r < in_block; r += 8)
        some_rows(std::min(8, in_block - r), w + s * tensor::kKStepBytes, a + r * 64, in_block * 64,
                  steps, call.c + (b + r) * 32, s == 0);
    }
  }
}

}  // namespace

const TileOps kBf16Avx512Bf16 = {tensor::WeightType::kBf16,
                                 64,
                                 no_row_scales,
                                 avx512::pack_bf16,
                                 panel,
                                 avx512::store,
                                 avx512::gated,
                                 finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
