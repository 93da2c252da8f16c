// bfloat16 weights with AVX2: both halves of a pair are widened to float32 and multiplied with FMA.
// Activations are kept as float32 values that bfloat16 can hold, so only the weights need widening.
// Sums as in gemm_f32_avx2.cpp, blocks of 256 k.
#include "kernels/cpu/rows_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kBlockSteps = 8;
constexpr int32_t kStepBytes = 128;  // 32 float32 of a row

void pack_row(const tensor::PackedFormat&, const float* x, int32_t k, std::byte* dst,
              int64_t step_stride, float*) {
  alignas(32) float padded[32];
  for (int32_t i = 0; i < k; i += 32, dst += step_stride) {
    const float* from = x + i;
    if (k - i < 32) {
      std::fill_n(padded, 32, 0.0f);
      std::copy_n(from, k - i, padded);
      from = padded;
    }
    for (int j = 0; j < 32; j += 8)
      _mm256_storeu_ps(reinterpret_cast<float*>(dst) + j,
                       avx2::round_to_bf16(_mm256_loadu_ps(from + j)));
  }
}

template <int R, int V>
void block(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
           bool first) {
  const __m256i high_half = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  __m256 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = _mm256_setzero_ps();
  for (int32_t s = 0; s < steps; ++s, w += tensor::kKStepBytes, a += a_stride)
    for (int i = 0; i < 16; ++i) {
      if constexpr (R <= 4) avx2::prefetch<V>(w, i);  // the weights come from memory
      __m256 even[V], odd[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const __m256i pairs = _mm256_load_si256(
            reinterpret_cast<const __m256i*>(w + v / 2 * 1024 + i * 64 + v % 2 * 32));
        even[v] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
        odd[v] = _mm256_castsi256_ps(_mm256_and_si256(pairs, high_half));
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const float* x = reinterpret_cast<const float*>(a + r * kStepBytes) + 2 * i;
        const __m256 x0 = _mm256_broadcast_ss(x), x1 = _mm256_broadcast_ss(x + 1);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
          acc[r][v] = _mm256_fmadd_ps(x1, odd[v], _mm256_fmadd_ps(x0, even[v], acc[r][v]));
      }
    }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) avx2::add_to(c + r * 32 + v * 8, acc[r][v], first);
}

template <int R>
void rows_of(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
             bool first) {
  if constexpr (R == 1) {
    block<R, 4>(w, a, a_stride, steps, c, first);
  } else {
    block<R, 2>(w, a, a_stride, steps, c, first);
    block<R, 2>(w + 1024, a, a_stride, steps, c + 16, first);
  }
}

void some_rows(int32_t n, const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps,
               float* c, bool first) {
  switch (n) {
    case 1:
      return rows_of<1>(w, a, a_stride, steps, c, first);
    case 2:
      return rows_of<2>(w, a, a_stride, steps, c, first);
    case 3:
      return rows_of<3>(w, a, a_stride, steps, c, first);
    default:
      return rows_of<4>(w, a, a_stride, steps, c, first);
  }
}

void panel(const PanelCall& call, TileState&) {
  const int32_t k_steps = call.w->k_steps();
  const std::byte* w = call.w->panel(call.panel);
  for (int32_t s = 0; s < k_steps; s += kBlockSteps) {
    const int32_t steps = std::min(kBlockSteps, k_steps - s);
    for (int32_t b = 0; b < call.rows; b += kBlockRows) {
      const int32_t in_block = std::min(kBlockRows, call.rows - b);
      const std::byte* a = call.a + (int64_t{b} * k_steps + int64_t{s} * in_block) * kStepBytes;
      for (int32_t r = 0; r < in_block; r += 4)
        some_rows(std::min(4, in_block - r), w + s * tensor::kKStepBytes, a + r * kStepBytes,
                  in_block * kStepBytes, steps, call.c + (b + r) * 32, s == 0);
    }
  }
}

}  // namespace

const TileOps kBf16Avx2 = {tensor::WeightType::kBf16,
                           kStepBytes,
                           no_row_scales,
                           pack_row,
                           panel,
                           avx2::store,
                           avx2::gated,
                           finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
