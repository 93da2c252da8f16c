// Cached bf16 rows and query rows as AMX operands, and their product, for attention and the sparse
// index. Included inside an AMX target region and an anonymous namespace, after vec_avx512.h and
// vec_math.h; has no includes of its own.
#pragma once

constexpr int32_t kTile = 16;  // rows of a tile; its rows hold 64 bytes: 32 bf16 or 16 float32

inline std::byte* aligned(std::byte* p) {
  return reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(p) + 63) & ~uintptr_t{63});
}

inline void configure_tiles() {
  platform::TileConfig config;
  for (int t = 0; t < 8; ++t) config.set(t, kTile);
  platform::load_tile_config(config);
}

// Round to nearest even; bf16 of `even` in the low halves of the lanes, of `odd` in the high ones.
inline __m512i pack_bf16(Vec even, Vec odd) {
  const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff);
  const auto round = [&](Vec v) {
    const __m512i u = _mm512_castps_si512(v);
    return _mm512_add_epi32(
        u, _mm512_add_epi32(half, _mm512_and_si512(_mm512_srli_epi32(u, 16), one)));
  };
  return _mm512_or_si512(
      _mm512_srli_epi32(round(even), 16),
      _mm512_and_si512(round(odd), _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}

// rows[i] lane j <-> rows[j] lane i.
inline void transpose_16x16(__m512i* rows) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16;
       i += 4) {  // b[i + j]: column j of each group of four columns, of rows i .. i + 3
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i low01 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88),
                  high01 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
    const __m512i low23 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88),
                  high23 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    rows[4 + j] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    rows[12 + j] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
}

// Up to 16 query rows [dim] as right operands: out[step, pair of dims, row]; missing rows and dims
// are zero.
inline void pack_queries(const float* const* q, int32_t rows, int32_t dim, uint32_t* out) {
  const __m512i to_even =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i to_odd =
      _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  for (int32_t d = 0; d < dim; d += 32) {
    __m512i words[16];
    for (int32_t r = 0; r < 16; ++r) {
      words[r] = _mm512_setzero_si512();
      if (r >= rows) continue;
      const __m512i low = _mm512_castps_si512(load_first(q[r] + d, std::min(16, dim - d)));
      const __m512i high = _mm512_castps_si512(
          dim - d > 16 ? load_first(q[r] + d + 16, std::min(16, dim - d - 16)) : zero());
      words[r] = pack_bf16(_mm512_castsi512_ps(_mm512_permutex2var_epi32(low, to_even, high)),
                           _mm512_castsi512_ps(_mm512_permutex2var_epi32(low, to_odd, high)));
    }
    transpose_16x16(words);
    for (int32_t i = 0; i < 16; ++i) _mm512_storeu_si512(out + d / 32 * 256 + i * 16, words[i]);
  }
}

// A bf16 row whose 64-byte steps may be read: in place, or copied with zeros behind it.
inline const std::byte* padded_row(const std::byte* row, int32_t dim, std::byte* copy) {
  if (dim % 32 == 0) return row;
  std::memcpy(copy, row, static_cast<size_t>(dim) * 2);
  std::memset(copy + 2 * int64_t{dim}, 0, static_cast<size_t>(padded_dim(dim, 32) - dim) * 2);
  return copy;
}

// 16 cached rows as a left operand.
struct RowTile {
  const std::byte* data;
  int64_t stride;
};

// Rows of indices [first, first + n), n <= 16, of a token's sequence; the rows from n on hold
// anything. In place if all lie in one page (first is a multiple of 16), else copied. selected:
// null, or the position of each index.
inline RowTile key_tile(const StepInput& step, int32_t token, const tensor::PagedView& view,
                        const int32_t* selected, int32_t first, int32_t n, int32_t offset,
                        int32_t dim, std::byte* copy, int64_t copy_stride) {
  if (!selected && view.page_size % kTile == 0 && dim % 32 == 0)
    return {view.row(step.block_of(token, first, view.page_size), first % view.page_size) +
                2 * int64_t{offset},
            view.row_bytes};
  for (int32_t i = 0; i < n; ++i) {
    const int32_t position = selected ? selected[first + i] : first + i;
    const std::byte* row =
        view.row(step.block_of(token, position, view.page_size), position % view.page_size) +
        2 * int64_t{offset};
    std::memcpy(copy + i * copy_stride, row, static_cast<size_t>(dim) * 2);
    std::memset(copy + i * copy_stride + 2 * int64_t{dim}, 0,
                static_cast<size_t>(padded_dim(dim, 32) - dim) * 2);
  }
  return {copy, copy_stride};
}

// scores[row tile, position, row] of P position tiles and R query tiles.
template <int P, int R>
void score_tile_block(const RowTile* keys, const uint32_t* q, int32_t steps, float* scores,
                      int64_t row_tile_stride) {
  using namespace platform;
  zero_tile<0>();
  if constexpr (R == 2) zero_tile<1>();
  if constexpr (P == 2) zero_tile<2>();
  if constexpr (P == 2 && R == 2) zero_tile<3>();
  for (int32_t k = 0; k < steps; ++k) {
    load_tile<4>(keys[0].data + k * 64, keys[0].stride);
    load_tile<6>(q + k * 256, 64);
    dot_bf16<0, 4, 6>();
    if constexpr (R == 2) {
      load_tile<7>(q + (steps + k) * 256, 64);
      dot_bf16<1, 4, 7>();
    }
    if constexpr (P == 2) {
      load_tile<5>(keys[1].data + k * 64, keys[1].stride);
      dot_bf16<2, 5, 6>();
      if constexpr (R == 2) dot_bf16<3, 5, 7>();
    }
  }
  store_tile<0>(scores, 64);
  if constexpr (R == 2) store_tile<1>(scores + row_tile_stride, 64);
  if constexpr (P == 2) store_tile<2>(scores + kTile * kTile, 64);
  if constexpr (P == 2 && R == 2) store_tile<3>(scores + row_tile_stride + kTile * kTile, 64);
}

// Scores of n positions (whole tiles are written) and one or two query tiles.
inline void score_tiles(const RowTile* keys, int32_t n, const uint32_t* q, int32_t query_tiles,
                        int32_t steps, float* scores, int64_t row_tile_stride) {
  const int32_t tiles = (n + kTile - 1) / kTile;
  for (int32_t p = 0; p < tiles; p += 2) {
    float* out = scores + p * kTile * kTile;
    if (p + 1 < tiles)
      (query_tiles == 2 ? score_tile_block<2, 2> : score_tile_block<2, 1>)(keys + p, q, steps, out,
                                                                           row_tile_stride);
    else
      (query_tiles == 2 ? score_tile_block<1, 2> : score_tile_block<1, 1>)(keys + p, q, steps, out,
                                                                           row_tile_stride);
  }
}
