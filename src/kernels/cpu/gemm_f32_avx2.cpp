// float32 with AVX2 FMA. A sum is taken over blocks of 128 k: in order inside a block, then block
// after block, whatever the number of rows.
#include "kernels/cpu/rows_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kBlockSteps = 8;  // 16 KiB of weights: they stay in L1 while the rows pass

void pack_row(const tensor::PackedFormat&, const float* x, int32_t k, std::byte* dst,
              int64_t step_stride, float*) {
  for (int32_t i = 0; i < k; i += 16, dst += step_stride) {
    const int32_t n = std::min(16, k - i);
    if (n < 16) std::memset(dst, 0, 64);
    std::memcpy(dst, x + i, static_cast<size_t>(n) * 4);
  }
}

// R rows x V vectors of 8 channels (4: both tiles, 2: one tile) over one block of k-steps.
template <int R, int V>
void block(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
           bool first) {
  __m256 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = _mm256_setzero_ps();
  for (int32_t s = 0; s < steps; ++s, w += tensor::kKStepBytes, a += a_stride)
    for (int i = 0; i < 16; ++i) {
      if constexpr (R <= 4) avx2::prefetch<V>(w, i);  // the weights come from memory
      __m256 b[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        b[v] =
            _mm256_load_ps(reinterpret_cast<const float*>(w + v / 2 * 1024 + i * 64 + v % 2 * 32));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m256 x = _mm256_broadcast_ss(reinterpret_cast<const float*>(a + r * 64) + i);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[r][v] = _mm256_fmadd_ps(x, b[v], acc[r][v]);
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
  if constexpr (R <= 2) {
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
    case 4:
      return rows_of<4>(w, a, a_stride, steps, c, first);
    case 5:
      return rows_of<5>(w, a, a_stride, steps, c, first);
    default:
      return rows_of<6>(w, a, a_stride, steps, c, first);
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
      for (int32_t r = 0; r < in_block; r += 6)
        some_rows(std::min(6, in_block - r), w + s * tensor::kKStepBytes, a + r * 64, in_block * 64,
                  steps, call.c + (b + r) * 32, s == 0);
    }
  }
}

}  // namespace

const TileOps kF32Avx2 = {tensor::WeightType::kF32,
                          64,
                          no_row_scales,
                          pack_row,
                          panel,
                          avx2::store,
                          avx2::gated,
                          finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
