// 16 float32 lanes for the bodies (*_body.h). Included inside an AVX-512 target region and
// namespace avx512, after <immintrin.h>; has no includes of its own. vec_avx2.h is its twin: same
// names, same meaning.
#pragma once

using Vec = __m512;
inline constexpr int32_t kLanes = 16;
inline constexpr int32_t kDotRows = 6, kDotColumns = 4;  // register tile of the score product
inline constexpr int32_t kSumRows = 6,
                         kSumColumns =
                             4;  // register tile of the value product (columns in vectors)

static inline __mmask16 first_lanes(int32_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1);
}

static inline Vec zero() { return _mm512_setzero_ps(); }
static inline Vec set1(float v) { return _mm512_set1_ps(v); }
static inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
// The first n lanes; the rest is zero / untouched. 0 <= n <= kLanes.
static inline Vec load_first(const float* p, int32_t n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
static inline void store_first(float* p, Vec v, int32_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
static inline Vec load_bf16(const void* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 16));
}
static inline Vec load_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
// Round to nearest even; NaN becomes a quiet NaN (numeric.h's to_bf16).
static inline void store_bf16(void* p, Vec v) {
  const __m512i u = _mm512_castps_si512(v), high = _mm512_srli_epi32(u, 16);
  const __m512i even =
      _mm512_add_epi32(_mm512_and_si512(high, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7fff));
  __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, even), 16);
  rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), high,
                                 _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}
static inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }  // b if either is NaN
// Lanes [from, to) of v, `other` elsewhere; from and to may lie outside [0, kLanes].
static inline Vec keep_lanes(Vec v, int32_t from, int32_t to, Vec other) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __mmask16 keep = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(from)) &
                         _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(to));
  return _mm512_mask_mov_ps(other, keep, v);
}
// v where a == b, `other` elsewhere; likewise v where a >= b (false for NaN).
static inline Vec where_equal(Vec a, Vec b, Vec v, Vec other) {
  return _mm512_mask_mov_ps(other, _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), v);
}
static inline Vec where_at_least(Vec a, Vec b, Vec v, Vec other) {
  return _mm512_mask_mov_ps(other, _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), v);
}
static inline uint32_t bits_at_least(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline uint32_t bits_at_least(const int32_t* keys, int32_t least) {
  return _mm512_cmpge_epi32_mask(_mm512_loadu_si512(keys), _mm512_set1_epi32(least));
}
static inline __m256 fold(Vec v) {
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
static inline float max_lane(Vec v) {
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
static inline void add_to_doubles(Vec v, double* sums) {  // sums[0..8) += lanes, pairs first
  _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), _mm512_cvtps_pd(fold(v))));
}
inline constexpr int32_t kDoubleSums = 8;

static inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }  // b if either is NaN
static inline Vec round_even(Vec v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// v * 2^n for whole n from -160 to 128.
static inline Vec scale_by_power(Vec v, Vec n) { return _mm512_scalef_ps(v, n); }

// [a0 a1 a2 a3] -> (0, 1) and (2, 3) swapped inside pairs, for interleaved rotation.
static inline Vec swap_pairs(Vec v) { return _mm512_permute_ps(v, 0xb1); }
// Each of kLanes / 2 values twice: [a0 a0 a1 a1 …].
static inline Vec load_twice(const float* p) {
  const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
// a * b -+ c: minus in even lanes, plus in odd ones.
static inline Vec fma_sub_add(Vec a, Vec b, Vec c) { return _mm512_fmaddsub_ps(a, b, c); }
// Signed integers in the order of the lanes (no NaN among them).
static inline void store_ordered(int32_t* keys, Vec v) {
  const __m512i u = _mm512_castps_si512(v), flip = _mm512_srli_epi32(_mm512_srai_epi32(u, 31), 1);
  _mm512_storeu_si512(keys, _mm512_xor_si512(u, flip));
}
