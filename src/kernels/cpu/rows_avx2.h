// Row-wise parts of the AVX2 kernels: packing of activations, storing of results, gated activation.
// Included by gemm_*_avx2.cpp only.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cmath>
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

// Minimum and maximum return their second operand for NaN.
inline __m256 gated(const GatedActivation& act, __m256 gate, __m256 up) {
  const __m256 limit = _mm256_set1_ps(act.limit);
  gate = _mm256_min_ps(limit, gate);
  up = _mm256_max_ps(_mm256_set1_ps(-act.limit), _mm256_min_ps(limit, up));
  const __m256 e = exp_ps(_mm256_mul_ps(_mm256_set1_ps(-act.alpha), gate));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1.0f), e)),
                       _mm256_add_ps(up, _mm256_set1_ps(act.up_offset)));
}

inline void gated(const GatedActivation& act, const float* c, int32_t rows, const float* bias,
                  float* h, int64_t h_stride) {
  for (int32_t r = 0; r < rows; ++r, c += 32, h += h_stride)
    for (int i = 0; i < 16; i += 8) {
      __m256 gate = _mm256_loadu_ps(c + i), up = _mm256_loadu_ps(c + 16 + i);
      if (bias) {
        gate = _mm256_add_ps(gate, _mm256_loadu_ps(bias + i));
        up = _mm256_add_ps(up, _mm256_loadu_ps(bias + 16 + i));
      }
      _mm256_storeu_ps(h + i, gated(act, gate, up));
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

// Asks for weights ahead in the stream while row i of a k-step is used, line after line whatever
// order they are used in: the processor's own prefetchers go along only then (85 against 55 % of a
// core's read bandwidth). V = 4: w is a k-step, its two tiles are used together; 2: w is a tile.
template <int V>
inline void prefetch(const std::byte* w, int i) {
  constexpr int64_t kAhead = 2048;
  const auto* p = reinterpret_cast<const char*>(w + kAhead) + i * (V == 4 ? 128 : 64);
  _mm_prefetch(p, _MM_HINT_T0);
  if constexpr (V == 4) _mm_prefetch(p + 64, _MM_HINT_T0);
}

// The largest magnitude as bits, which order finite < infinite < NaN.
inline uint32_t largest_bits(const float* x, int32_t k) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  const auto bits = [&](__m256 v) { return _mm256_and_si256(_mm256_castps_si256(v), magnitude); };
  __m256i m = _mm256_setzero_si256();
  int32_t i = 0;
  for (; i + 8 <= k; i += 8) m = _mm256_max_epi32(m, bits(_mm256_loadu_ps(x + i)));
  if (i < k) m = _mm256_max_epi32(m, bits(_mm256_maskload_ps(x + i, first_lanes(k - i))));
  alignas(32) uint32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), m);
  return *std::max_element(lanes, lanes + 8);
}

// The scale that activations x[k] are divided by before rounding to int8 or e4m3. Rows of zeros and
// rows that are no numbers become zeros, the latter with the scale NaN (ref/packed_access.h).
struct RowScale {
  float scale;   // what results are multiplied by
  bool divides;  // false: all values become zero

  RowScale(const tensor::PackedFormat& f, const float* x, int32_t k) {
    const uint32_t largest = largest_bits(x, k);
    std::memcpy(&scale, &largest, 4);
    scale /= f.activation == tensor::ActivationType::kInt8 ? 127.0f : 448.0f;
    divides = largest < 0x7f800000u && scale > 0;
    if (f.activation_pow2 && divides) {
      int exponent;
      if (std::frexp(scale, &exponent) == 0.5f) --exponent;
      scale = std::ldexp(1.0f, exponent);
    }
    if (largest >= 0x7f800000u) scale = std::numeric_limits<float>::quiet_NaN();
  }
};

// Where to read x[n] padded with zeros to 64.
inline const float* padded_64(const float* x, int32_t n, float (&buffer)[64]) {
  if (n >= 64) return x;
  std::fill_n(buffer, 64, 0.0f);
  std::copy_n(x, n, buffer);
  return buffer;
}

inline __m256i quantise_8(const float* x, __m256 scale) {
  __m256 q = _mm256_div_ps(_mm256_loadu_ps(x), scale);
  q = _mm256_max_ps(_mm256_min_ps(q, _mm256_set1_ps(127.0f)), _mm256_set1_ps(-127.0f));
  return _mm256_cvtps_epi32(q);
}
// 64 activations as int8; zeros past n.
inline void quantise_64(const float* x, int32_t n, const RowScale& scale, std::byte* dst) {
  if (!scale.divides) {
    std::memset(dst, 0, 64);
    return;
  }
  float buffer[64];
  const float* from = padded_64(x, n, buffer);
  const __m256 s = _mm256_set1_ps(scale.scale);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // undoes the lane-wise packs
  for (int j = 0; j < 64; j += 32) {
    const __m256i low = _mm256_packs_epi32(quantise_8(from + j, s), quantise_8(from + j + 8, s));
    const __m256i high =
        _mm256_packs_epi32(quantise_8(from + j + 16, s), quantise_8(from + j + 24, s));
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + j), bytes);
  }
}

// Round to nearest even at bit 16; NaN stays NaN (as tensor/numeric.h).
inline __m256 round_to_bf16(__m256 x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  rounded = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm256_castsi256_ps(
      _mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

// |x| rounded to nearest even among e4m3's values, 448 at most; x is no NaN. Under 2^-6 they are
// the multiples of 2^-9, which an addition of 1.5 * 2^14 rounds to.
inline __m256 round_to_e4m3(__m256 x) {
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
  const __m256 a = _mm256_min_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x), _mm256_set1_ps(448));
  const __m256i u = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 20), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7ffff)), odd);
  const __m256 normal =
      _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(static_cast<int>(0xfff00000u))));
  const __m256 magic = _mm256_set1_ps(0x1.8p14f);
  const __m256 small = _mm256_sub_ps(_mm256_add_ps(a, magic), magic);
  const __m256 is_small = _mm256_cmp_ps(a, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ);
  return _mm256_or_ps(_mm256_blendv_ps(normal, small, is_small), sign);
}

// c (+)= acc, eight channels.
inline void add_to(float* c, __m256 acc, bool first) {
  _mm256_storeu_ps(c, first ? acc : _mm256_add_ps(_mm256_loadu_ps(c), acc));
}

// Calls f.template operator()<R>(row) over all rows of a call: R = 6 rows at a time, fewer where a
// block of kBlockRows ends.
template <class F>
inline void rows_by_six(int32_t rows, F f) {
  for (int32_t block = 0; block < rows; block += kBlockRows) {
    const int32_t end = std::min(rows, block + kBlockRows);
    for (int32_t row = block; row < end; row += 6) {
      switch (end - row) {
        case 1:
          f.template operator()<1>(row);
          break;
        case 2:
          f.template operator()<2>(row);
          break;
        case 3:
          f.template operator()<3>(row);
          break;
        case 4:
          f.template operator()<4>(row);
          break;
        case 5:
          f.template operator()<5>(row);
          break;
        default:
          f.template operator()<6>(row);
      }
    }
  }
}

}  // namespace moestro::kernels::cpu::avx2
MOESTRO_TARGET_END
