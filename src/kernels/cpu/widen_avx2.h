// Eight- and four-bit weights as float32, eight channels at a time: what the AVX2 kernels for
// floating-point activations have of their own (float_panel_avx2.h has the rest), and group scales
// of every type. Included by gemm_*_avx2.cpp only.
//
// A Widen says how 32 bytes of a tile row (eight channels, a lane of four bytes each) become four
// vectors of floats, for k, k + 1, k + 2, k + 3:
//   kHalves     1, or 2 where a byte holds two codes (low nibble: half 0)
//   kVectors    vectors of eight channels that one row of activations takes at a time
//   kZero       floats stand for codes u = weight + kZero; 0: for the weight itself
//   byte_scale  floats of byte j are too large by 1 / byte_scale(j); activations make up for it
//   prepare     what the four of a half have in common
//   widen<j>    one of them
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

// A constant that the compiler takes for a variable, so that it stays in a register or in memory:
// g++ 12 otherwise builds it anew from an integer inside the innermost loop.
inline __m256i kept(__m256i constant) {
  asm("" : "+x"(constant));
  return constant;
}
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

struct WidenFp8 {
  static constexpr int kHalves = 1;
  static constexpr int kVectors = 2;
  static constexpr float kZero = 0;
  static constexpr float byte_scale(int) { return 1.0f; }

  struct Prepared {
    __m256i even, odd;  // the weights as bfloat16: bytes 0 and 2 of each lane, 1 and 3
  };
  template <int half>
  static Prepared prepare(__m256i v) {
    if (all_normal(v)) [[likely]]
      return {normal_top_bytes(_mm256_slli_epi16(v, 8)), normal_top_bytes(v)};
    return prepare_any(v);
  }
  template <int j>
  static __m256 widen(const Prepared& p) {
    const __m256i pairs = j % 2 ? p.odd : p.even;
    return _mm256_castsi256_ps(
        j / 2 ? _mm256_and_si256(pairs, kept(_mm256_set1_epi32(static_cast<int>(0xffff0000u))))
              : _mm256_slli_epi32(pairs, 16));
  }

 private:
  [[gnu::noinline, gnu::cold]] static Prepared prepare_any(__m256i v) {
    return {as_bf16(e4m3_of_top_byte(top_byte<0>(v)), e4m3_of_top_byte(top_byte<2>(v))),
            as_bf16(e4m3_of_top_byte(top_byte<1>(v)), e4m3_of_top_byte(top_byte<3>(v)))};
  }
  // Are all bytes normal numbers: not zero, subnormal or NaN? Twice the magnitude is then 16..252.
  static bool all_normal(__m256i v) {
    const __m256i from_16 = _mm256_add_epi8(_mm256_add_epi8(v, v), kept(_mm256_set1_epi8(-16)));
    const __m256i others =
        _mm256_subs_epu8(from_16, kept(_mm256_set1_epi8(static_cast<char>(236))));
    return _mm256_testz_si256(others, others);
  }
  // The upper byte of each 16 bits, a normal number, as bfloat16.
  static __m256i normal_top_bytes(__m256i v) {
    const __m256i bits = _mm256_and_si256(_mm256_srai_epi16(v, 4),
                                          kept(_mm256_set1_epi16(static_cast<int16_t>(0x87f0))));
    return _mm256_add_epi16(bits, kept(_mm256_set1_epi16(120 << 7)));
  }
  static __m256i as_bf16(__m256 low, __m256 high) {
    return _mm256_blend_epi16(_mm256_srli_epi32(_mm256_castps_si256(low), 16),
                              _mm256_castps_si256(high), 0xaa);
  }
};

// Codes 0..31 in the low bits of each byte: byte j is cut out where it stands and converted, which
// makes it 2^(8j) times too large. No shifts; and no loss, as 13 bits of a product with a bfloat16
// fit a float anywhere.
struct ByteMask {
  alignas(32) uint32_t lanes[8];
  constexpr explicit ByteMask(uint32_t m) : lanes{m, m, m, m, m, m, m, m} {}
};
template <int code_bits, int j>
inline constexpr ByteMask kByteMask{((1u << code_bits) - 1) << (8 * j)};

template <int code_bits, int j>
inline __m256 widen_in_place(__m256i v) {
  __m256i code;
  // The mask straight from memory: g++ 12 keeps masks in registers and sums in memory instead.
  asm("vpand %2, %1, %0" : "=x"(code) : "x"(v), "m"(kByteMask<code_bits, j>));
  return _mm256_cvtepi32_ps(code);
}

struct WidenInt4 {
  static constexpr int kHalves = 2;
  static constexpr int kVectors = 4;
  static constexpr float kZero = 8;
  static constexpr float byte_scale(int j) { return 1.0f / static_cast<float>(1 << (8 * j)); }

  using Prepared = __m256i;
  template <int half>
  static Prepared prepare(__m256i v) {
    return half ? _mm256_srli_epi32(v, 4) : v;
  }
  template <int j>
  static __m256 widen(Prepared v) {
    return widen_in_place<4, j>(v);
  }
};

// By table to 2 * (weight + 8): 4 to 28.
struct WidenFp4 {
  static constexpr int kHalves = 2;
  static constexpr int kVectors = 4;
  static constexpr float kZero = 8;
  static constexpr float byte_scale(int j) { return 0.5f / static_cast<float>(1 << (8 * j)); }

  using Prepared = __m256i;
  template <int half>
  static Prepared prepare(__m256i v) {
    const __m256i table =
        _mm256_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4,  //
                         16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4);
    const __m256i codes =
        _mm256_and_si256(half ? _mm256_srli_epi32(v, 4) : v, _mm256_set1_epi8(15));
    return _mm256_shuffle_epi8(table, codes);
  }
  template <int j>
  static __m256 widen(Prepared v) {
    return widen_in_place<5, j>(v);
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

// How the sums of a run of R rows join c: c += scale * row scale * (sum - zero * the row's sum).
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
        const __m256 scale = _mm256_mul_ps(_mm256_load_ps(e.scale_ + v * 8), row_scale);
        float* c = e.c_ + r * 32 + v * 8;
        _mm256_store_ps(c, _mm256_fmadd_ps(sum, scale, _mm256_load_ps(c)));
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
