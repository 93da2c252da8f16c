// The indexer's constants and token tiles, included before the scoring part
// (sparse_index_scores_body.h, or AMX's own) and sparse_index_body.h; has no includes of its own.
#pragma once

inline constexpr int32_t kIndexTokens = 2;   // tokens that share one pass over the keys
inline constexpr int32_t kIndexChunk = 512;  // positions of one unit; a multiple of kBlock
inline constexpr int32_t kSharedPerWorker =
    2;  // tokens a worker up to which positions are shared out

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
