// 8 float32 lanes for the bodies (*_body.h). Included inside an AVX2 target region and namespace
// avx2, after <immintrin.h>; has no includes of its own. vec_avx512.h is its twin: same names, same
// meaning.
#pragma once

using Vec = __m256;
inline constexpr int32_t kLanes = 8;
inline constexpr int32_t kDotRows = 6, kDotColumns = 2;  // register tile of the score product
inline constexpr int32_t kSumRows = 4,
                         kSumColumns =
                             3;  // register tile of the value product (columns in vectors)

static inline __m256i first_lanes(int32_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline Vec zero() { return _mm256_setzero_ps(); }
static inline Vec set1(float v) { return _mm256_set1_ps(v); }
static inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
// The first n lanes; the rest is zero / untouched. 0 <= n <= kLanes.
static inline Vec load_first(const float* p, int32_t n) {
  return _mm256_maskload_ps(p, first_lanes(n));
}
static inline void store_first(float* p, Vec v, int32_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), v);
}
static inline Vec load_bf16(const void* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))), 16));
}
static inline Vec load_f16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
// Round to nearest even; NaN becomes a quiet NaN (numeric.h's to_bf16).
static inline void store_bf16(void* p, Vec v) {
  const __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
  const __m256i even =
      _mm256_add_epi32(_mm256_and_si256(high, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, even), 16),
                quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i words = _mm256_blendv_epi8(rounded, quiet, nan);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm_packus_epi32(_mm256_castsi256_si128(words),
                                                              _mm256_extracti128_si256(words, 1)));
}
static inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }  // b if either is NaN
// Lanes [from, to) of v, `other` elsewhere; from and to may lie outside [0, kLanes].
static inline Vec keep_lanes(Vec v, int32_t from, int32_t to, Vec other) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i keep = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), lane),
                                           _mm256_cmpgt_epi32(_mm256_set1_epi32(to), lane));
  return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(keep));
}
// v where a == b, `other` elsewhere; likewise v where a >= b (false for NaN).
static inline Vec where_equal(Vec a, Vec b, Vec v, Vec other) {
  return _mm256_blendv_ps(other, v, _mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
static inline Vec where_at_least(Vec a, Vec b, Vec v, Vec other) {
  return _mm256_blendv_ps(other, v, _mm256_cmp_ps(a, b, _CMP_GE_OQ));
}
static inline uint32_t bits_at_least(Vec a, Vec b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}
static inline uint32_t bits_at_least(const int32_t* keys, int32_t least) {
  const __m256i less = _mm256_cmpgt_epi32(
      _mm256_set1_epi32(least), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys)));
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(less))) ^ 0xffu;
}
static inline __m256 fold(Vec v) { return v; }
static inline float max_lane(Vec v) {
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
static inline void add_to_doubles(Vec v, double* sums) {  // sums[0..4) += lanes, pairs first
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), _mm256_cvtps_pd(half)));
}
inline constexpr int32_t kDoubleSums = 4;

static inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }  // b if either is NaN
static inline Vec round_even(Vec v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// v * 2^n for whole n from -160 to 128: in two factors, each inside the exponent's range.
static inline Vec scale_by_power(Vec v, Vec n) {
  const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1),
                bias = _mm256_set1_epi32(127);
  const Vec first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const Vec second = _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(v, first), second);
}

// [a0 a1 a2 a3] -> (0, 1) and (2, 3) swapped inside pairs, for interleaved rotation.
static inline Vec swap_pairs(Vec v) { return _mm256_permute_ps(v, 0xb1); }
// Each of kLanes / 2 values twice: [a0 a0 a1 a1 …].
static inline Vec load_twice(const float* p) {
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)),
                                  _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
// a * b -+ c: minus in even lanes, plus in odd ones.
static inline Vec fma_sub_add(Vec a, Vec b, Vec c) { return _mm256_fmaddsub_ps(a, b, c); }
// Signed integers in the order of the lanes (no NaN among them).
static inline void store_ordered(int32_t* keys, Vec v) {
  const __m256i u = _mm256_castps_si256(v), flip = _mm256_srli_epi32(_mm256_srai_epi32(u, 31), 1);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(keys), _mm256_xor_si256(u, flip));
}
