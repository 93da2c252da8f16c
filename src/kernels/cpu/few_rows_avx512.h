// Up to four rows times a panel of quantised weights that count as floats, straight from the
// registers: no decoded copy, no tiles. 128 four-bit codes cost 20 vector instructions and 64
// float8 codes 17, of which a core does two a cycle. Included by gemm_*_amx.cpp only.
//
// The sums are those of tdpbf16ps bit by bit (but for what it flushes below 2^-126), so a row does
// not show which one ran: of 32 values of k, a tile step, the first of each of the 16 pairs are
// added in one chain of fused multiply-adds from zero, the second in another, then both together
// (Intel's manual, volume 2, TDPBF16PS). Four-bit codes are looked up in a table of float32:
// vpermps takes the low four bits of each lane, and lanes loaded from one to three bytes further on
// hold the other bytes there.
#pragma once
#include "kernels/cpu/groups_avx512.h"
#include "kernels/cpu/next_weights.h"

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::cpu::avx512 {

inline constexpr int32_t kFewRows = 4;

// One k-step of a panel.
struct KStep {
  const tensor::PackedMatrix& m;
  int32_t panel, step;
  const std::byte* w;
  PanelLines& lines;
  const float* x;  // [tile step][row][32]: the first values of 16 pairs, then the second
  float* sums;     // [tile step][row][32]
};

// Both tiles of a panel side by side where the registers suffice.
template <int R>
inline constexpr int kTilesAtOnce = R <= 2 ? 2 : 1;

// What the codes of a row, low nibbles or high ones, are multiplied by.
inline __m512 e4m3_scales(const KStep& s, int tile, int row, int high) {
  const int32_t group = (s.step * 128 + 64 * high + 4 * row) / s.m.format.group_k;
  return group < s.m.groups()  // past the end of k: anything finite
             ? load_scales(s.m.panel_scales(s.panel, group) + tile * 16, DType::kF8E4M3)
             : _mm512_setzero_ps();
}

// The four-bit codes of a k-step: tile steps 0 and 1 are the low nibbles of rows 0-7 and 8-15,
// 2 and 3 the high ones. e4m3 group scales
// are multiplied in where `scaled`.
template <int R, bool scaled>
inline void nibble_sums(const KStep& s, __m512 values) {
  constexpr int kTiles = kTilesAtOnce<R>;
  for (int first = 0; first < 2; first += kTiles)
    for (int half = 0; half < 2; ++half) {
      __m512 acc[kTiles][R][2][2], scales[kTiles][2];  // [tile][row][low, high][chain]
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t) {
        scales[t][0] = scales[t][1] = _mm512_setzero_ps();
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
          acc[t][r][0][0] = acc[t][r][0][1] = acc[t][r][1][0] = acc[t][r][1][1] =
              _mm512_setzero_ps();
      }
      for (int i = 0; i < 8; ++i)
#pragma GCC unroll 2
        for (int t = 0; t < kTiles; ++t) {
          const int row = half * 8 + i;
          const std::byte* from = s.w + (first + t) * 1024 + row * 64;
          s.lines.line(kTiles == 2 ? row * 2 + t : first * 16 + row);
          if constexpr (scaled)
            if (i % 4 == 0)
              for (int high = 0; high < 2; ++high)
                scales[t][high] = e4m3_scales(s, first + t, row, high);
#pragma GCC unroll 4
          for (int byte = 0; byte < 4; ++byte) {
            const __m512i codes = _mm512_loadu_si512(from + byte);
            __m512 low = _mm512_permutexvar_ps(codes, values),
                   high = _mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), values);
            if constexpr (scaled) {
              low = _mm512_mul_ps(low, scales[t][0]);
              high = _mm512_mul_ps(high, scales[t][1]);
            }
            const int chain = byte / 2;
            const float* x = s.x + half * R * 32 + chain * 16 + 2 * i + byte % 2;
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
              acc[t][r][0][chain] =
                  _mm512_fmadd_ps(_mm512_set1_ps(x[r * 32]), low, acc[t][r][0][chain]);
              acc[t][r][1][chain] =
                  _mm512_fmadd_ps(_mm512_set1_ps(x[(2 * R + r) * 32]), high, acc[t][r][1][chain]);
            }
          }
        }
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
          for (int high = 0; high < 2; ++high)
            _mm512_store_ps(s.sums + ((half + 2 * high) * R + r) * 32 + (first + t) * 16,
                            _mm512_add_ps(acc[t][r][high][0], acc[t][r][high][1]));
    }
}

template <int R>
inline void step_sums(Int4Weights, const KStep& s) {
  nibble_sums<R, false>(s, _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7));
}
template <int R>
inline void step_sums(Fp4Weights, const KStep& s) {
  const __m512 values =
      _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
  if (decoded_with_scales(s.m.format) && s.m.format.group_k)
    nibble_sums<R, true>(s, values);
  else
    nibble_sums<R, false>(s, values);
}

// Sign and code of the float8 in the upper bits of each lane at their places in a float32, with an
// exponent 112 larger. It has to be 120: the values are 2^-8 times what they are to be.
inline __m512 place_fp8(__m512i x) {
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
      x, _mm512_set1_epi32(static_cast<int32_t>(0x87f00000u)), _mm512_set1_epi32(112 << 23),
      0xea));  // and, or
}
// A row of codes as four vectors.
inline void fp8_floats(__m512i codes, __m512 out[4]) {
  const __m512i odd = _mm512_srai_epi16(codes, 4),
                even = _mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 4);
  out[0] = place_fp8(_mm512_slli_epi32(even, 16));
  out[1] = place_fp8(_mm512_slli_epi32(odd, 16));
  out[2] = place_fp8(even);
  out[3] = place_fp8(odd);
}
// The same for any code: zero, the subnormals and NaN are what the other does not give.
inline void any_fp8_floats(__m512i codes, __m512 out[4]) {
  for (unsigned byte = 0; byte < 4; ++byte)
    out[byte] = _mm512_mul_ps(
        e4m3_to_ps(_mm512_and_si512(_mm512_srli_epi32(codes, 8 * byte), _mm512_set1_epi32(0xff))),
        _mm512_set1_ps(0x1p-8f));
}
inline bool only_normal_fp8(const std::byte* four_rows) {
  __m512i least = _mm512_set1_epi8(0x7f);
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r)  // (code + 1) modulo 128: 0 is NaN, 1..8 are zero and the subnormals
    least = _mm512_min_epu8(
        least, _mm512_and_si512(
                   _mm512_add_epi8(_mm512_load_si512(four_rows + r * 64), _mm512_set1_epi8(1)),
                   _mm512_set1_epi8(0x7f)));
  return !_mm512_cmplt_epu8_mask(least, _mm512_set1_epi8(9));
}

// Adds four rows of codes times x to two chains a row.
template <int R, bool any>
inline void add_four_fp8_rows(const std::byte* from, const float* x, __m512 (&acc)[R][2]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m512 w[4];
    const __m512i codes = _mm512_load_si512(from + i * 64);
    any ? any_fp8_floats(codes, w) : fp8_floats(codes, w);
#pragma GCC unroll 4
    for (int byte = 0; byte < 4; ++byte)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        acc[r][byte / 2] =
            _mm512_fmadd_ps(_mm512_set1_ps(x[r * 32 + byte / 2 * 16 + 2 * i + byte % 2]), w[byte],
                            acc[r][byte / 2]);
  }
}

template <int R>
inline void step_sums(Fp8Weights, const KStep& s) {
  constexpr int kTiles = kTilesAtOnce<R>;
  for (int first = 0; first < 2; first += kTiles)
    for (int half = 0; half < 2; ++half) {
      __m512 acc[kTiles][R][2];
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) acc[t][r][0] = acc[t][r][1] = _mm512_setzero_ps();
      for (int four = 0; four < 8; four += 4) {
        const int row = half * 8 + four;
#pragma GCC unroll 2
        for (int t = 0; t < kTiles; ++t) {
          const std::byte* from = s.w + (first + t) * 1024 + row * 64;
          for (int i = 0; i < 4; ++i)
            s.lines.line(kTiles == 2 ? row * 2 + t * 4 + i : first * 16 + row + i);
          const float* x = s.x + half * R * 32 + four * 2;
          if (only_normal_fp8(from)) [[likely]]
            add_four_fp8_rows<R, false>(from, x, acc[t]);
          else
            add_four_fp8_rows<R, true>(from, x, acc[t]);
        }
      }
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
          _mm512_store_ps(
              s.sums + (half * R + r) * 32 + (first + t) * 16,
              _mm512_mul_ps(_mm512_add_ps(acc[t][r][0], acc[t][r][1]), _mm512_set1_ps(256.0f)));
    }
}

// The rows' pairs of bfloat16 (Packed::kBf16Pairs) of a k-step, as KStep::x.
template <int R, int32_t sub>
inline void widen_pairs(const std::byte* a, float* x) {
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int32_t j = 0; j < sub; ++j) {
      const __m512i pairs = _mm512_loadu_si512(a + (r * sub + j) * 64);
      float* to = x + (j * R + r) * 32;
      _mm512_store_ps(to, _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)));
      _mm512_store_ps(to + 16, _mm512_castsi512_ps(_mm512_and_si512(pairs, high)));
    }
}

template <class Weights, int R>
inline void panel_of_rows(const PanelCall& call, Stretch& stretch) {
  constexpr int32_t sub = Weights::kSub;
  const tensor::PackedMatrix& m = *call.w;
  const int32_t k_steps = m.k_steps();
  const std::byte* const panel = m.panel(call.panel);
  PanelLines lines(call);
  alignas(64) float x[sub * R * 32], sums[sub * R * 32], t[R * 32];
  int32_t begin = 0, end = stretch.end(0, m.k);
  for (int32_t s = 0, k = 0; s < k_steps; ++s) {
    widen_pairs<R, sub>(call.a + int64_t{s} * R * sub * 64, x);
    lines.start_step(s);
    step_sums<R>(Weights{}, {m, call.panel, s, panel + s * tensor::kKStepBytes, lines, x, sums});
    for (int32_t j = 0; j < sub && k < m.k; ++j) {
      for (int32_t i = 0; i < R * 32; i += 16) {
        const __m512 sum = _mm512_load_ps(sums + j * R * 32 + i);
        _mm512_store_ps(t + i, k == begin ? sum : _mm512_add_ps(_mm512_load_ps(t + i), sum));
      }
      k += 32;
      if (k < end) continue;
      stretch.start(begin);
      stretch.count<false>(t, 0, R, call.c, begin == 0);
      begin = end;
      end = stretch.end(end, m.k);
    }
  }
  stretch.finish();
}

// call.c becomes the products of up to kFewRows rows with all their scales. Activations are
// Packed::kBf16Pairs; groups are multiples of 32, but for those that decoders multiply in.
template <class Weights>
void few_rows(const PanelCall& call, Stretch& stretch) {
  switch (call.rows) {
    case 1:
      return panel_of_rows<Weights, 1>(call, stretch);
    case 2:
      return panel_of_rows<Weights, 2>(call, stretch);
    case 3:
      return panel_of_rows<Weights, 3>(call, stretch);
    default:
      return panel_of_rows<Weights, 4>(call, stretch);
  }
}

}  // namespace moestro::kernels::cpu::avx512
MOESTRO_TARGET_END
