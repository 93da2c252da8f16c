// Four-bit integer weights times bfloat16 activations held as 16-bit integers of one power of two
// for a stretch of k (linear.h), which bytes can multiply: x = 256 high + low, both signed bytes. A
// core then multiplies codes four to a lane, as they lie, instead of making floats of them; the
// sums of a stretch are exact, so vectors and tiles give the same bits. Used by the two
// gemm_int4_int16 files, on gang workers; groups are multiples of 64, or none.
//
// Packed activations: 256 bytes a row and k-step of 128 values, the high bytes of values 0-63 and
// 64-127, then the low bytes. Beside a row lie two floats a stretch: the power of two, and the sum
// of the integers, which zero points are multiplied by.
#pragma once
#include "kernels/cpu/decode_avx512.h"
#include "kernels/cpu/rows_avx512.h"

namespace moestro::kernels::cpu {

// Rows that vectors multiply where there are tiles.
inline constexpr int32_t kInt16VectorRows = 3;
// call.c becomes the products with all their scales. Needs AVX512-VNNI.
void int4_int16_vnni_panel(const PanelCall& call, TileState& state);

inline constexpr int32_t kInt16StepBytes = 256;
// Values of k that share a power of two.
inline int32_t int16_stretch(const tensor::PackedFormat& f) { return f.group_k % 128 ? 64 : 128; }
inline int32_t int16_values_per_row(const tensor::PackedFormat& f, int32_t k) {
  const int32_t stretch = int16_stretch(f);
  return (k + stretch - 1) / stretch * 2;
}

}  // namespace moestro::kernels::cpu

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::cpu::avx512 {

// Up to `size` values, 64 or 128, to their integers: high bytes to dst, low bytes to dst + 128.
template <int size>
inline void pack_int16_stretch(const float* x, int32_t n, std::byte* dst, float* beside) {
  constexpr int kVectors = size / 16;
  __m512 v[kVectors];
  __m512i largest = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const __mmask16 lanes = first_lanes(std::clamp(n - 16 * i, 0, 16));
    v[i] = _mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_cvtepu16_epi32(round_to_bf16(_mm512_maskz_loadu_ps(lanes, x + 16 * i))), 16));
    largest = _mm512_max_epi32(
        largest, _mm512_and_si512(_mm512_castps_si512(v[i]), _mm512_set1_epi32(0x7fffffff)));
  }
  // 256 high + low ends at 32639: with all mantissa bits set, an exponent counts as one more.
  const auto bits = static_cast<uint32_t>(_mm512_reduce_max_epi32(largest));
  const uint32_t exponent = (bits + 0x10000) >> 23;
  const bool finite = bits < 0x7f800000u, zero = !finite || exponent < 28;  // under 2^-99
  const uint32_t unit_bits = zero ? 0 : (exponent - 14) << 23,
                 inverse_bits = zero ? 0 : (268 - exponent) << 23;
  float inverse;
  std::memcpy(&inverse, &inverse_bits, 4);
  __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const __m512i q = zero ? _mm512_setzero_si512()
                           : _mm512_cvtps_epi32(_mm512_mul_ps(v[i], _mm512_set1_ps(inverse)));
    const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(q, 24), 24),
                  high = _mm512_srai_epi32(_mm512_sub_epi32(q, low), 8);
    sum = _mm512_add_epi32(sum, q);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + 16 * i), _mm512_cvtepi32_epi8(high));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + 128 + 16 * i), _mm512_cvtepi32_epi8(low));
  }
  std::memcpy(beside, &unit_bits, 4);
  if (!finite) *beside = std::numeric_limits<float>::quiet_NaN();
  beside[1] = static_cast<float>(_mm512_reduce_add_epi32(sum));
}

// TileOps::pack_row.
inline void pack_int16(const tensor::PackedFormat& f, const float* x, int32_t k, std::byte* dst,
                       int64_t step_stride, float* beside) {
  const int32_t size = int16_stretch(f);
  for (int32_t i = 0; i < k; i += 128, dst += step_stride)
    for (int32_t j = 0; j < 128; j += size) {
      if (size == 128) {
        pack_int16_stretch<128>(x + i, std::min(128, k - i), dst, beside);
      } else if (i + j < k) {
        pack_int16_stretch<64>(x + i + j, std::min(64, k - i - j), dst + j, beside);
      } else {
        std::memset(dst + j, 0, 64);
        std::memset(dst + 128 + j, 0, 64);
        continue;
      }
      beside += 2;
    }
}

// The scales and zero points of a stretch of k of a panel.
class Int16Stretch {
 public:
  Int16Stretch(const tensor::PackedMatrix& m, int32_t panel) : m_(m), panel_(panel) {
    for (int h = 0; h < 2; ++h) {
      scale_[h] = _mm512_set1_ps(1.0f);
      zeros_[h] = _mm512_set1_ps(8.0f);
    }
  }
  void start(int32_t k) {
    const tensor::PackedFormat& f = m_.format;
    if (!f.group_k) return;
    const int32_t g = k / f.group_k;
    for (int h = 0; h < 2; ++h) {
      scale_[h] = load_scales(m_.panel_scales(panel_, g) + h * 16 * tensor::group_scale_bytes(f),
                              f.group_scale);
      if (f.zero_points)
        zeros_[h] = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(m_.panel_zeros(panel_, g) + h * 16))));
    }
  }
  // c[16] = or += the sums of one row, half h, with its scales; beside: of the row and stretch. The
  // power of two counts first: times a tiny scale it could vanish.
  void count(__m512i high, __m512i low, int h, const float* beside, float* c, bool first) const {
    const __m512 sum = _mm512_mul_ps(
        _mm512_fnmadd_ps(zeros_[h], _mm512_set1_ps(beside[1]),
                         _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low))),
        _mm512_set1_ps(beside[0]));
    _mm512_store_ps(c, first ? _mm512_mul_ps(sum, scale_[h])
                             : _mm512_fmadd_ps(sum, scale_[h], _mm512_load_ps(c)));
  }

 private:
  const tensor::PackedMatrix& m_;
  const int32_t panel_;
  __m512 scale_[2], zeros_[2];
};

// c[rows, 32] times the channels' scales.
inline void scale_channels(const PanelCall& call) {
  for (int h = 0; h < 2; ++h) {
    const __m512 channels = _mm512_loadu_ps(call.w->scales + call.panel * 32 + h * 16);
    for (int32_t r = 0; r < call.rows; ++r) {
      float* p = call.c + r * 32 + h * 16;
      _mm512_store_ps(p, _mm512_mul_ps(_mm512_load_ps(p), channels));
    }
  }
}

}  // namespace moestro::kernels::cpu::avx512
MOESTRO_TARGET_END
