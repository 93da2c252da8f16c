// Quantised weights of a panel as operands: eight- and four-bit floats and four-bit integers as
// bfloat16, four-bit integers as unsigned bytes. Every result is exact. Used by the AMX and AVX-512
// kernels of those formats, a piece of a panel at a time, into a buffer that stays in L1.
//
// A decoder turns a k-step into kSub tile pairs of 64 bytes of k each (32 bfloat16, 64 bytes), laid
// out as the k-steps of packed_matrix.h. Of four consecutive k, bfloat16 pairs hold (0, 2) and
// (1, 3), which is what a shift by a byte gives; activations are packed in the same order
// (Packed::kBf16Pairs).
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "platform/target.h"
#include "tensor/packed_matrix.h"

MOESTRO_TARGET_AVX512_BEGIN
namespace moestro::kernels::cpu::avx512 {

// Weights come from memory, one row after another.
inline void prefetch_weights(const std::byte* w) {
  constexpr int64_t kAhead = 6144;
  _mm_prefetch(reinterpret_cast<const char*>(w + kAhead), _MM_HINT_T0);
}

// Sixteen e8m0 or e4m3 codes, in the low bytes of lanes, as float32.
inline __m512 e8m0_to_ps(__m512i code) {
  const __m512i bits = _mm512_slli_epi32(code, 23);
  // 2^-127 is subnormal, 255 no number.
  const __m512i low = _mm512_mask_mov_epi32(
      bits, _mm512_cmpeq_epi32_mask(code, _mm512_setzero_si512()), _mm512_set1_epi32(0x400000));
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(
      low, _mm512_cmpeq_epi32_mask(code, _mm512_set1_epi32(255)), _mm512_set1_epi32(0x7fc00000)));
}
inline __m512 e4m3_to_ps(__m512i code) {
  const __m512i low7 = _mm512_and_si512(code, _mm512_set1_epi32(0x7f));
  // Subnormals: m * 2^-9.
  const __m512 tiny = _mm512_mul_ps(_mm512_cvtepi32_ps(low7), _mm512_set1_ps(0x1p-9f));
  __m512i bits = _mm512_add_epi32(_mm512_slli_epi32(low7, 20), _mm512_set1_epi32(120 << 23));
  bits = _mm512_mask_mov_epi32(bits, _mm512_cmplt_epi32_mask(low7, _mm512_set1_epi32(8)),
                               _mm512_castps_si512(tiny));
  bits = _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(low7, _mm512_set1_epi32(0x7f)),
                               _mm512_set1_epi32(0x7fc00000));
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(code, _mm512_set1_epi32(0x80)), 24);
  return _mm512_castsi512_ps(_mm512_or_si512(bits, sign));
}

// Sixteen scales of any scale type.
inline __m512 load_scales(const std::byte* p, DType type) {
  const auto* v = reinterpret_cast<const __m256i*>(p);
  switch (type) {
    case DType::kBF16:
      return _mm512_castsi512_ps(
          _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(v)), 16));
    case DType::kF16:
      return _mm512_cvtph_ps(_mm256_loadu_si256(v));
    case DType::kF8E8M0:
    case DType::kF8E4M3: {
      const __m512i codes =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      return type == DType::kF8E8M0 ? e8m0_to_ps(codes) : e4m3_to_ps(codes);
    }
    default:
      return _mm512_loadu_ps(p);
  }
}

// float8 e4m3 as bfloat16, whose exponent is 120 larger: the code's upper four bits (sign and three
// of the exponent) give the upper byte, the lower four move to the top of the lower byte.
// Subnormals and NaN, which are rare, are put in after a look for any in four rows.
struct Fp8Weights {
  static constexpr int32_t kSub = 2;
  static constexpr tensor::WeightType kWeight = tensor::WeightType::kFp8;

  // Pairs (0, 2) and (1, 3) of a row of codes.
  static void widen(__m512i x, __m512i& even, __m512i& odd) {
    const __m512i upper_bytes = _mm512_broadcast_i32x4(_mm_setr_epi16(
        0x3d3c, 0x3f3e, 0x4140, 0x4342, static_cast<int16_t>(0xbdbc), static_cast<int16_t>(0xbfbe),
        static_cast<int16_t>(0xc1c0), static_cast<int16_t>(0xc3c2)));
    const __m512i low = _mm512_set1_epi16(0x00f0);
    const __m512i y = _mm512_srli_epi16(x, 4);
    const __m512i upper =
        _mm512_shuffle_epi8(upper_bytes, _mm512_and_si512(y, _mm512_set1_epi8(15)));
    // upper << 8 | (x << 4 & low)
    even =
        _mm512_ternarylogic_epi32(_mm512_slli_epi16(upper, 8), _mm512_slli_epi16(x, 4), low, 0xf8);
    // upper of the odd bytes, else y & low
    odd = _mm512_ternarylogic_epi32(upper, _mm512_and_si512(y, low),
                                    _mm512_set1_epi16(static_cast<int16_t>(0xff00)), 0xe4);
  }
  // `widened`, but for subnormals and NaN among the codes in the high bytes of v.
  static __m512i with_special(__m512i v, __m512i widened) {
    const __m512i code = _mm512_and_si512(_mm512_srli_epi16(v, 8), _mm512_set1_epi16(0x7f));
    const __m512i sign = _mm512_and_si512(v, _mm512_set1_epi16(static_cast<int16_t>(0x8000)));
    // m * 2^-9, m = 0..7; the index is taken modulo 32.
    const __m512i subnormals = _mm512_broadcast_i32x4(
        _mm_setr_epi16(0, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60));
    const __m512i tiny = _mm512_or_si512(sign, _mm512_permutexvar_epi16(code, subnormals));
    const __m512i finite =
        _mm512_mask_mov_epi16(widened, _mm512_cmplt_epu16_mask(code, _mm512_set1_epi16(8)), tiny);
    return _mm512_mask_mov_epi16(finite, _mm512_cmpeq_epi16_mask(code, _mm512_set1_epi16(0x7f)),
                                 _mm512_set1_epi16(0x7fc0));
  }
  static void four_rows(const std::byte* src, std::byte* dst) {
    __m512i least = _mm512_set1_epi8(0x7f);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      prefetch_weights(src + r * 64);
      const __m512i x = _mm512_load_si512(src + r * 64);
      __m512i even, odd;
      widen(x, even, odd);
      _mm512_store_si512(dst + r * 128, even);
      _mm512_store_si512(dst + r * 128 + 64, odd);
      // (code + 1) modulo 128: 0 is NaN, 1..8 are zero and the subnormals.
      least = _mm512_min_epu8(
          least, _mm512_and_si512(_mm512_add_epi8(x, _mm512_set1_epi8(1)), _mm512_set1_epi8(0x7f)));
    }
    if (!_mm512_cmplt_epu8_mask(least, _mm512_set1_epi8(9))) return;
    for (int r = 0; r < 4; ++r) {
      const __m512i x = _mm512_load_si512(src + r * 64);
      __m512i even, odd;
      widen(x, even, odd);
      _mm512_store_si512(dst + r * 128, with_special(_mm512_slli_epi16(x, 8), even));
      _mm512_store_si512(dst + r * 128 + 64, with_special(x, odd));
    }
  }
  static void decode(const tensor::PackedMatrix& w, int32_t panel, int32_t step, int32_t steps,
                     std::byte* dst) {
    const std::byte* src = w.panel(panel) + step * tensor::kKStepBytes;
    for (int32_t s = 0; s < steps; ++s, src += tensor::kKStepBytes, dst += 2 * tensor::kKStepBytes)
      for (int tile = 0; tile < 2; ++tile)
        for (int r = 0; r < 16; r += 4)
          four_rows(src + tile * 1024 + r * 64,
                    dst + r / 8 * tensor::kKStepBytes + tile * 1024 + r % 8 * 128);
  }
};

// Words that hold four-bit codes at bits 0, 4, 8 and 12: their values from a table of 16, which
// lies twice in the 32 words that an index reaches, so that the bit above a code does not matter.
struct NibbleTable {
  __m512i values;
  explicit NibbleTable(__m256i sixteen) : values(_mm512_broadcast_i64x4(sixteen)) {}
  // The pairs of four low and of four high codes.
  void look_up(__m512i x, __m512i out[4]) const {
    out[0] = _mm512_permutexvar_epi16(x, values);
    out[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 8), values);
    out[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 4), values);
    out[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 12), values);
  }
};

// Calls f(pairs, tile, row) with the four bfloat16 vectors of every row of codes, and stores them
// where they belong.
template <class F>
inline void decode_nibbles(const NibbleTable& table, const std::byte* src, int32_t steps,
                           std::byte* dst, F f) {
  for (int32_t s = 0; s < steps; ++s, src += tensor::kKStepBytes, dst += 4 * tensor::kKStepBytes)
    for (int tile = 0; tile < 2; ++tile)
      for (int r = 0; r < 16; ++r) {
        const std::byte* from = src + tile * 1024 + r * 64;
        prefetch_weights(from);
        __m512i pairs[4];
        table.look_up(_mm512_load_si512(from), pairs);
        f(pairs, s, tile, r);
        std::byte* to = dst + r / 8 * tensor::kKStepBytes + tile * 1024 + r % 8 * 128;
        _mm512_store_si512(to, pairs[0]);
        _mm512_store_si512(to + 64, pairs[1]);
        _mm512_store_si512(to + 2 * tensor::kKStepBytes, pairs[2]);
        _mm512_store_si512(to + 2 * tensor::kKStepBytes + 64, pairs[3]);
      }
}

// Four-bit integers as bfloat16: the code less 8.
struct Int4Weights {
  static constexpr int32_t kSub = 4;
  static constexpr tensor::WeightType kWeight = tensor::WeightType::kInt4;

  static void decode(const tensor::PackedMatrix& w, int32_t panel, int32_t step, int32_t steps,
                     std::byte* dst) {
    const NibbleTable table(_mm256_setr_epi16(
        static_cast<int16_t>(0xc100), static_cast<int16_t>(0xc0e0), static_cast<int16_t>(0xc0c0),
        static_cast<int16_t>(0xc0a0), static_cast<int16_t>(0xc080), static_cast<int16_t>(0xc040),
        static_cast<int16_t>(0xc000), static_cast<int16_t>(0xbf80), 0, 0x3f80, 0x4000, 0x4040,
        0x4080, 0x40a0, 0x40c0, 0x40e0));
    decode_nibbles(table, w.panel(panel) + step * tensor::kKStepBytes, steps, dst,
                   [](__m512i*, int32_t, int, int) {});
  }
};

// float4 e2m1 as bfloat16. Group scales of e4m3 are multiplied in: two bits times four fit into the
// eight of bfloat16.
struct Fp4Weights {
  static constexpr int32_t kSub = 4;
  static constexpr tensor::WeightType kWeight = tensor::WeightType::kFp4;

  static __m512i scaled(__m512i pairs, __m512 scale) {
    const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
    const __m512 a = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), scale);
    const __m512 b = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_and_si512(pairs, high)), scale);
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(a), 16),
                           _mm512_and_si512(_mm512_castps_si512(b), high));
  }
  static void decode(const tensor::PackedMatrix& w, int32_t panel, int32_t step, int32_t steps,
                     std::byte* dst) {
    const NibbleTable table(_mm256_setr_epi16(
        0, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0, static_cast<int16_t>(0x8000),
        static_cast<int16_t>(0xbf00), static_cast<int16_t>(0xbf80), static_cast<int16_t>(0xbfc0),
        static_cast<int16_t>(0xc000), static_cast<int16_t>(0xc040), static_cast<int16_t>(0xc080),
        static_cast<int16_t>(0xc0c0)));
    const std::byte* src = w.panel(panel) + step * tensor::kKStepBytes;
    if (w.format.group_scale != DType::kF8E4M3 || !w.format.group_k)
      return decode_nibbles(table, src, steps, dst, [](__m512i*, int32_t, int, int) {});
    const int32_t group = w.format.group_k;           // a multiple of 16: four rows
    const auto scale_at = [&](int32_t k, int tile) {  // past the end of k: anything finite
      const int32_t g = k / group;
      return g < w.groups() ? load_scales(w.panel_scales(panel, g) + tile * 16, DType::kF8E4M3)
                            : _mm512_setzero_ps();
    };
    __m512 low = _mm512_setzero_ps(), high = low;
    decode_nibbles(table, src, steps, dst, [&](__m512i* pairs, int32_t s, int tile, int r) {
      if (r % 4 == 0) {
        const int32_t k = (step + s) * 128 + 4 * r;
        low = scale_at(k, tile);
        high = scale_at(k + 64, tile);
      }
      for (int i = 0; i < 2; ++i) pairs[i] = scaled(pairs[i], low);
      for (int i = 2; i < 4; ++i) pairs[i] = scaled(pairs[i], high);
    });
  }
};

// Are the group scales of this format part of what its decoder gives?
constexpr bool decoded_with_scales(const tensor::PackedFormat& f) {
  return f.weight == tensor::WeightType::kFp4 && f.group_scale == DType::kF8E4M3;
}

// Four-bit integers as unsigned bytes: the code.
struct Int4Bytes {
  static constexpr int32_t kSub = 2;
  static constexpr tensor::WeightType kWeight = tensor::WeightType::kInt4;
  static constexpr int32_t kZero = 8;  // the code of zero, where there are no zero points

  static void decode(const tensor::PackedMatrix& w, int32_t panel, int32_t step, int32_t steps,
                     std::byte* dst) {
    const std::byte* src = w.panel(panel) + step * tensor::kKStepBytes;
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int32_t s = 0; s < steps; ++s, src += tensor::kKStepBytes, dst += 2 * tensor::kKStepBytes)
      for (int64_t i = 0; i < tensor::kKStepBytes; i += 64) {
        prefetch_weights(src + i);
        const __m512i x = _mm512_load_si512(src + i);
        _mm512_store_si512(dst + i, _mm512_and_si512(x, nibble));
        _mm512_store_si512(dst + tensor::kKStepBytes + i,
                           _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble));
      }
  }
};

// Signed bytes plus 128, for instructions whose weights are unsigned.
struct Int8Bytes {
  static constexpr int32_t kSub = 1;
  static constexpr tensor::WeightType kWeight = tensor::WeightType::kInt8;
  static constexpr int32_t kZero = 128;

  static void decode(const tensor::PackedMatrix& w, int32_t panel, int32_t step, int32_t steps,
                     std::byte* dst) {
    const std::byte* src = w.panel(panel) + step * tensor::kKStepBytes;
    for (int64_t i = 0; i < steps * tensor::kKStepBytes; i += 64) {
      prefetch_weights(src + i);
      _mm512_store_si512(dst + i, _mm512_xor_si512(_mm512_load_si512(src + i),
                                                   _mm512_set1_epi8(static_cast<char>(0x80))));
    }
  }
};

}  // namespace moestro::kernels::cpu::avx512
MOESTRO_TARGET_END
