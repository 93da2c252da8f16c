// Row-wise parts of the AVX-512 and AMX kernels: packing of activations, storing of results, gated
// activation, scaling of int32 sums. Included by gemm_*_avx512*.cpp and gemm_*_amx.cpp only.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/tile_ops.h"
#include "platform/target.h"

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::cpu::avx512 {

// Lanes [0, n), n <= 16.
inline __mmask16 first_lanes(int32_t n) { return static_cast<__mmask16>((1u << n) - 1); }

// As rows_avx2.h: the same steps and constants.
inline __m512 exp_ps(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x);  // the second operand is returned for NaN
  x = _mm512_min_ps(_mm512_set1_ps(88.0f), x);
  const __m512 n =
      _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);  // to nearest even
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  const __m512i power =
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
  return _mm512_mul_ps(p, _mm512_castsi512_ps(power));
}

// Minimum and maximum return their second operand for NaN.
inline void gated(const GatedActivation& act, const float* c, int32_t rows, const float* bias,
                  float* h, int64_t h_stride) {
  const __m512 limit = _mm512_set1_ps(act.limit), lowest = _mm512_set1_ps(-act.limit);
  const __m512 gate_bias = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
  const __m512 up_bias = bias ? _mm512_loadu_ps(bias + 16) : _mm512_setzero_ps();
  for (int32_t r = 0; r < rows; ++r, c += 32, h += h_stride) {
    const __m512 gate = _mm512_min_ps(limit, _mm512_add_ps(_mm512_loadu_ps(c), gate_bias));
    const __m512 up = _mm512_max_ps(
        lowest, _mm512_min_ps(limit, _mm512_add_ps(_mm512_loadu_ps(c + 16), up_bias)));
    const __m512 e = exp_ps(_mm512_mul_ps(_mm512_set1_ps(-act.alpha), gate));
    _mm512_storeu_ps(h, _mm512_mul_ps(_mm512_div_ps(gate, _mm512_add_ps(_mm512_set1_ps(1.0f), e)),
                                      _mm512_add_ps(up, _mm512_set1_ps(act.up_offset))));
  }
}

inline void store(const float* c, int32_t rows, const float* bias, float* y, int64_t y_stride,
                  int32_t n, StoreMode mode) {
  const bool stream = mode == StoreMode::kStream && can_stream(y, y_stride, n);
  const __mmask16 low = first_lanes(std::min(16, n)), high = first_lanes(std::clamp(n - 16, 0, 16));
  const __m512 b0 = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
  const __m512 b1 = bias ? _mm512_loadu_ps(bias + 16) : _mm512_setzero_ps();
  for (int32_t r = 0; r < rows; ++r, c += 32, y += y_stride) {
    __m512 v0 = _mm512_add_ps(_mm512_loadu_ps(c), b0),
           v1 = _mm512_add_ps(_mm512_loadu_ps(c + 16), b1);
    if (stream) {
      _mm512_stream_ps(y, v0);
      _mm512_stream_ps(y + 16, v1);
      continue;
    }
    if (mode == StoreMode::kAccumulate) {
      v0 = _mm512_add_ps(_mm512_maskz_loadu_ps(low, y), v0);
      v1 = _mm512_add_ps(_mm512_maskz_loadu_ps(high, y + 16), v1);
    }
    _mm512_mask_storeu_ps(y, low, v0);
    _mm512_mask_storeu_ps(y + 16, high, v1);
  }
}

// c (+)= acc, sixteen channels.
inline void add_to(float* c, __m512 acc, bool first) {
  _mm512_storeu_ps(c, first ? acc : _mm512_add_ps(_mm512_loadu_ps(c), acc));
}

// Sixteen float32 rounded to bfloat16, to nearest even; NaN stays NaN (as tensor/numeric.h).
inline __m256i round_to_bf16(__m512 x) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __m512i out =
      _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), rounded, quiet);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(out, 16));
}

inline void pack_bf16(const tensor::PackedFormat&, const float* x, int32_t k, std::byte* dst,
                      int64_t step_stride, float*) {
  for (int32_t i = 0; i < k; i += 32, dst += step_stride) {
    const __m512 low = _mm512_maskz_loadu_ps(first_lanes(std::min(16, k - i)), x + i);
    const __m512 high =
        _mm512_maskz_loadu_ps(first_lanes(std::clamp(k - i - 16, 0, 16)), x + i + 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), round_to_bf16(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + 32), round_to_bf16(high));
  }
}

// The largest magnitude as bits, which order finite < infinite < NaN.
inline uint32_t largest_bits(const float* x, int32_t k) {
  __m512i m = _mm512_setzero_si512();
  for (int32_t i = 0; i < k; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(first_lanes(std::min(16, k - i)), x + i);
    m = _mm512_max_epi32(m,
                         _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)));
  }
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(m));
}

// q + 128, unsigned: what vpdpbusd and tdpbusd want on the activation side. Padding past k holds
// 128, that is q = 0.
inline void pack_int8(const tensor::PackedFormat&, const float* x, int32_t k, std::byte* dst,
                      int64_t step_stride, float* scale_out) {
  const uint32_t largest = largest_bits(x, k);
  float scale;
  std::memcpy(&scale, &largest, 4);
  scale /= 127.0f;
  const bool finite = largest < 0x7f800000u;
  const __m512 s = _mm512_set1_ps(scale);
  for (int32_t i = 0; i < k; i += 64, dst += step_stride) {
    if (!finite || scale == 0) {
      std::memset(dst, 128, 64);
      continue;
    }
    for (int32_t j = 0; j < 64; j += 16) {
      const __m512 v = _mm512_maskz_loadu_ps(first_lanes(std::clamp(k - i - j, 0, 16)), x + i + j);
      __m512 q = _mm512_div_ps(v, s);
      q = _mm512_max_ps(_mm512_min_ps(q, _mm512_set1_ps(127.0f)), _mm512_set1_ps(-127.0f));
      const __m512i unsigned_q = _mm512_add_epi32(_mm512_cvtps_epi32(q), _mm512_set1_epi32(128));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + j), _mm512_cvtepi32_epi8(unsigned_q));
    }
  }
  *scale_out = finite ? scale : std::numeric_limits<float>::quiet_NaN();
}

// The int32 sums in call.c become scaled floats in place, rid of the 128 that the activations
// carry.
inline void scale_int8_sums(const PanelCall& call) {
  for (int i = 0; i < 32; i += 16) {
    const __m512i compensation = _mm512_loadu_si512(call.w->compensation + call.panel * 32 + i);
    const __m512 channel_scales = _mm512_loadu_ps(call.w->scales + call.panel * 32 + i);
    for (int32_t r = 0; r < call.rows; ++r) {
      float* p = call.c + r * 32 + i;
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(p), compensation));
      _mm512_storeu_ps(
          p, _mm512_mul_ps(sum, _mm512_mul_ps(_mm512_set1_ps(call.row_scales[r]), channel_scales)));
    }
  }
}

}  // namespace moestro::kernels::cpu::avx512
MOESTRO_TARGET_END
