// Eight- and four-bit weights as float32, eight channels at a time: what the AVX2 kernels for
// floating-point activations have of their own (float_panel_avx2.h has the rest), and group scales
// of every type. Included by gemm_*_avx2.cpp only.
//
// A Widen says how 32 bytes of a tile row (eight channels, a lane of four bytes each) become four
// vectors of floats, for k, k + 1, k + 2, k + 3:
//   kHalves     1, or 2 where a byte holds two codes (low nibble: half 0)
//   kZero       floats stand for codes u = weight + kZero; 0: for the weight itself
//   byte_scale  floats of byte j are too large by 1 / byte_scale(j); activations make up for it
//   four        the floats of one half
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

// float8 e4m3 in the top byte of each lane, whatever lies below it: its seven bits become the end
// of a float's exponent and the top of its mantissa, too small by 2^120; subnormals come out right,
// as they are subnormal there too. NaN codes come out as +-480 (see nan_codes).
inline __m256 e4m3_of_top_byte(__m256i v) {
  const __m256i bits =
      _mm256_and_si256(_mm256_srai_epi32(v, 4), _mm256_set1_epi32(static_cast<int>(0x87f00000u)));
  return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f));
}
// All ones in the bytes that are e4m3's NaN.
inline __m256i nan_codes(__m256i v) {
  const __m256i magnitude = _mm256_set1_epi8(0x7f);
  return _mm256_cmpeq_epi8(_mm256_and_si256(v, magnitude), magnitude);
}

// Byte j of each lane moved to its top.
template <int j>
inline __m256i to_top(__m256i v) {
  if constexpr (j == 3)
    return v;
  else
    return _mm256_slli_epi32(v, 24 - 8 * j);
}

inline __m256 nan_where(__m256i sign, __m256 f) {  // a lane of ones is a NaN
  return _mm256_or_ps(f, _mm256_castsi256_ps(_mm256_srai_epi32(sign, 31)));
}

struct WidenFp8 {
  static constexpr int kHalves = 1;
  static constexpr float kZero = 0;
  static constexpr float byte_scale(int) { return 1.0f; }

  static void four(const std::byte* p, int, __m256 (&w)[4]) {
    const __m256i v = load_bytes(p);
    w[0] = e4m3_of_top_byte(to_top<0>(v));
    w[1] = e4m3_of_top_byte(to_top<1>(v));
    w[2] = e4m3_of_top_byte(to_top<2>(v));
    w[3] = e4m3_of_top_byte(to_top<3>(v));
    const __m256i nan = nan_codes(v);
    if (!_mm256_testz_si256(nan, nan)) [[unlikely]] {
      w[0] = nan_where(to_top<0>(nan), w[0]);
      w[1] = nan_where(to_top<1>(nan), w[1]);
      w[2] = nan_where(to_top<2>(nan), w[2]);
      w[3] = nan_where(to_top<3>(nan), w[3]);
    }
  }
};

// Codes 0..31 in the low bits of each byte: byte j is cut out where it stands and converted, which
// makes it 2^(8j) times too large. No shifts; and no loss, as 13 bits of a product with a bfloat16
// fit a float anywhere.
template <int code_bits>
inline void widen_in_place(__m256i v, __m256 (&w)[4]) {
  constexpr uint32_t kMask = (1u << code_bits) - 1;
  for (int j = 0; j < 4; ++j)
    w[j] = _mm256_cvtepi32_ps(
        _mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(kMask << (8 * j)))));
}

struct WidenInt4 {
  static constexpr int kHalves = 2;
  static constexpr float kZero = 8;
  static constexpr float byte_scale(int j) { return 1.0f / static_cast<float>(1 << (8 * j)); }

  static void four(const std::byte* p, int half, __m256 (&w)[4]) {
    const __m256i v = load_bytes(p);
    widen_in_place<4>(half ? _mm256_srli_epi32(v, 4) : v, w);
  }
};

// By table to 2 * (weight + 8): 4 to 28.
struct WidenFp4 {
  static constexpr int kHalves = 2;
  static constexpr float kZero = 8;
  static constexpr float byte_scale(int j) { return 0.5f / static_cast<float>(1 << (8 * j)); }

  static void four(const std::byte* p, int half, __m256 (&w)[4]) {
    const __m256i table =
        _mm256_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4,  //
                         16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4);
    const __m256i v = load_bytes(p);
    const __m256i codes =
        _mm256_and_si256(half ? _mm256_srli_epi32(v, 4) : v, _mm256_set1_epi8(15));
    widen_in_place<5>(_mm256_shuffle_epi8(table, codes), w);
  }
};

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
  if (type == DType::kF8E4M3) {
    return nan_where(to_top<0>(nan_codes(codes)), e4m3_of_top_byte(to_top<0>(codes)));
  }
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

}  // namespace moestro::kernels::cpu::avx2
MOESTRO_TARGET_END
