// int8 with AVX2. vpmaddubsw saturates its 16-bit pair sums, so the unsigned side is |weight| and
// the signed side the activation with the weight's sign: pairs then stay within 2 * 128 * 127 =
// 32512 and every sum is exact. Activations are kept signed (the compensation is not needed).
#include "kernels/cpu/rows_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kBlockSteps = 8;

__m256i load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// The largest magnitude as bits, which order finite < infinite < NaN.
uint32_t largest_bits(const float* x, int32_t k) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i m = _mm256_setzero_si256();
  int32_t i = 0;
  for (; i + 8 <= k; i += 8)
    m = _mm256_max_epi32(m,
                         _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
  if (i < k)
    m = _mm256_max_epi32(
        m,
        _mm256_and_si256(_mm256_castps_si256(_mm256_maskload_ps(x + i, avx2::first_lanes(k - i))),
                         magnitude));
  alignas(32) uint32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), m);
  return *std::max_element(lanes, lanes + 8);
}

__m256i quantise_8(const float* x, __m256 scale) {
  __m256 q = _mm256_div_ps(_mm256_loadu_ps(x), scale);
  q = _mm256_max_ps(_mm256_min_ps(q, _mm256_set1_ps(127.0f)), _mm256_set1_ps(-127.0f));
  return _mm256_cvtps_epi32(q);
}

void pack_row(const tensor::PackedFormat&, const float* x, int32_t k, std::byte* dst,
              int64_t step_stride, float* scales) {
  const uint32_t largest = largest_bits(x, k);
  float scale, padded[64];
  std::memcpy(&scale, &largest, 4);
  scale /= 127.0f;
  const bool finite = largest < 0x7f800000u;
  const __m256 s = _mm256_set1_ps(scale);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // undoes the lane-wise packs
  for (int32_t i = 0; i < k; i += 64, dst += step_stride) {
    if (!finite || scale == 0) {
      std::memset(dst, 0, 64);
      continue;
    }
    const float* from = x + i;
    if (k - i < 64) {
      std::fill_n(padded, 64, 0.0f);
      std::copy_n(from, k - i, padded);
      from = padded;
    }
    for (int j = 0; j < 64; j += 32) {
      const __m256i low = _mm256_packs_epi32(quantise_8(from + j, s), quantise_8(from + j + 8, s));
      const __m256i high =
          _mm256_packs_epi32(quantise_8(from + j + 16, s), quantise_8(from + j + 24, s));
      const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + j), bytes);
    }
  }
  *scales = finite ? scale : std::numeric_limits<float>::quiet_NaN();
}

// c holds int32 sums until finish_rows.
template <int R, int V>
void block(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
           bool first) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = _mm256_setzero_si256();
  for (int32_t s = 0; s < steps; ++s, w += tensor::kKStepBytes, a += a_stride)
    for (int i = 0; i < 16; ++i) {
      if constexpr (R <= 4) avx2::prefetch<V>(w + i * 64);  // the weights come from memory
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const __m256i b = load(w + v / 2 * 1024 + i * 64 + v % 2 * 32),
                      magnitude = _mm256_abs_epi8(b);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          int32_t four;
          std::memcpy(&four, a + r * 64 + i * 4, 4);
          const __m256i pairs =
              _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(_mm256_set1_epi32(four), b));
          acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_madd_epi16(pairs, ones));
        }
      }
    }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      auto* p = reinterpret_cast<__m256i*>(c + r * 32 + v * 8);
      _mm256_storeu_si256(p,
                          first ? acc[r][v] : _mm256_add_epi32(_mm256_loadu_si256(p), acc[r][v]));
    }
}

template <int R>
void rows_of(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
             bool first) {
  if constexpr (R <= 2) {
    block<R, 4>(w, a, a_stride, steps, c, first);
  } else {
    block<R, 2>(w, a, a_stride, steps, c, first);
    block<R, 2>(w + 1024, a, a_stride, steps, c + 16, first);
  }
}

void some_rows(int32_t n, const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps,
               float* c, bool first) {
  switch (n) {
    case 1:
      return rows_of<1>(w, a, a_stride, steps, c, first);
    case 2:
      return rows_of<2>(w, a, a_stride, steps, c, first);
    case 3:
      return rows_of<3>(w, a, a_stride, steps, c, first);
    default:
      return rows_of<4>(w, a, a_stride, steps, c, first);
  }
}

// int32 sums become scaled floats in place.
void finish_rows(const PanelCall& call) {
  for (int32_t r = 0; r < call.rows; ++r)
    for (int i = 0; i < 32; i += 8) {
      float* p = call.c + r * 32 + i;
      const __m256 sum =
          _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(call.row_scales[r]),
                                         _mm256_loadu_ps(call.w->scales + call.panel * 32 + i));
      _mm256_storeu_ps(p, _mm256_mul_ps(sum, scale));
    }
}

void panel(const PanelCall& call, TileState&) {
  const int32_t k_steps = call.w->k_steps();
  const std::byte* w = call.w->panel(call.panel);
  for (int32_t s = 0; s < k_steps; s += kBlockSteps) {
    const int32_t steps = std::min(kBlockSteps, k_steps - s);
    for (int32_t b = 0; b < call.rows; b += kBlockRows) {
      const int32_t in_block = std::min(kBlockRows, call.rows - b);
      const std::byte* a = call.a + (int64_t{b} * k_steps + int64_t{s} * in_block) * 64;
      for (int32_t r = 0; r < in_block; r += 4)
        some_rows(std::min(4, in_block - r), w + s * tensor::kKStepBytes, a + r * 64, in_block * 64,
                  steps, call.c + (b + r) * 32, s == 0);
    }
  }
  finish_rows(call);
}

}  // namespace

const TileOps kInt8Avx2 = {tensor::WeightType::kInt8,
                           64,
                           one_row_scale,
                           pack_row,
                           panel,
                           avx2::store,
                           avx2::silu,
                           finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
