// Products of query rows with cached keys, for attention and the sparse index. Included inside a
// target region and namespace, after vec_*.h and vec_math.h; has no includes of its own. Cached
// rows that are bf16, or not whole vectors wide, are first copied to float32 rows padded with
// zeros.
#pragma once

inline constexpr int32_t kBlock = 32;  // positions taken together

static float* aligned(float* p) {
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(p) + 63) & ~uintptr_t{63});
}

static bool is_kv_dtype(DType t) { return t == DType::kF32 || t == DType::kBF16; }

static void copy_padded(const float* src, int32_t n, int32_t padded, float* dst) {
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(dst + i, load(src + i));
  if (i < padded) store(dst + i, load_first(src + i, n - i));
}

static void convert_padded(const std::byte* src, int32_t n, int32_t padded, float* dst) {
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(dst + i, load_bf16(src + 2 * i));
  if (i < padded) {
    uint16_t rest[kLanes] = {};
    std::memcpy(rest, src + 2 * i, static_cast<size_t>(n - i) * 2);
    store(dst + i, load_bf16(rest));
  }
}

// A cached row's values [offset, offset + dim) as float32, whole vectors wide: in place, or in
// `copy`.
static const float* readable_row(const tensor::PagedView& view, const std::byte* row,
                                 int32_t offset, int32_t dim, float* copy) {
  const int32_t padded = padded_dim(dim, kLanes);
  if (view.dtype == DType::kBF16) {
    convert_padded(row + 2 * static_cast<int64_t>(offset), dim, padded, copy);
    return copy;
  }
  const auto* values = reinterpret_cast<const float*>(row) + offset;
  // Rows at multiples of a kilobyte would evict one another from the first-level cache.
  if (dim == padded && view.row_bytes % 1024 != 0) return values;
  copy_padded(values, dim, padded, copy);
  return copy;
}

// scores[r, p] = q[r] . key[p]: one vector of partial sums each, added up in a fixed order whatever
// R and P are.
template <int R, int P>
static void dot_tile(const float* q, int64_t q_stride, const float* const* key, int32_t width,
                     float* scores) {
  Vec sums[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sums[r][p] = zero();
  }
  for (int32_t d = 0; d < width; d += kLanes) {
    Vec k[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) k[p] = load(key[p] + d);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec row = load(q + r * q_stride + d);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sums[r][p] = fma(row, k[p], sums[r][p]);
    }
  }
  // Four sums of lanes at a time, in the order of the flattened array.
  constexpr int kSums = R * P;
  alignas(16) float flat[(kSums + 3) / 4 * 4];
  const Vec* all = &sums[0][0];
#pragma GCC unroll 8
  for (int i = 0; i < kSums; i += 4)
    _mm_store_ps(flat + i,
                 sum_lanes(all[i], all[i + 1 < kSums ? i + 1 : i], all[i + 2 < kSums ? i + 2 : i],
                           all[i + 3 < kSums ? i + 3 : i]));
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) scores[r * kBlock + p] = flat[r * P + p];
  }
}

using DotTile = void (*)(const float*, int64_t, const float* const*, int32_t, float*);
template <int P>
static constexpr DotTile kDotTiles[6] = {dot_tile<1, P>, dot_tile<2, P>, dot_tile<3, P>,
                                         dot_tile<4, P>, dot_tile<5, P>, dot_tile<6, P>};

// scores [rows, kBlock] of n positions. Rows outside: a few rows of q stay in the first-level cache
// while the keys pass by.
static void score_block(const float* q, int64_t q_stride, int32_t rows, const float* const* key,
                        int32_t n, int32_t width, float* scores) {
  for (int32_t r = 0; r < rows; r += kDotRows) {
    const int32_t height = std::min(kDotRows, rows - r) - 1;
    for (int32_t p = 0; p < n; p += kDotColumns) {
      const int32_t columns = std::min(kDotColumns, n - p);
      const DotTile tile = columns == 4   ? kDotTiles<4>[height]
                           : columns == 3 ? kDotTiles<3>[height]
                           : columns == 2 ? kDotTiles<2>[height]
                                          : kDotTiles<1>[height];
      tile(q + r * q_stride, q_stride, key + p, width, scores + r * kBlock + p);
    }
  }
}
