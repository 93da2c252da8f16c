// float32 with AVX-512 FMA. A sum is taken over blocks of 128 k: in order inside a block, then
// block after block, whatever the number of rows.
#include "kernels/cpu/rows_avx512.h"

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kBlockSteps = 8;  // 16 KiB of weights: they stay in L1 while the rows pass
constexpr int64_t kPrefetchAhead = 6144;

void pack_row(const tensor::PackedFormat&, const float* x, int32_t k, std::byte* dst,
              int64_t step_stride, float*) {
  for (int32_t i = 0; i < k; i += 16, dst += step_stride)
    _mm512_storeu_ps(dst, _mm512_maskz_loadu_ps(avx512::first_lanes(std::min(16, k - i)), x + i));
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
      const __m512 b0 = _mm512_load_ps(w + i * 64), b1 = _mm512_load_ps(w + 1024 + i * 64);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512 x = _mm512_set1_ps(reinterpret_cast<const float*>(a + r * 64)[i]);
        acc[r][0] = _mm512_fmadd_ps(x, b0, acc[r][0]);
        acc[r][1] = _mm512_fmadd_ps(x, b1, acc[r][1]);
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

const TileOps kF32Avx512 = {tensor::WeightType::kF32,
                            64,
                            no_row_scales,
                            pack_row,
                            panel,
                            avx512::store,
                            avx512::gated,
                            finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
