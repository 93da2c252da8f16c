// exp and sums over lanes on top of vec_avx512.h / vec_avx2.h, included after one of them in the
// same region and namespace.
#pragma once

// exp(x) to about 1 ulp: x = n ln 2 + r (Cody and Waite), a degree-6 polynomial through the
// Chebyshev nodes of
// [-ln 2 / 2, ln 2 / 2] (relative error 9.7e-09), then 2^n. Below -105 it is 0, above 88.72
// infinity, exp(0) is 1 exactly.
static inline Vec exp(Vec x) {
  x = max(set1(-105.0f), min(set1(89.0f), x));  // in this order NaN stays NaN
  const Vec n = round_even(mul(x, set1(1.44269504f)));
  const Vec r = fma(n, set1(2.12194440e-4f), fma(n, set1(-0.693359375f), x));
  Vec q = set1(1.392617589e-03f);
  q = fma(q, r, set1(8.363173343e-03f));
  q = fma(q, r, set1(4.166655615e-02f));
  q = fma(q, r, set1(1.666657776e-01f));
  q = fma(q, r, set1(5.000000000e-01f));
  return scale_by_power(add(fma(mul(r, r), q, r), set1(1.0f)), n);
}

// The sums of the lanes of four vectors.
static inline __m128 sum_lanes(Vec a, Vec b, Vec c, Vec d) {
  const __m256 ab = _mm256_hadd_ps(fold(a), fold(b)), cd = _mm256_hadd_ps(fold(c), fold(d));
  const __m256 abcd = _mm256_hadd_ps(ab, cd);
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}
static inline float sum_lanes(Vec a) { return _mm_cvtss_f32(sum_lanes(a, a, a, a)); }

static inline float exp_one(float x) {
  alignas(64) float lanes[kLanes];
  store(lanes, exp(set1(x)));
  return lanes[0];
}
