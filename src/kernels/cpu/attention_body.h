// Attention of one tile in float32 vectors, for MLA and grouped-query attention. Included inside a
// target region and namespace, after vec_*.h and vec_math.h; has no includes of its own. Keys and
// values that are bf16, or not whole vectors wide, are first copied to float32 rows padded with
// zeros.
#pragma once

inline constexpr AttentionTuning kTuning{64, 8, 256, kLanes};
static_assert(kTuning.segment % kBlock == 0);

// One worker's scratch. Row strides have 16 floats to spare so that rows do not fall into the same
// cache sets.
struct TileScratch {
  float* q;           // [tile_rows, key_stride]
  float* keys;        // [kBlock, key_stride]
  float* values;      // [kBlock, value_stride]; MLA: unused
  float* scores;      // [tile_rows, kBlock], then probabilities
  float* correction;  // [tile_rows]
  float* segment;     // [tile_rows, state_stride] of the segment being walked
  float* total;       // [tile_rows, state_stride] of the tile
  int32_t key_stride, value_stride, state_stride, value_width;  // value_width: value_dim padded
};

static int64_t tile_scratch_floats(int32_t key_dim, int32_t value_dim) {
  const int64_t key_stride = padded_dim(key_dim, kLanes) + 16,
                value_stride = row_state_floats(value_dim, kLanes);
  return (kTuning.tile_rows + kBlock) * key_stride +
         (2 * kTuning.tile_rows + kBlock) * value_stride + kTuning.tile_rows * (kBlock + 1) +
         7 * 16;
}

static TileScratch tile_scratch(const AttentionCall& call, int worker) {
  TileScratch s;
  s.key_stride = padded_dim(call.key_dim, kLanes) + 16;
  s.value_width = padded_dim(call.value_dim, kLanes);
  s.state_stride = s.value_stride = static_cast<int32_t>(row_state_floats(call.value_dim, kLanes));
  float* next = reinterpret_cast<float*>(call.scratch) +
                worker * tile_scratch_floats(call.key_dim, call.value_dim);
  const auto take = [&next](int64_t floats) {
    float* p = aligned(next);
    next = p + floats;
    return p;
  };
  s.q = take(int64_t{kTuning.tile_rows} * s.key_stride);
  s.keys = take(int64_t{kBlock} * s.key_stride);
  s.values = take(int64_t{kBlock} * s.value_stride);
  s.scores = take(int64_t{kTuning.tile_rows} * kBlock);
  s.correction = take(kTuning.tile_rows);
  s.segment = take(int64_t{kTuning.tile_rows} * s.state_stride);
  s.total = take(int64_t{kTuning.tile_rows} * s.state_stride);
  return s;
}

static float* slot_memory(const AttentionCall& call, int num_workers) {
  return aligned(reinterpret_cast<float*>(call.scratch) +
                 num_workers * tile_scratch_floats(call.key_dim, call.value_dim));
}

static int64_t attention_scratch_bytes(const AttentionShape& shape, int num_workers) {
  return 4 *
         (num_workers * tile_scratch_floats(shape.key_dim, shape.value_dim) +
          attention_slots(shape, kTuning, num_workers) * row_state_floats(shape.value_dim, kLanes) +
          32);
}

// Readable float32 rows, whole vectors wide, of one block of positions.
struct BlockRows {
  const float* key[kBlock];
  const float* value[kBlock];
};

// Asks for a row that a later block will read. Row by row the hardware does not see the stride
// coming.
static void prefetch_row(const tensor::PagedView& view, const std::byte* row, int32_t offset,
                         int32_t dim) {
  const int64_t size = view.dtype == DType::kBF16 ? 2 : 4;
  for (int64_t i = 0; i < dim * size; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(row + offset * size + i), _MM_HINT_T0);
}

// Rows of indices [first, first + n) of a tile; those one block later, below `end`, are asked for.
static void read_block(const AttentionCall& call, const AttentionTile& tile, int32_t first,
                       int32_t n, int32_t end, const TileScratch& s, BlockRows& rows) {
  const StepInput& step = *call.step;
  const int32_t* selected = call.is_sparse(tile.token)
                                ? call.selected + int64_t{tile.token} * call.max_selected
                                : nullptr;
  const int32_t page_size = call.key.page_size;
  const int32_t key_offset = tile.kv_head * call.key_dim,
                value_offset = tile.kv_head * call.value_dim;
  for (int32_t i = 0; i < n; ++i) {
    if (const int32_t later = first + i + kBlock; later < end) {
      const int32_t position = selected ? selected[later] : later;
      const int32_t page = step.block_of(tile.token, position, page_size),
                    offset = position % page_size;
      prefetch_row(call.key, call.key.row(page, offset), key_offset, call.key_dim);
      if (!call.value_in_key)
        prefetch_row(call.value, call.value.row(page, offset), value_offset, call.value_dim);
    }
    const int32_t position = selected ? selected[first + i] : first + i;
    const int32_t page = step.block_of(tile.token, position, page_size),
                  offset = position % page_size;
    rows.key[i] = readable_row(call.key, call.key.row(page, offset), key_offset, call.key_dim,
                               s.keys + i * s.key_stride);
    rows.value[i] = call.value_in_key
                        ? rows.key[i]
                        : readable_row(call.value, call.value.row(page, offset), value_offset,
                                       call.value_dim, s.values + i * s.value_stride);
  }
}

// acc[r, column..] = acc * correction[r] + sum_p probabilities[r, p] * value[p, column..]
template <int R, int C>
static void sum_tile(const float* probabilities, const float* const* value, int32_t n,
                     int32_t column, const float* correction, float* acc, int64_t acc_stride) {
  Vec sums[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const Vec factor = set1(correction[r]);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
      sums[r][c] = mul(load(acc + r * acc_stride + column + c * kLanes), factor);
  }
  for (int32_t p = 0; p < n; ++p) {
    Vec v[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) v[c] = load(value[p] + column + c * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec weight = set1(probabilities[r * kBlock + p]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sums[r][c] = fma(weight, v[c], sums[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) store(acc + r * acc_stride + column + c * kLanes, sums[r][c]);
  }
}

using SumTile = void (*)(const float*, const float* const*, int32_t, int32_t, const float*, float*,
                         int64_t);
template <int C>
static constexpr SumTile kSumTiles[6] = {sum_tile<1, C>, sum_tile<2, C>, sum_tile<3, C>,
                                         sum_tile<4, C>, sum_tile<5, C>, sum_tile<6, C>};

static void sum_block(const TileScratch& s, int32_t rows, const BlockRows& block, int32_t n,
                      float* acc) {
  for (int32_t column = 0; column < s.value_width; column += kSumColumns * kLanes) {
    const int32_t columns = std::min(kSumColumns, (s.value_width - column) / kLanes);
    for (int32_t r = 0; r < rows; r += kSumRows) {
      const int32_t height = std::min(kSumRows, rows - r) - 1;
      const SumTile tile = columns == 4   ? kSumTiles<4>[height]
                           : columns == 3 ? kSumTiles<3>[height]
                           : columns == 2 ? kSumTiles<2>[height]
                                          : kSumTiles<1>[height];
      tile(s.scores + r * kBlock, block.value, n, column, s.correction + r,
           acc + r * int64_t{s.state_stride}, s.state_stride);
    }
  }
}

// Scores to probabilities under the rows' new maxima; s.correction gets the factors of the sums so
// far. A row that sees nothing of the block keeps its state exactly.
[[gnu::noinline]] static void softmax_block(const AttentionCall& call, const AttentionTile& tile,
                                            int32_t first, const TileScratch& s, float* state) {
  constexpr int32_t kVectors = kBlock / kLanes;
  const Vec scale = set1(call.scale), lowest = set1(-INFINITY);
  alignas(64) float maxima[kTuning.tile_rows];
  for (int32_t r = 0; r < tile.rows(); ++r) {
    const int32_t token = tile.token + r / tile.num_heads;
    const int32_t from = call.first_index(token) - first, to = call.end_index(token) - first;
    float* row = state + r * int64_t{s.state_stride};
    Vec x[kVectors], top = lowest;
    for (int v = 0; v < kVectors; ++v) {
      x[v] = keep_lanes(mul(load(s.scores + r * kBlock + v * kLanes), scale), from - v * kLanes,
                        to - v * kLanes, lowest);
      top = max(x[v], top);
    }
    const float before = state_max(row, s.value_width), now = std::max(before, max_lane(top));
    const float base = now == -INFINITY ? 0.0f : now;
    Vec sum = zero();
    for (int v = 0; v < kVectors; ++v) {
      const Vec p = exp(sub(x[v], set1(base)));
      store(s.scores + r * kBlock + v * kLanes, p);
      sum = add(sum, p);
    }
    state_max(row, s.value_width) = now;
    s.correction[r] = before - base;
    maxima[r] = sum_lanes(sum);
  }
  for (int32_t r = 0; r < tile.rows(); r += kLanes) {
    const int32_t n = std::min(kLanes, tile.rows() - r);
    store_first(s.correction + r, exp(load_first(s.correction + r, n)), n);
  }
  for (int32_t r = 0; r < tile.rows(); ++r) {
    float& sum = state_sum(state + r * int64_t{s.state_stride}, s.value_width);
    sum = std::fma(sum, s.correction[r], maxima[r]);
  }
}

static void load_queries(const AttentionCall& call, const AttentionTile& tile,
                         const TileScratch& s) {
  for (int32_t r = 0; r < tile.rows(); ++r) {
    const int64_t token = tile.token + r / tile.num_heads, head = tile.head + r % tile.num_heads;
    copy_padded(call.q + token * call.q_stride + head * call.key_dim, call.key_dim,
                padded_dim(call.key_dim, kLanes), s.q + r * int64_t{s.key_stride});
  }
}

// The state of one segment of a tile, from nothing.
static void walk_segment(const AttentionCall& call, const AttentionTile& tile, int32_t segment,
                         const TileScratch& s, float* state) {
  clear_state(state, tile.rows(), s.state_stride, s.value_width);
  const int32_t begin =
      std::max(segment * kTuning.segment, call.first_index(tile.token) / kBlock * kBlock);
  const int32_t end =
      std::min((segment + 1) * kTuning.segment, call.end_index(tile.token + tile.num_tokens - 1));
  BlockRows block;
  for (int32_t first = begin; first < end; first += kBlock) {
    const int32_t n = std::min(kBlock, end - first);
    read_block(call, tile, first, n, end, s, block);
    score_block(s.q, s.key_stride, tile.rows(), block.key, n, padded_dim(call.key_dim, kLanes),
                s.scores);
    softmax_block(call, tile, first, s, state);
    sum_block(s, tile.rows(), block, n, state);
  }
}

static void walk_tile(const AttentionCall& call, const AttentionTile& tile, const TileScratch& s) {
  clear_state(s.total, tile.rows(), s.state_stride, s.value_width);
  for (int32_t i = 0; i < tile.num_segments; ++i) {
    walk_segment(call, tile, tile.first_segment + i, s, s.segment);
    for (int32_t r = 0; r < tile.rows(); ++r)
      merge_row(s.total + r * int64_t{s.state_stride}, s.segment + r * int64_t{s.state_stride},
                s.value_width);
  }
  for (int32_t r = 0; r < tile.rows(); ++r)
    write_row(call, tile.token + r / tile.num_heads, tile.head + r % tile.num_heads,
              s.total + r * int64_t{s.state_stride}, s.value_width);
}

// Rows of the split tiles, shared out over the workers: their segments in ascending order.
static void merge_split_rows(const AttentionCall& call, const AttentionPlan& plan,
                             const TileScratch& s, float* slots, platform::Worker& worker) {
  AttentionPlan::Tiles tiles(plan);
  int64_t row_number = 0;
  for (AttentionTile tile; tiles.next(tile);) {
    if (tile.slot < 0) continue;
    for (int32_t r = 0; r < tile.rows(); ++r, ++row_number) {
      if (row_number % worker.count() != worker.index()) continue;
      clear_state(s.total, 1, s.state_stride, s.value_width);
      for (int32_t i = 0; i < tile.num_segments; ++i)
        merge_row(s.total, slots + (tile.slot + int64_t{i} * tile.rows() + r) * s.state_stride,
                  s.value_width);
      write_row(call, tile.token + r / tile.num_heads, tile.head + r % tile.num_heads, s.total,
                s.value_width);
    }
  }
}

static void attention_run(const AttentionCall& call, platform::Worker& worker) {
  const TileScratch s = tile_scratch(call, worker.index());
  const AttentionPlan plan(call, kTuning, attention_slots(call, kTuning, worker.count()),
                           worker.count());
  float* slots = slot_memory(call, worker.count());
  AttentionPlan::Units units(plan);
  AttentionTile tile{};
  int32_t segment, loaded_token = -1, loaded_head = -1;
  worker.start_tickets();
  while (units.seek(worker.take_ticket(), tile, segment)) {
    if (tile.token != loaded_token || tile.head != loaded_head) load_queries(call, tile, s);
    loaded_token = tile.token;
    loaded_head = tile.head;
    if (segment < 0)
      walk_tile(call, tile, s);
    else
      walk_segment(call, tile, tile.first_segment + segment, s,
                   slots + (tile.slot + int64_t{segment} * tile.rows()) * s.state_stride);
  }
  if (!plan.any_split()) return;
  worker.barrier();
  merge_split_rows(call, plan, s, slots, worker);
}

std::string_view mla_why_not(const MlaShape& shape) noexcept {
  return is_kv_dtype(shape.kv_dtype) ? "" : kWantsFloatKv;
}
int64_t mla_scratch_bytes(const MlaShape& shape, int num_workers) noexcept {
  return attention_scratch_bytes(attention_shape(shape), num_workers);
}
void mla_run(const MlaArgs& args, platform::Worker& worker) noexcept {
  attention_run(attention_call(args), worker);
}

std::string_view gqa_why_not(const GqaShape& shape) noexcept {
  if (!is_kv_dtype(shape.kv_dtype)) return kWantsFloatKv;
  return divides_heads(shape) ? "" : kWantsWholeGroups;
}
int64_t gqa_scratch_bytes(const GqaShape& shape, int num_workers) noexcept {
  return attention_scratch_bytes(attention_shape(shape), num_workers);
}
void gqa_run(const GqaArgs& args, platform::Worker& worker) noexcept {
  attention_run(attention_call(args), worker);
}
