// Index scores in float32 vectors. Included inside a target region and namespace, after vec_*.h,
// vec_math.h, score_body.h and sparse_index_tiles_body.h; has no includes of its own.
#pragma once

struct IndexScratch {
  float* q;     // [kIndexTokens * heads, key_stride]
  float* keys;  // [kBlock, key_stride]
  float* dots;  // [kIndexTokens * heads, kBlock]
  int32_t key_stride;
};

static int64_t index_scratch_floats(int32_t heads, int32_t dim) {
  return (int64_t{kIndexTokens} * heads + kBlock) * (padded_dim(dim, kLanes) + 16) +
         int64_t{kIndexTokens} * heads * kBlock + 4 * 16;
}

static IndexScratch index_scratch(const SparseIndexArgs& args, int worker) {
  IndexScratch s;
  s.key_stride = padded_dim(args.dim, kLanes) + 16;
  s.q = aligned(reinterpret_cast<float*>(args.scratch) +
                worker * index_scratch_floats(args.heads, args.dim));
  s.keys = aligned(s.q + int64_t{kIndexTokens} * args.heads * s.key_stride);
  s.dots = aligned(s.keys + int64_t{kBlock} * s.key_stride);
  return s;
}

static void load_index_queries(const SparseIndexArgs& args, const IndexTile& tile,
                               const IndexScratch& s) {
  const float* q = args.q + int64_t{tile.token} * args.heads * args.dim;
  for (int32_t r = 0; r < tile.num_tokens * args.heads; ++r)
    copy_padded(q + int64_t{r} * args.dim, args.dim, padded_dim(args.dim, kLanes),
                s.q + r * int64_t{s.key_stride});
}

// Scores of positions [begin, end) of the tile's tokens; begin is a multiple of kBlock. Lanes past
// a token's own position hold scores that selection never reads.
static void score_positions(const SparseIndexArgs& args, const IndexTile& tile, int32_t begin,
                            int32_t end, const IndexScratch& s, float* scores, int64_t stride) {
  const tensor::PagedView& view = args.keys;
  const float* rows[kBlock];
  for (int32_t first = begin; first < end; first += kBlock) {
    const int32_t n = std::min(kBlock, end - first);
    for (int32_t i = 0; i < n; ++i) {
      const int32_t page = args.step->block_of(tile.token, first + i, view.page_size);
      rows[i] = readable_row(view, view.row(page, (first + i) % view.page_size), 0, args.dim,
                             s.keys + i * s.key_stride);
    }
    score_block(s.q, s.key_stride, tile.num_tokens * args.heads, rows, n,
                padded_dim(args.dim, kLanes), s.dots);
    for (int32_t t = 0; t < tile.num_tokens; ++t) {
      const float* weights = args.weights + int64_t{tile.token + t} * args.heads;
      const float* dots = s.dots + int64_t{t} * args.heads * kBlock;
      Vec sums[kBlock / kLanes];
      for (Vec& v : sums) v = zero();
      for (int32_t h = 0; h < args.heads; ++h) {
        const Vec weight = set1(weights[h]);
        for (int32_t v = 0; v < kBlock / kLanes; ++v)  // max's order keeps NaN
          sums[v] = fma(weight, max(zero(), load(dots + h * kBlock + v * kLanes)), sums[v]);
      }
      for (int32_t v = 0; v < kBlock / kLanes; ++v)
        store(scores + t * stride + first + v * kLanes, sums[v]);
    }
  }
}

static std::string_view why_not_keys(DType dtype) {
  return is_kv_dtype(dtype) ? "" : kWantsFloatKv;
}
