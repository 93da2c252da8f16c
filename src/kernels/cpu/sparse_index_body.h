// The lightning indexer in float32 vectors: scores of all visible positions, then the exact top k.
// Included inside a target region and namespace, after vec_*.h, vec_math.h, score_body.h and
// select_body.h; has no includes of its own. Few tokens: their positions are shared out in chunks
// and the selection follows a barrier; many: each worker scores and selects a few tokens of its own
// at a time.
#pragma once

inline constexpr int32_t kIndexTokens = 2;   // tokens that share one pass over the keys
inline constexpr int32_t kIndexChunk = 512;  // positions of one unit; a multiple of kBlock
inline constexpr int32_t kSharedPerWorker =
    2;  // tokens a worker up to which positions are shared out

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

static int32_t score_stride(int32_t positions) {
  return padded_dim(positions, kBlock) + kKeyPadding;
}

// Consecutive tokens of one sequence whose positions outnumber topk.
struct IndexTile {
  int32_t token, num_tokens;
  int32_t number;     // of its first token among the scored ones
  int32_t positions;  // of its last token
};

class IndexTiles {
 public:
  explicit IndexTiles(const SparseIndexArgs& args) : args_(args) {}
  bool next(IndexTile& tile) {
    const StepInput& step = *args_.step;
    while (token_ < step.num_tokens && !is_scored(token_)) ++token_;
    if (token_ >= step.num_tokens) return false;
    int32_t n = 1;
    while (n < kIndexTokens && token_ + n < step.num_tokens &&
           step.token_seq[token_ + n] == step.token_seq[token_])
      ++n;
    tile = {token_, n, number_, step.positions[token_ + n - 1] + 1};
    token_ += n;
    number_ += n;
    return true;
  }
  bool is_scored(int32_t token) const { return args_.step->positions[token] + 1 > args_.topk; }

 private:
  const SparseIndexArgs& args_;
  int32_t token_ = 0, number_ = 0;
};

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

static void select_token(const SparseIndexArgs& args, int32_t token, float* scores) {
  const int32_t visible = args.step->positions[token] + 1;
  auto* keys = reinterpret_cast<int32_t*>(scores);
  scores_to_keys(scores, visible, keys);
  select_keys(keys, visible, args.topk, args.selected + int64_t{token} * args.topk);
}

// Every token is a unit of its own.
static void index_by_tokens(const SparseIndexArgs& args, const IndexScratch& s, float* scores,
                            int64_t stride, platform::Worker& worker) {
  scores += int64_t{worker.index()} * kIndexTokens * stride;
  IndexTiles tiles(args);
  IndexTile tile{};
  int64_t at = -1;
  worker.start_tickets();
  for (int64_t ticket; ticket = worker.take_ticket(), true;) {
    for (; at < ticket; ++at) {
      if (!tiles.next(tile)) return;
    }
    load_index_queries(args, tile, s);
    score_positions(args, tile, 0, tile.positions, s, scores, stride);
    for (int32_t t = 0; t < tile.num_tokens; ++t)
      select_token(args, tile.token + t, scores + t * stride);
  }
}

// Chunks of positions are units; then, after a barrier, each token's selection.
static void index_by_positions(const SparseIndexArgs& args, const IndexScratch& s, float* scores,
                               int64_t stride, platform::Worker& worker) {
  int64_t ticket = -1, unit = 0;
  worker.start_tickets();
  ticket = worker.take_ticket();
  IndexTiles tiles(args);
  for (IndexTile tile; tiles.next(tile);) {
    const int64_t chunks = (tile.positions + kIndexChunk - 1) / kIndexChunk;
    for (bool loaded = false; ticket < unit + chunks; ticket = worker.take_ticket()) {
      if (!loaded) load_index_queries(args, tile, s);
      loaded = true;
      const auto begin = static_cast<int32_t>(ticket - unit) * kIndexChunk;
      score_positions(args, tile, begin, std::min(tile.positions, begin + kIndexChunk), s,
                      scores + tile.number * stride, stride);
    }
    unit += chunks;
  }
  worker.barrier();
  IndexTiles again(args);
  for (IndexTile tile; again.next(tile);) {
    for (int32_t t = 0; t < tile.num_tokens; ++t) {
      if ((tile.number + t) % worker.count() == worker.index())
        select_token(args, tile.token + t, scores + (tile.number + t) * stride);
    }
  }
}

bool sparse_index_supports(const SparseIndexShape& shape) noexcept {
  return is_kv_dtype(shape.kv_dtype);
}

int64_t sparse_index_scratch_bytes(const SparseIndexShape& shape, int num_workers) noexcept {
  static_assert(kSharedPerWorker >= kIndexTokens);
  return 4 * (num_workers * index_scratch_floats(shape.heads, shape.dim) +
              int64_t{kSharedPerWorker} * num_workers * score_stride(shape.max_context) + 16);
}

void sparse_index_run(const SparseIndexArgs& args, platform::Worker& worker) noexcept {
  const StepInput& step = *args.step;
  const IndexTiles tiles(args);
  int32_t scored = 0, longest = 1;
  for (int32_t t = 0; t < step.num_tokens; ++t) {
    longest = std::max(longest, step.positions[t] + 1);
    scored += tiles.is_scored(t);
    if (worker.index() == 0) args.num_selected[t] = tiles.is_scored(t) ? args.topk : -1;
  }
  if (scored == 0) return;
  const IndexScratch s = index_scratch(args, worker.index());
  float* scores = aligned(reinterpret_cast<float*>(args.scratch) +
                          worker.count() * index_scratch_floats(args.heads, args.dim));
  if (scored <= kSharedPerWorker * worker.count())
    index_by_positions(args, s, scores, score_stride(longest), worker);
  else
    index_by_tokens(args, s, scores, score_stride(longest), worker);
}
