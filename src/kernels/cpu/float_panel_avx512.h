// A panel of quantised weights that decode to bfloat16 (decode_avx512.h), times many rows of
// float32 activations, with AVX-512 alone. Weights are decoded a piece at a time into L1, where all
// rows pass over them. Included by gemm_*_avx512.cpp only.
#pragma once
#include "kernels/cpu/groups_avx512.h"

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::cpu::avx512 {

// Rows of activations of a stretch of k: value i of row r is a[r * row_bytes / 4 + …], k-step after
// k-step.
struct FloatRows {
  const std::byte* a;  // the first row, at the k-step where the piece starts
  int64_t row_bytes, step_stride;
};

// R rows x values [begin, end) of a piece (multiples of four): t[R, 32] = sums.
template <int R, int32_t per_step>
inline void float_sums(const std::byte* w, const FloatRows& x, int32_t begin, int32_t end,
                       float* t) {
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  __m512 acc[R][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
  for (int32_t i = begin; i < end; i += 4) {
    const std::byte* from = w + i / 32 * tensor::kKStepBytes + i % 32 * 32;
    const std::byte* a = x.a + i / per_step * x.step_stride + i % per_step * 4;
#pragma GCC unroll 2
    for (int tile = 0; tile < 2; ++tile) {
      const __m512i even = _mm512_load_si512(from + tile * 1024),
                    odd = _mm512_load_si512(from + tile * 1024 + 64);
      const __m512 weights[4] = {_mm512_castsi512_ps(_mm512_slli_epi32(even, 16)),
                                 _mm512_castsi512_ps(_mm512_slli_epi32(odd, 16)),
                                 _mm512_castsi512_ps(_mm512_and_si512(even, high)),
                                 _mm512_castsi512_ps(_mm512_and_si512(odd, high))};
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
          acc[r][tile] = _mm512_fmadd_ps(
              _mm512_set1_ps(reinterpret_cast<const float*>(a + r * x.row_bytes)[j]), weights[j],
              acc[r][tile]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    _mm512_store_ps(t + r * 32, acc[r][0]);
    _mm512_store_ps(t + r * 32 + 16, acc[r][1]);
  }
}

template <int32_t per_step>
inline void some_float_sums(int32_t rows, const std::byte* w, const FloatRows& x, int32_t begin,
                            int32_t end, float* t) {
  switch (rows) {
    case 1:
      return float_sums<1, per_step>(w, x, begin, end, t);
    case 2:
      return float_sums<2, per_step>(w, x, begin, end, t);
    case 3:
      return float_sums<3, per_step>(w, x, begin, end, t);
    case 4:
      return float_sums<4, per_step>(w, x, begin, end, t);
    case 5:
      return float_sums<5, per_step>(w, x, begin, end, t);
    default:
      return float_sums<6, per_step>(w, x, begin, end, t);
  }
}

// TileOps of a decoder.
template <class Decoder>
struct FloatPanel {
  static constexpr int32_t kPerStep = Decoder::kSub * 32;  // values of a k-step
  static constexpr int32_t kStepBytes = 4 * kPerStep;
  static constexpr int32_t kPieceSteps = 256 / kPerStep;  // 16 KiB of decoded weights
  static constexpr Sums kSums = Sums::kZeroPoints;

  static void run(const PanelCall& call, TileState&) {
    const tensor::PackedMatrix& m = *call.w;
    const int32_t k_steps = m.k_steps();
    Stretch stretch(call, m.format.zero_points, 0.0f);
    alignas(64) std::byte decoded[kPieceSteps * Decoder::kSub * tensor::kKStepBytes];
    alignas(64) float t[6 * 32];
    for (int32_t s = 0; s < k_steps; s += kPieceSteps) {
      const int32_t steps = std::min(kPieceSteps, k_steps - s);
      Decoder::decode(m, call.panel, s, steps, decoded);
      const int32_t piece_k = s * kPerStep, end = std::min(piece_k + steps * kPerStep, m.k);
      for (int32_t k = piece_k, next; k < end; k = next) {
        next = stretch.end(k, end);
        stretch.start(k);
        for (int32_t b = 0; b < call.rows; b += kBlockRows) {
          const int32_t in_block = std::min(kBlockRows, call.rows - b);
          const std::byte* a = call.a + (int64_t{b} * k_steps + int64_t{s} * in_block) * kStepBytes;
          for (int32_t r = 0; r < in_block; r += 6) {
            const int32_t rows = std::min(6, in_block - r);
            some_float_sums<kPerStep>(
                rows, decoded, {a + r * kStepBytes, kStepBytes, in_block * int64_t{kStepBytes}},
                k - piece_k, next - piece_k, t);
            stretch.count<false>(t, b + r, rows, call.c + (b + r) * 32, k == 0);
          }
        }
      }
    }
    stretch.finish();
  }
};

template <class Decoder>
constexpr TileOps float_panel_ops() {
  return {Decoder::kWeight,
          FloatPanel<Decoder>::kStepBytes,
          group_values_per_row<FloatPanel<Decoder>::kSums>,
          pack_groups<Packed::kFloats, FloatPanel<Decoder>::kSums>,
          FloatPanel<Decoder>::run,
          store,
          gated,
          finish_nothing};
}

}  // namespace moestro::kernels::cpu::avx512
MOESTRO_TARGET_END
