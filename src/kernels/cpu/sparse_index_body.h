// The lightning indexer: scores of all visible positions, then the exact top k. Included inside a
// target region and namespace, after vec_*.h, vec_math.h, select_body.h, sparse_index_tiles_body.h
// and a scoring part; has no includes of its own. Few tokens: their positions are shared out in
// chunks and the selection follows a barrier; many: each worker scores and selects a few tokens of
// its own at a time.
#pragma once

static int32_t score_stride(int32_t positions) {
  return padded_dim(positions, kBlock) + kKeyPadding;
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

std::string_view sparse_index_why_not(const SparseIndexShape& shape) noexcept {
  return why_not_keys(shape.kv_dtype);
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
