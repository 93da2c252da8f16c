// Exact int32 sums of int8 weights times int8 activations with AVX2. vpmaddubsw saturates its
// 16-bit pair sums, so the unsigned side is |weight| and the signed side the activation with the
// weight's sign: pairs then stay within 2 * 128 * 127 = 32512. Activations are kept signed (the
// matrix's compensation is not needed). Included by gemm_int8*_avx2.cpp only.
#pragma once
#include "kernels/cpu/rows_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu::avx2 {

inline __m256i four_of(const std::byte* a) {  // four activations in every lane
  int32_t four;
  std::memcpy(&four, a, 4);
  return _mm256_set1_epi32(four);
}

// R rows x V vectors of 8 channels (4: both tiles, 2: one tile) over some k-steps; acc starts at
// zero. Consecutive rows of a are 64 bytes apart, steps a_stride.
template <int R, int V>
inline void int8_sums(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps,
                      __m256i (&acc)[R][V]) {
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = _mm256_setzero_si256();
  for (int32_t s = 0; s < steps; ++s, w += tensor::kKStepBytes, a += a_stride)
    for (int i = 0; i < 16; ++i) {
      prefetch<V>(w, i);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const __m256i b = _mm256_load_si256(
            reinterpret_cast<const __m256i*>(w + v / 2 * 1024 + i * 64 + v % 2 * 32));
        const __m256i magnitude = _mm256_abs_epi8(b);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const __m256i x = _mm256_sign_epi8(four_of(a + r * 64 + i * 4), b);
          const __m256i pairs = _mm256_maddubs_epi16(magnitude, x);
          acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_madd_epi16(pairs, ones));
        }
      }
    }
}

// Calls f<R, V>(w, channel) for min(n, 4) rows and both tiles: channels 0..31, or 0..15 and 16..31.
template <class F>
inline void int8_rows(int32_t n, const std::byte* w, F f) {
  const auto tiles = [&]<int R>() {
    if constexpr (R <= 2) {
      f.template operator()<R, 4>(w, 0);
    } else {
      f.template operator()<R, 2>(w, 0);
      f.template operator()<R, 2>(w + 1024, 16);
    }
  };
  switch (n) {
    case 1:
      return tiles.template operator()<1>();
    case 2:
      return tiles.template operator()<2>();
    case 3:
      return tiles.template operator()<3>();
    default:
      return tiles.template operator()<4>();
  }
}

}  // namespace moestro::kernels::cpu::avx2
MOESTRO_TARGET_END
