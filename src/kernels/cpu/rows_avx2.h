// Row-wise parts of the AVX2 kernels: packing of activations, storing of results, SiLU. Included by
// gemm_*_avx2.cpp only.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/tile_ops.h"
#include "platform/target.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu::avx2 {

// e^x, within 2 units in the last place for results in the normal range; below -87 and above 88 it
// stays at the ends. NaN stays NaN. x = n ln 2 + r, |r| <= ln 2 / 2, then the Taylor series of e^r
// to r^7 (its rest is 5e-9).
inline __m256 exp_ps(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-87.0f), x);  // the second operand is returned for NaN
  x = _mm256_min_ps(_mm256_set1_ps(88.0f), x);
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f),
                              x);  // ln 2 in two parts, the first exact in 10 bits
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

inline __m256 silu_mul(__m256 gate, __m256 up) {
  const __m256 e = exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), gate));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), up);
}

inline void silu(const float* c, int32_t rows, const float* bias, float* h, int64_t h_stride) {
  for (int32_t r = 0; r < rows; ++r, c += 32, h += h_stride)
    for (int i = 0; i < 16; i += 8) {
      __m256 gate = _mm256_loadu_ps(c + i), up = _mm256_loadu_ps(c + 16 + i);
      if (bias) {
        gate = _mm256_add_ps(gate, _mm256_loadu_ps(bias + i));
        up = _mm256_add_ps(up, _mm256_loadu_ps(bias + 16 + i));
      }
      _mm256_storeu_ps(h + i, silu_mul(gate, up));
    }
}

// Lanes [0, n) of a vector of 8.
inline __m256i first_lanes(int32_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline void store(const float* c, int32_t rows, const float* bias, float* y, int64_t y_stride,
                  int32_t n, StoreMode mode) {
  const bool accumulate = mode == StoreMode::kAccumulate;
  const bool stream = mode == StoreMode::kStream && can_stream(y, y_stride, n);
  for (int32_t r = 0; r < rows; ++r, c += 32, y += y_stride)
    for (int32_t i = 0; i < n; i += 8) {
      __m256 v = _mm256_loadu_ps(c + i);
      if (bias) v = _mm256_add_ps(v, _mm256_loadu_ps(bias + i));
      if (stream) {
        _mm256_stream_ps(y + i, v);
      } else if (n - i >= 8) {
        _mm256_storeu_ps(y + i, accumulate ? _mm256_add_ps(_mm256_loadu_ps(y + i), v) : v);
      } else {
        const __m256i mask = first_lanes(n - i);
        _mm256_maskstore_ps(y + i, mask,
                            accumulate ? _mm256_add_ps(_mm256_maskload_ps(y + i, mask), v) : v);
      }
    }
}

// Asks for the weights 6 KiB ahead in the stream: one row (64 bytes) of one tile or (V = 4) of
// both.
template <int V>
inline void prefetch(const std::byte* w) {
  _mm_prefetch(reinterpret_cast<const char*>(w + 6144), _MM_HINT_T0);
  if constexpr (V == 4) _mm_prefetch(reinterpret_cast<const char*>(w + 6144 + 1024), _MM_HINT_T0);
}

// c (+)= acc, eight channels.
inline void add_to(float* c, __m256 acc, bool first) {
  _mm256_storeu_ps(c, first ? acc : _mm256_add_ps(_mm256_loadu_ps(c), acc));
}

}  // namespace moestro::kernels::cpu::avx2
MOESTRO_TARGET_END
