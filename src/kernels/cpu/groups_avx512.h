// Group scales in AVX-512 and AMX kernels: sums over a stretch of k that shares all its scales are
// kept exact (integers) or in float32 without scales, then counted with them; and the packing of
// activation rows for those kernels. Included by gemm_*_avx512*.cpp and gemm_*_amx.cpp only.
//
// Beside a packed row lie its scales (one, or one a group of activations; none for bfloat16), then,
// where a format wants them, the sums of its values by group of weights: a weight is
// (code - zero) * scales, and the sum over zero * x needs no codes.
#pragma once
#include <cmath>

#include "kernels/cpu/decode_avx512.h"
#include "kernels/cpu/rows_avx512.h"

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::cpu::avx512 {

using tensor::ActivationType;
using tensor::PackedFormat;

// What activations become.
enum class Packed : uint8_t { kFloats, kBf16Pairs, kBytes };
// Where sums by group are needed: at zero points, or everywhere.
enum class Sums : uint8_t { kZeroPoints, kAll, kNever };

constexpr bool has_sums(const PackedFormat& f, Sums when) {
  return when == Sums::kAll || (when == Sums::kZeroPoints && f.zero_points);
}
constexpr int32_t activation_scales(const PackedFormat& f, int32_t k) {
  if (f.activation != ActivationType::kInt8 && f.activation != ActivationType::kFp8) return 0;
  return f.activation_group ? (k + f.activation_group - 1) / f.activation_group : 1;
}
template <Sums when>
int32_t group_values_per_row(const PackedFormat& f, int32_t k) {
  return activation_scales(f, k) + (has_sums(f, when) ? std::max(1, tensor::groups_of(f, k)) : 0);
}

// The scale of a group of activations; without one, or without a number, all count as zero.
struct ActivationScale {
  float scale;
  bool zero;

  ActivationScale(const PackedFormat& f, const float* x, int32_t k) {
    const uint32_t largest = largest_bits(x, k);
    std::memcpy(&scale, &largest, 4);
    scale /= f.activation == ActivationType::kInt8 ? 127.0f : 448.0f;
    const bool finite = largest < 0x7f800000u;
    if (f.activation_pow2 && finite && scale > 0) {
      int exponent;
      const float mantissa = std::frexp(scale, &exponent);
      scale = std::ldexp(1.0f, mantissa == 0.5f ? exponent - 1 : exponent);
    }
    zero = !finite || scale == 0;
    if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
  }
};

inline __m512 round_to_e4m3(__m512 q) {
  q = _mm512_max_ps(_mm512_min_ps(q, _mm512_set1_ps(448.0f)), _mm512_set1_ps(-448.0f));
  const __m512i u = _mm512_castps_si512(q);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 20), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_and_si512(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7ffff)), odd),
                       _mm512_set1_epi32(static_cast<int32_t>(0xfff00000u)));
  // Below 2^-6: multiples of 2^-9.
  const __m512 tiny = _mm512_roundscale_ps(q, 0x90);
  const __mmask16 is_tiny =
      _mm512_cmp_ps_mask(_mm512_abs_ps(q), _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);
  return _mm512_mask_mov_ps(_mm512_castsi512_ps(rounded), is_tiny, tiny);
}

// Sixteen values as the kernel multiplies them, in float32.
inline __m512 round_values(ActivationType type, __m512 x, const ActivationScale& scale) {
  if (type == ActivationType::kF32) return x;
  if (type == ActivationType::kBf16)
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(round_to_bf16(x)), 16));
  if (scale.zero) return _mm512_setzero_ps();
  const __m512 q = _mm512_div_ps(x, _mm512_set1_ps(scale.scale));
  if (type == ActivationType::kFp8) return round_to_e4m3(q);
  return _mm512_roundscale_ps(
      _mm512_max_ps(_mm512_min_ps(q, _mm512_set1_ps(127.0f)), _mm512_set1_ps(-127.0f)),
      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

template <Packed packed>
inline void put_values(__m512 v, std::byte* dst) {
  if constexpr (packed == Packed::kFloats) {
    _mm512_storeu_ps(dst, v);
  } else if constexpr (packed == Packed::kBytes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  } else {  // exact; of four, (0, 2) and (1, 3), as decode_avx512.h gives weights
    __m256i words = round_to_bf16(v);
    words = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xd8), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), words);
  }
}

// TileOps::pack_row of these kernels. Groups are multiples of 16.
template <Packed packed, Sums when>
void pack_groups(const PackedFormat& f, const float* x, int32_t k, std::byte* dst,
                 int64_t step_stride, float* beside) {
  constexpr int32_t kBytes = packed == Packed::kFloats ? 4 : packed == Packed::kBytes ? 1 : 2;
  const int32_t per_step = tensor::values_per_step(f);
  const int32_t group = f.activation_group ? f.activation_group : std::max(1, k);
  const bool scaled = activation_scales(f, k) > 0, summed = has_sums(f, when);
  float* sums = beside + activation_scales(f, k);
  const int32_t sum_group = f.group_k ? f.group_k : std::max(1, k);
  __m512 sum = _mm512_setzero_ps();
  ActivationScale scale(f, x, 0);
  const int32_t padded = (k + per_step - 1) / per_step * per_step;
  for (int32_t i = 0; i < padded; i += 16) {
    std::byte* to = dst + i / per_step * step_stride + i % per_step * kBytes;
    if (i >= k) {
      put_values<packed>(_mm512_setzero_ps(), to);
      continue;
    }
    if (scaled && i % group == 0) {
      scale = ActivationScale(f, x + i, std::min(group, k - i));
      beside[i / group] = scale.scale;
    }
    const __m512 v = round_values(
        f.activation, _mm512_maskz_loadu_ps(first_lanes(std::min(16, k - i)), x + i), scale);
    put_values<packed>(v, to);
    if (!summed) continue;
    sum = _mm512_add_ps(sum, v);
    if ((i + 16) % sum_group && i + 16 < k) continue;
    *sums++ = _mm512_reduce_add_ps(sum);
    sum = _mm512_setzero_ps();
  }
}

// The scales and zero points of a stretch of k.
class Stretch {
 public:
  // Everything but the rows; `zero` is what a code of zero is where there are no zero points.
  Stretch(const PanelCall& call, bool sums, float zero)
      : call_(call),
        f_(call.w->format),
        groups_(f_.group_k && !decoded_with_scales(f_)),
        sums_(sums),
        zero_(zero),
        scales_per_row_(activation_scales(f_, call.w->k)),
        per_row_(scales_per_row_ + (sums ? std::max(1, tensor::groups_of(f_, call.w->k)) : 0)) {}

  // Where the stretch that starts at value k ends, if `limit` is not before: at multiples of 128 in
  // any case where there are groups, so that the order of a sum does not follow from how kernels
  // cut k into pieces.
  int32_t end(int32_t k, int32_t limit) const {
    if (groups_ || f_.activation_group) limit = std::min(limit, (k / 128 + 1) * 128);
    if (groups_) limit = std::min(limit, (k / f_.group_k + 1) * f_.group_k);
    if (f_.activation_group)
      limit = std::min(limit, (k / f_.activation_group + 1) * f_.activation_group);
    return limit;
  }
  void start(int32_t k) {
    for (int h = 0; h < 2; ++h) {
      scale_[h] = _mm512_set1_ps(1.0f);
      zeros_[h] = _mm512_set1_ps(zero_);
    }
    activation_ = f_.activation_group ? k / f_.activation_group : 0;
    sum_ = scales_per_row_;
    if (!groups_) return;
    const int32_t g = k / f_.group_k;
    if (sums_) sum_ += g;
    for (int h = 0; h < 2; ++h) {
      scale_[h] = load_scales(
          call_.w->panel_scales(call_.panel, g) + h * 16 * tensor::group_scale_bytes(f_),
          f_.group_scale);
      if (f_.zero_points)  // relative to the 8 that bfloat16 codes have taken off already
        zeros_[h] = _mm512_add_ps(
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(
                reinterpret_cast<const __m128i*>(call_.w->panel_zeros(call_.panel, g) + h * 16)))),
            _mm512_set1_ps(zero_ - 8.0f));
    }
  }
  // c[rows, 32] = or += t[rows, 32] with all scales but the channels' and the whole rows'; rows
  // from `first_row` of the call on.
  template <bool integers>
  void count(const float* t, int32_t first_row, int32_t rows, float* c, bool first) const {
    if (sums_)
      return f_.activation_group ? count_rows<integers, true, true>(t, first_row, rows, c, first)
                                 : count_rows<integers, true, false>(t, first_row, rows, c, first);
    f_.activation_group ? count_rows<integers, false, true>(t, first_row, rows, c, first)
                        : count_rows<integers, false, false>(t, first_row, rows, c, first);
  }
  // The channels' scales, and the rows' where they have one.
  void finish() const {
    const bool row_scale = scales_per_row_ == 1 && !f_.activation_group;
    for (int h = 0; h < 2; ++h) {
      const __m512 channels = _mm512_loadu_ps(call_.w->scales + call_.panel * 32 + h * 16);
      for (int32_t r = 0; r < call_.rows; ++r) {
        float* p = call_.c + r * 32 + h * 16;
        const __m512 scale =
            row_scale ? _mm512_mul_ps(channels, _mm512_set1_ps(call_.row_scales[r * per_row_]))
                      : channels;
        _mm512_storeu_ps(p, _mm512_mul_ps(_mm512_loadu_ps(p), scale));
      }
    }
  }
  // The same for int32 sums over all of k, which are exact.
  void finish_integers() const {
    for (int32_t r = 0; r < call_.rows; ++r) {
      const float* beside = call_.row_scales + int64_t{r} * per_row_;
      const __m512i correction =
          _mm512_set1_epi32(sums_ ? static_cast<int32_t>(zero_ * beside[1]) : 0);
      for (int h = 0; h < 2; ++h) {
        float* p = call_.c + r * 32 + h * 16;
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(p), correction));
        _mm512_storeu_ps(
            p, _mm512_mul_ps(sum, _mm512_mul_ps(_mm512_set1_ps(beside[0]),
                                                _mm512_loadu_ps(call_.w->scales + call_.panel * 32 +
                                                                h * 16))));
      }
    }
  }

 private:
  template <bool integers, bool sums, bool activation_groups>
  void count_rows(const float* t, int32_t first_row, int32_t rows, float* c, bool first) const {
    // Copies: stores to c do not touch them, which the compiler cannot know of members.
    const __m512 scales[2] = {scale_[0], scale_[1]}, zeros[2] = {zeros_[0], zeros_[1]};
    const int64_t per_row = per_row_;
    const float* beside = call_.row_scales + first_row * per_row;
    const float *sum = beside + sum_, *activation = beside + activation_;
    for (int32_t r = 0; r < rows; ++r, sum += per_row, activation += per_row)
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const int32_t at = r * 32 + h * 16;
        __m512 v =
            integers ? _mm512_cvtepi32_ps(_mm512_loadu_si512(t + at)) : _mm512_loadu_ps(t + at);
        if constexpr (sums) v = _mm512_fnmadd_ps(zeros[h], _mm512_set1_ps(*sum), v);
        __m512 scale = scales[h];
        if constexpr (activation_groups) scale = _mm512_mul_ps(scale, _mm512_set1_ps(*activation));
        _mm512_storeu_ps(c + at, first ? _mm512_mul_ps(v, scale)
                                       : _mm512_fmadd_ps(v, scale, _mm512_loadu_ps(c + at)));
      }
  }

  const PanelCall& call_;
  const PackedFormat& f_;
  const bool groups_, sums_;
  const float zero_;
  const int32_t scales_per_row_;
  const int64_t per_row_;
  int32_t activation_ = 0, sum_ = 0;
  __m512 scale_[2], zeros_[2];
};

}  // namespace moestro::kernels::cpu::avx512
MOESTRO_TARGET_END
