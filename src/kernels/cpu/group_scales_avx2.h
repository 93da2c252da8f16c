// Group scales of every type as float32, and how sums that share scales are added up: for the AVX2
// kernels of formats with groups. Included by gemm_*_avx2.cpp only.
#pragma once
#include "kernels/cpu/rows_avx2.h"

namespace moestro::kernels::cpu::avx2 {

// Values of k in a run: a stretch inside 64 values that shares all scales.
constexpr int32_t run_of(const tensor::PackedFormat& f) {
  return f.group_k == 16 || f.group_k == 32 ? f.group_k : 64;
}
// Floats beside a row, fp8 or int8 activations: a scale a group of activations.
inline int32_t activation_scales_per_row(const tensor::PackedFormat& f, int32_t k) {
  return f.activation_group ? (k + f.activation_group - 1) / f.activation_group : 1;
}

}  // namespace moestro::kernels::cpu::avx2

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu::avx2 {

inline __m256i load_bytes(const std::byte* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

// float8 e4m3 in the top byte of each lane, zeros below it, as floats, with its NaNs. Its seven
// bits become the end of a float's exponent and the top of its mantissa, which is too small by
// 2^120. Right for subnormals too; but they are subnormal floats first, and those cost the
// processor dozens of cycles.
inline __m256 e4m3_of_top_byte(__m256i v) {
  const __m256i bits =
      _mm256_and_si256(_mm256_srai_epi32(v, 4), _mm256_set1_epi32(static_cast<int>(0x87f00000u)));
  const __m256i magnitude = _mm256_set1_epi32(0x7f000000);
  const __m256i nan = _mm256_cmpeq_epi32(_mm256_and_si256(v, magnitude), magnitude);
  return _mm256_or_ps(_mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f)),
                      _mm256_castsi256_ps(nan));
}

// Byte j of each lane alone at its top.
template <int j>
inline __m256i top_byte(__m256i v) {
  return _mm256_and_si256(_mm256_slli_epi32(v, 24 - 8 * j),
                          _mm256_set1_epi32(static_cast<int>(0xff000000u)));
}

// Eight group scales of any type as float32. p: where the 32 of a panel's group begin.
inline __m256 load_scales(DType type, const std::byte* p, int first) {
  const auto bytes = [&](int width) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + first * width));
  };
  if (type == DType::kBF16)
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bytes(2)), 16));
  if (type == DType::kF16) return _mm256_cvtph_ps(bytes(2));
  if (type == DType::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(p) + first);
  const __m256i codes =
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + first)));
  if (type == DType::kF8E4M3) return e4m3_of_top_byte(top_byte<0>(codes));
  // e8m0: 2^(code - 127). Code 0 is a subnormal and 255 NaN: both have the mantissa's top bit.
  const __m256i ends = _mm256_or_si256(_mm256_cmpeq_epi32(codes, _mm256_setzero_si256()),
                                       _mm256_cmpeq_epi32(codes, _mm256_set1_epi32(255)));
  return _mm256_castsi256_ps(_mm256_or_si256(
      _mm256_slli_epi32(codes, 23), _mm256_and_si256(ends, _mm256_set1_epi32(0x00400000))));
}

// Scales and zero points of the runs of one k-step, as floats [run][32].
struct StepScales {
  static constexpr int32_t kMaxRuns = 8;
  alignas(64) float scale[kMaxRuns][32];
  alignas(64) float zero[kMaxRuns][32];

  // What holds where nothing is loaded: scales of one.
  explicit StepScales(float zero_point) {
    std::fill_n(&scale[0][0], kMaxRuns * 32, 1.0f);
    std::fill_n(&zero[0][0], kMaxRuns * 32, zero_point);
  }

  // Run `run` begins at k. Past the matrix's k (padding) nothing is loaded: what is multiplied
  // there is zero.
  void load(const tensor::PackedMatrix& w, int32_t panel, int32_t run, int32_t k) {
    if (k >= w.k) {
      std::fill_n(scale[run], 32, 0.0f);
      std::fill_n(zero[run], 32, 0.0f);
      return;
    }
    const int32_t g = k / w.format.group_k;
    const std::byte* from = w.panel_scales(panel, g);
    for (int i = 0; i < 32; i += 8)
      _mm256_store_ps(scale[run] + i, load_scales(w.format.group_scale, from, i));
    if (!w.format.zero_points) return;
    const uint8_t* zeros = w.panel_zeros(panel, g);
    for (int i = 0; i < 32; i += 8)
      _mm256_store_ps(zero[run] + i, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(
                                         reinterpret_cast<const __m128i*>(zeros + i)))));
  }
};

// How the sums of a run of R rows join c: c += scale * (row scale * (sum - zero * the row's sum)).
class RunEnd {
 public:
  RunEnd(const StepScales& scales, int32_t run, float* c, int32_t channel)
      : scale_(scales.scale[run] + channel), zero_(scales.zero[run] + channel), c_(c + channel) {}
  // Row r's are at [r * stride].
  void set_sums(const float* sums, int64_t stride) {
    sums_ = sums;
    sums_stride_ = stride;
  }
  void set_row_scales(const float* scales, int64_t stride) {
    row_scales_ = scales;
    row_scales_stride_ = stride;
  }

  template <int R, int V, bool zero>
  void add(const __m256 (&acc)[R][V]) const {
    const RunEnd e = *this;  // vector stores may alias anything, but not this
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 row_scale = _mm256_broadcast_ss(e.row_scales_ + r * e.row_scales_stride_);
      const __m256 sums = _mm256_broadcast_ss(e.sums_ + r * e.sums_stride_);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        __m256 sum = acc[r][v];
        if constexpr (zero) sum = _mm256_fnmadd_ps(_mm256_load_ps(e.zero_ + v * 8), sums, sum);
        sum = _mm256_mul_ps(sum, row_scale);
        float* c = e.c_ + r * 32 + v * 8;
        _mm256_store_ps(c,
                        _mm256_fmadd_ps(sum, _mm256_load_ps(e.scale_ + v * 8), _mm256_load_ps(c)));
      }
    }
  }

 private:
  static constexpr float kOne = 1.0f;
  const float *scale_, *zero_;
  float* c_;
  const float *sums_ = &kOne, *row_scales_ = &kOne;
  int64_t sums_stride_ = 0, row_scales_stride_ = 0;
};

// c times the channels' scales, and the rows' (at [r * stride]) if given: the end of a panel.
inline void scale_rows(const PanelCall& call, const float* row_scales, int64_t stride) {
  for (int32_t r = 0; r < call.rows; ++r)
    for (int32_t i = 0; i < 32; i += 8) {
      __m256 scale = _mm256_load_ps(call.w->scales + call.panel * 32 + i);
      if (row_scales) scale = _mm256_mul_ps(scale, _mm256_set1_ps(row_scales[r * stride]));
      float* c = call.c + r * 32 + i;
      _mm256_store_ps(c, _mm256_mul_ps(_mm256_load_ps(c), scale));
    }
}

}  // namespace moestro::kernels::cpu::avx2
MOESTRO_TARGET_END
