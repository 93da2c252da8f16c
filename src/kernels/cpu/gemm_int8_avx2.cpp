// int8 with AVX2: one scale a channel and one a row, so every sum is exact until the end.
#include "kernels/cpu/int8_sums_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kBlockSteps = 8;  // 16 KiB of weights: they stay in L1 while the rows pass

void pack_row(const tensor::PackedFormat& format, const float* x, int32_t k, std::byte* dst,
              int64_t step_stride, float* scales) {
  const avx2::RowScale scale(format, x, k);
  for (int32_t i = 0; i < k; i += 64, dst += step_stride)
    avx2::quantise_64(x + i, k - i, scale, dst);
  *scales = scale.scale;
}

// c holds int32 sums until finish_rows.
template <int R, int V>
void block(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
           bool first) {
  __m256i acc[R][V];
  avx2::int8_sums<R, V>(w, a, a_stride, steps, acc);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      auto* p = reinterpret_cast<__m256i*>(c + r * 32 + v * 8);
      _mm256_storeu_si256(p,
                          first ? acc[r][v] : _mm256_add_epi32(_mm256_loadu_si256(p), acc[r][v]));
    }
}

// int32 sums become scaled floats in place.
void finish_rows(const PanelCall& call) {
  for (int32_t r = 0; r < call.rows; ++r)
    for (int i = 0; i < 32; i += 8) {
      float* p = call.c + r * 32 + i;
      const __m256 sum =
          _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(call.row_scales[r]),
                                         _mm256_loadu_ps(call.w->scales + call.panel * 32 + i));
      _mm256_storeu_ps(p, _mm256_mul_ps(sum, scale));
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
      for (int32_t r = 0; r < in_block; r += 4)
        avx2::int8_rows(in_block - r, w + s * tensor::kKStepBytes,
                        [&]<int R, int V>(const std::byte* tile, int32_t channel) {
                          block<R, V>(tile, a + r * 64, in_block * 64, steps,
                                      call.c + (b + r) * 32 + channel, s == 0);
                        });
    }
  }
  finish_rows(call);
}

}  // namespace

const TileOps kInt8Avx2 = {tensor::WeightType::kInt8,
                           64,
                           one_row_scale,
                           pack_row,
                           panel,
                           avx2::store,
                           avx2::gated,
                           finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
