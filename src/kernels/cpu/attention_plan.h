// How MLA and grouped-query attention are cut into units of work, shared by all instruction sets
// (cpu/attention_body.h and cpu/attention_amx.cpp). A tile is the query rows (tokens x heads of one
// key/value head) that read the same positions; a segment is a fixed stretch of positions. Every
// row is computed as: online softmax over the blocks of a segment, then the segments merged in
// ascending order. So one row's arithmetic is the same whether a worker walks a whole tile or each
// segment goes to another worker, whatever else is in the batch. Every worker makes the same plan
// from the arguments; no allocation.
#pragma once
#include <cstdint>

#include "kernels/gqa_attention.h"
#include "kernels/mla_attention.h"

namespace moestro::kernels {

// MlaArgs and GqaArgs in one form. Head h of token t: q + t * q_stride + h * key_dim.
struct AttentionCall {
  const StepInput* step;
  const float* q;
  int64_t q_stride;
  tensor::PagedView key, value;
  bool value_in_key;  // MLA: a value is the first value_dim elements of its key
  int32_t heads, kv_heads, key_dim, value_dim;
  float scale;
  int32_t window;
  const float* sinks;
  const int32_t* selected;
  const int32_t* num_selected;
  int32_t max_selected;
  float* out;  // [tokens, heads, value_dim]
  std::byte* scratch;

  bool is_sparse(int32_t token) const { return selected && num_selected[token] >= 0; }
  // Token t sees indices [first, end): positions, or places in its selected list.
  int32_t first_index(int32_t token) const {
    return window > 0 && step->positions[token] >= window ? step->positions[token] - window + 1 : 0;
  }
  int32_t end_index(int32_t token) const {
    return is_sparse(token) ? num_selected[token] : step->positions[token] + 1;
  }
};
AttentionCall attention_call(const MlaArgs& args);
AttentionCall attention_call(const GqaArgs& args);

struct AttentionShape {
  int32_t max_tokens, heads, kv_heads, key_dim, value_dim, max_context;
};
AttentionShape attention_shape(const MlaShape& shape);
AttentionShape attention_shape(const GqaShape& shape);

// Constants of a kernel. segment is a multiple of block.
struct AttentionTuning {
  int32_t tile_rows;      // at most
  int32_t least_heads;    // a tile's heads are not cut below this to feed more workers
  int32_t segment;        // positions
  int32_t value_padding;  // value_dim is rounded up to a multiple of this
};

struct AttentionTile {
  int32_t token, num_tokens;  // consecutive tokens of one sequence; one token if sparse
  int32_t kv_head;
  int32_t head, num_heads;  // query heads
  int32_t first_segment, num_segments;
  int64_t slot;  // first row slot of its partial results; -1: not split
  int32_t rows() const { return num_tokens * num_heads; }
};

// Partial result of a row: value_dim sums (padded), then the running maximum and the sum of
// exponentials.
constexpr int32_t padded_dim(int32_t dim, int32_t multiple) {
  return (dim + multiple - 1) / multiple * multiple;
}
constexpr int64_t row_state_floats(int32_t value_dim, int32_t padding) {
  return padded_dim(value_dim, padding) + 16;
}

class AttentionPlan {
 public:
  AttentionPlan(const AttentionCall& call, const AttentionTuning& tuning, int64_t slots,
                int num_workers);

  // Steps through the tiles in a fixed order, giving slots to those that are split.
  class Tiles {
   public:
    explicit Tiles(const AttentionPlan& plan) : plan_(&plan) {}
    bool next(AttentionTile& tile);

   private:
    const AttentionPlan* plan_;
    int32_t token_ = 0, num_tokens_ = 0, chunk_ = 0;
    int64_t slots_used_ = 0;
  };

  // Units in the order in which they are handed out: whole tiles first, then the segments of the
  // split ones.
  class Units {
   public:
    explicit Units(const AttentionPlan& plan) : plan_(plan), tiles_(plan) {}
    // Moves on to unit `ticket` (never backwards); false: there is none. segment is -1 for a whole
    // tile.
    bool seek(int64_t ticket, AttentionTile& tile, int32_t& segment);

   private:
    const AttentionPlan& plan_;
    Tiles tiles_;
    AttentionTile tile_{};
    bool split_pass_ = false, started_ = false;
    int64_t first_ = 0, count_ = 0;  // tickets of the current tile
  };

  bool any_split() const { return split_; }

 private:
  friend class Tiles;
  int32_t tokens_of_tile(int32_t token) const;
  int32_t count_units(int32_t enough) const;

  const AttentionCall& call_;
  const AttentionTuning tuning_;
  const int64_t slots_;
  int32_t chunk_heads_;  // query heads a tile
  bool split_ = false;
};

// Row slots worth having in scratch for a shape.
int64_t attention_slots(const AttentionShape& shape, const AttentionTuning& tuning,
                        int num_workers);
// Row slots when no shape is at hand: what the call's own step can use, never more than
// attention_slots of its shape.
int64_t attention_slots(const AttentionCall& call, const AttentionTuning& tuning, int num_workers);

}  // namespace moestro::kernels
