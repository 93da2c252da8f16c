// MLA and grouped-query attention over bf16 caches in AMX tiles. A segment's scores are computed
// transposed (cached rows as they lie in memory are the left operand, so nothing is transposed but
// the queries, once a tile), the softmax runs with 16 query rows in the lanes, and probabilities
// times values accumulate in tile registers over the whole segment. Queries and probabilities are
// rounded to bf16, sums are float32.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/attention_plan.h"
#include "platform/amx_tile.h"
#include "platform/target.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::amx {
namespace {
// Each builds on those before.
// clang-format off
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/vec_math.h"
#include "kernels/cpu/amx_rows_body.h"
#include "kernels/cpu/attention_state_body.h"
// clang-format on

constexpr AttentionTuning kTuning{64, 16, 512, 32};
constexpr int32_t kSegmentTiles = kTuning.segment / kTile;
constexpr int32_t kRowTiles = kTuning.tile_rows / kTile;

// One worker's scratch.
struct TileScratch {
  uint32_t* q;        // [row tiles, key steps, 16 pairs, 16 rows] two bf16 each
  std::byte* keys;    // [segment, key_row_bytes] copies of rows that cannot be read in place
  std::byte* values;  // [segment, value_row_bytes] likewise; MLA: unused
  float* scores;      // [row tiles, segment, 16 rows]
  uint32_t* weights;  // [row tiles, segment / 32, 16 rows, 16 pairs] probabilities
  uint32_t* columns;  // [segment / 32, 2, 16 pairs, 16 columns] values of 32 columns
  float* segment;     // [tile_rows, state_stride]
  float* total;       // [tile_rows, state_stride]
  int32_t key_steps, state_stride, value_width;
  int64_t key_row_bytes, value_row_bytes;
};

int64_t row_bytes(int32_t dim) { return padded_dim(dim, 32) * 2 + 64; }

int64_t tile_scratch_bytes(int32_t key_dim, int32_t value_dim) {
  const int64_t states =
      2 * kTuning.tile_rows * row_state_floats(value_dim, kTuning.value_padding) * 4;
  return int64_t{kTuning.tile_rows} * padded_dim(key_dim, 32) * 2 +
         kTuning.segment * (row_bytes(key_dim) + row_bytes(value_dim)) +
         int64_t{kTuning.tile_rows} * kTuning.segment * (4 + 2) + kTuning.segment * 64 + states +
         8 * 64;
}

TileScratch tile_scratch(const AttentionCall& call, int worker) {
  TileScratch s;
  s.key_steps = padded_dim(call.key_dim, 32) / 32;
  s.value_width = padded_dim(call.value_dim, kTuning.value_padding);
  s.state_stride = static_cast<int32_t>(row_state_floats(call.value_dim, kTuning.value_padding));
  s.key_row_bytes = row_bytes(call.key_dim);
  s.value_row_bytes = row_bytes(call.value_dim);
  std::byte* next = call.scratch + worker * tile_scratch_bytes(call.key_dim, call.value_dim);
  const auto take = [&next](int64_t bytes) {
    std::byte* p = aligned(next);
    next = p + bytes;
    return p;
  };
  s.q = reinterpret_cast<uint32_t*>(take(int64_t{kRowTiles} * s.key_steps * 1024));
  s.keys = take(kTuning.segment * s.key_row_bytes);
  s.values = take(kTuning.segment * s.value_row_bytes);
  s.scores = reinterpret_cast<float*>(take(int64_t{kTuning.tile_rows} * kTuning.segment * 4));
  s.weights = reinterpret_cast<uint32_t*>(take(int64_t{kTuning.tile_rows} * kTuning.segment * 2));
  s.columns = reinterpret_cast<uint32_t*>(take(int64_t{kTuning.segment} * 64));
  s.segment = reinterpret_cast<float*>(take(int64_t{kTuning.tile_rows} * s.state_stride * 4));
  s.total = reinterpret_cast<float*>(take(int64_t{kTuning.tile_rows} * s.state_stride * 4));
  return s;
}

float* slot_memory(const AttentionCall& call, int num_workers) {
  return reinterpret_cast<float*>(
      aligned(call.scratch + num_workers * tile_scratch_bytes(call.key_dim, call.value_dim)));
}

int64_t scratch_bytes(const AttentionShape& shape, int num_workers) {
  return num_workers * tile_scratch_bytes(shape.key_dim, shape.value_dim) +
         attention_slots(shape, kTuning, num_workers) *
             row_state_floats(shape.value_dim, kTuning.value_padding) * 4 +
         128;
}

int32_t row_tiles(const AttentionTile& tile) { return (tile.rows() + kTile - 1) / kTile; }

// The rows of a segment: keys as tiles of 16 rows, values one by one.
struct SegmentRows {
  RowTile key[kSegmentTiles];
  const std::byte* value[kTuning.segment];
};

void read_segment(const AttentionCall& call, const AttentionTile& tile, int32_t first, int32_t n,
                  const TileScratch& s, SegmentRows& rows) {
  const int32_t* selected = call.is_sparse(tile.token)
                                ? call.selected + int64_t{tile.token} * call.max_selected
                                : nullptr;
  const int32_t key_offset = tile.kv_head * call.key_dim,
                value_offset = tile.kv_head * call.value_dim;
  for (int32_t i = 0; i < n; i += kTile) {
    rows.key[i / kTile] =
        key_tile(*call.step, tile.token, call.key, selected, first + i, std::min(kTile, n - i),
                 key_offset, call.key_dim, s.keys + i * s.key_row_bytes, s.key_row_bytes);
  }
  for (int32_t i = 0; i < n; ++i) {
    const int32_t position = selected ? selected[first + i] : first + i;
    const tensor::PagedView& view = call.value;
    const std::byte* row = view.row(call.step->block_of(tile.token, position, view.page_size),
                                    position % view.page_size);
    rows.value[i] = padded_row(row + 2 * int64_t{value_offset}, call.value_dim,
                               s.values + i * s.value_row_bytes);
  }
}

// Scores of one tile of 16 query rows to probabilities under this segment's maxima, packed as the
// left operand of the value product. Writes the rows' maxima and sums to the state.
void softmax_rows(const AttentionCall& call, const AttentionTile& tile, int32_t row_tile,
                  int32_t first, int32_t n, const TileScratch& s, float* state) {
  alignas(64) int32_t from[kTile], to[kTile];
  const int32_t rows = std::min(kTile, tile.rows() - row_tile * kTile);
  for (int32_t r = 0; r < kTile; ++r) {  // rows of padding see nothing
    const int32_t token = tile.token + (row_tile * kTile + r) / tile.num_heads;
    from[r] = r < rows ? call.first_index(token) - first : 0;
    to[r] = r < rows ? call.end_index(token) - first : 0;
  }
  const __m512i begin = _mm512_loadu_si512(from), end = _mm512_loadu_si512(to);
  float* scores = s.scores + int64_t{row_tile} * kTuning.segment * kTile;
  const Vec scale = set1(call.scale), lowest = set1(-INFINITY);
  Vec top = lowest;
  for (int32_t p = 0; p < n; ++p) {
    const __m512i at = _mm512_set1_epi32(p);
    const __mmask16 seen = _mm512_cmpge_epi32_mask(at, begin) & _mm512_cmplt_epi32_mask(at, end);
    const Vec x = _mm512_mask_mov_ps(lowest, seen, mul(load(scores + p * kTile), scale));
    store(scores + p * kTile, x);
    top = max(x, top);
  }
  const Vec base = where_equal(top, lowest, zero(), top);
  Vec sum = zero();
  uint32_t* weights = s.weights + int64_t{row_tile} * kTuning.segment / 32 * 256;
  for (int32_t p = 0; p < n; p += 32) {
    __m512i pairs[16];
    for (int32_t i = 0; i < 16; ++i) {
      const int32_t at = p + 2 * i;
      const Vec even = at < n ? exp(sub(load(scores + at * kTile), base)) : zero();
      const Vec odd = at + 1 < n ? exp(sub(load(scores + (at + 1) * kTile), base)) : zero();
      sum = add(sum, add(even, odd));
      pairs[i] = pack_bf16(even, odd);
    }
    transpose_16x16(pairs);
    for (int32_t r = 0; r < 16; ++r) _mm512_storeu_si512(weights + p / 32 * 256 + r * 16, pairs[r]);
  }
  alignas(64) float maxima[kTile], sums[kTile];
  store(maxima, top);
  store(sums, sum);
  for (int32_t r = 0; r < rows; ++r) {
    float* row = state + (row_tile * kTile + r) * int64_t{s.state_stride};
    state_max(row, s.value_width) = maxima[r];
    state_sum(row, s.value_width) = sums[r];
  }
}

// Values of columns [column, column + 32) as right operands: pairs of positions side by side, n
// rounded up to 32 with zeros. The first of the two tiles gets columns 0-3, 8-11, 16-19, 24-27, the
// second the others (restore_columns undoes it).
void pack_columns(const SegmentRows& rows, int32_t n, int32_t column, uint32_t* out) {
  const __m512i none = _mm512_setzero_si512();
  for (int32_t p = 0; p < padded_dim(n, 32); p += 2) {
    const __m512i even = p < n ? _mm512_loadu_si512(rows.value[p] + 2 * column) : none;
    const __m512i odd = p + 1 < n ? _mm512_loadu_si512(rows.value[p + 1] + 2 * column) : none;
    uint32_t* at = out + p / 32 * 512 + p % 32 / 2 * 16;
    _mm512_storeu_si512(at, _mm512_unpacklo_epi16(even, odd));
    _mm512_storeu_si512(at + 256, _mm512_unpackhi_epi16(even, odd));
  }
}

void restore_columns(float* row, int32_t width) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  for (int32_t i = 0; i < width; i += 32) {
    const __m512i a = _mm512_loadu_si512(row + i), b = _mm512_loadu_si512(row + i + 16);
    _mm512_storeu_si512(row + i, _mm512_permutex2var_epi32(a, low, b));
    _mm512_storeu_si512(row + i + 16, _mm512_permutex2var_epi32(a, high, b));
  }
}

// state[rows, column..+32] = weights x columns for R row tiles: accumulated in tile registers over
// the segment. Rows of padding land behind the tile's own rows.
template <int R>
void value_product(const uint32_t* weights, const uint32_t* columns, int32_t steps, float* state,
                   int64_t state_stride) {
  using namespace platform;
  zero_tile<0>();
  zero_tile<1>();
  if constexpr (R == 2) {
    zero_tile<2>();
    zero_tile<3>();
  }
  for (int32_t k = 0; k < steps; ++k) {
    load_tile<6>(columns + k * 512, 64);
    load_tile<7>(columns + k * 512 + 256, 64);
    load_tile<4>(weights + k * 256, 64);
    dot_bf16<0, 4, 6>();
    dot_bf16<1, 4, 7>();
    if constexpr (R == 2) {
      load_tile<5>(weights + (kTuning.segment / 32 + k) * 256, 64);
      dot_bf16<2, 5, 6>();
      dot_bf16<3, 5, 7>();
    }
  }
  store_tile<0>(state, state_stride * 4);
  store_tile<1>(state + 16, state_stride * 4);
  if constexpr (R == 2) {
    store_tile<2>(state + kTile * state_stride, state_stride * 4);
    store_tile<3>(state + kTile * state_stride + 16, state_stride * 4);
  }
}

// The state of one segment of a tile, columns permuted. state has room for whole row tiles.
void walk_segment(const AttentionCall& call, const AttentionTile& tile, int32_t segment,
                  const TileScratch& s, float* state) {
  const int32_t first = segment * kTuning.segment;
  const int32_t n =
      std::min(kTuning.segment, call.end_index(tile.token + tile.num_tokens - 1) - first);
  const int32_t tiles = row_tiles(tile);
  if (n <= 0) return clear_state(state, tile.rows(), s.state_stride, s.value_width);
  SegmentRows rows;
  read_segment(call, tile, first, n, s, rows);
  for (int32_t r = 0; r < tiles; r += 2) {
    score_tiles(rows.key, n, s.q + int64_t{r} * s.key_steps * 256, std::min(2, tiles - r),
                s.key_steps, s.scores + int64_t{r} * kTuning.segment * kTile,
                int64_t{kTuning.segment} * kTile);
  }
  for (int32_t r = 0; r < tiles; ++r) softmax_rows(call, tile, r, first, n, s, state);
  const int32_t steps = padded_dim(n, 32) / 32;
  for (int32_t column = 0; column < s.value_width; column += 32) {
    pack_columns(rows, n, column, s.columns);
    for (int32_t r = 0; r < tiles; r += 2) {
      const uint32_t* weights = s.weights + int64_t{r} * kTuning.segment / 32 * 256;
      float* out = state + r * kTile * int64_t{s.state_stride} + column;
      if (r + 1 < tiles)
        value_product<2>(weights, s.columns, steps, out, s.state_stride);
      else
        value_product<1>(weights, s.columns, steps, out, s.state_stride);
    }
  }
}

void write_tile_row(const AttentionCall& call, const AttentionTile& tile, int32_t r, float* state,
                    const TileScratch& s) {
  restore_columns(state, s.value_width);
  write_row(call, tile.token + r / tile.num_heads, tile.head + r % tile.num_heads, state,
            s.value_width);
}

void walk_tile(const AttentionCall& call, const AttentionTile& tile, const TileScratch& s) {
  clear_state(s.total, tile.rows(), s.state_stride, s.value_width);
  for (int32_t i = 0; i < tile.num_segments; ++i) {
    walk_segment(call, tile, tile.first_segment + i, s, s.segment);
    for (int32_t r = 0; r < tile.rows(); ++r)
      merge_row(s.total + r * int64_t{s.state_stride}, s.segment + r * int64_t{s.state_stride},
                s.value_width);
  }
  for (int32_t r = 0; r < tile.rows(); ++r)
    write_tile_row(call, tile, r, s.total + r * int64_t{s.state_stride}, s);
}

// One segment of a split tile: its rows go to their slots (a slot has no room for rows of padding).
void walk_split_segment(const AttentionCall& call, const AttentionTile& tile, int32_t segment,
                        const TileScratch& s, float* slots) {
  walk_segment(call, tile, tile.first_segment + segment, s, s.segment);
  const size_t bytes = static_cast<size_t>(tile.rows()) * static_cast<size_t>(s.state_stride) * 4;
  std::memcpy(slots + (tile.slot + int64_t{segment} * tile.rows()) * s.state_stride, s.segment,
              bytes);
}

void merge_split_rows(const AttentionCall& call, const AttentionPlan& plan, const TileScratch& s,
                      const float* slots, platform::Worker& worker) {
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
      write_tile_row(call, tile, r, s.total, s);
    }
  }
}

void run(const AttentionCall& call, platform::Worker& worker) {
  const TileScratch s = tile_scratch(call, worker.index());
  const AttentionPlan plan(call, kTuning, attention_slots(call, kTuning, worker.count()),
                           worker.count());
  float* slots = slot_memory(call, worker.count());
  AttentionPlan::Units units(plan);
  AttentionTile tile{};
  int32_t segment, loaded_token = -1, loaded_head = -1;
  configure_tiles();
  worker.start_tickets();
  while (units.seek(worker.take_ticket(), tile, segment)) {
    if (tile.token != loaded_token || tile.head != loaded_head) {
      for (int32_t r = 0; r < tile.rows(); r += kTile) {
        const float* q[kTile];
        const int32_t rows = std::min(kTile, tile.rows() - r);
        for (int32_t i = 0; i < rows; ++i)
          q[i] = call.q + (tile.token + (r + i) / tile.num_heads) * call.q_stride +
                 int64_t{tile.head + (r + i) % tile.num_heads} * call.key_dim;
        pack_queries(q, rows, call.key_dim, s.q + int64_t{r / kTile} * s.key_steps * 256);
      }
    }
    loaded_token = tile.token;
    loaded_head = tile.head;
    if (segment < 0)
      walk_tile(call, tile, s);
    else
      walk_split_segment(call, tile, segment, s, slots);
  }
  platform::release_tiles();
  if (!plan.any_split()) return;
  worker.barrier();
  merge_split_rows(call, plan, s, slots, worker);
}

}  // namespace

std::string_view mla_why_not(const MlaShape& shape) noexcept {
  return shape.kv_dtype == DType::kBF16 ? "" : kWantsBf16Kv;
}
int64_t mla_scratch_bytes(const MlaShape& shape, int num_workers) noexcept {
  return scratch_bytes(attention_shape(shape), num_workers);
}
void mla_run(const MlaArgs& args, platform::Worker& worker) noexcept {
  run(attention_call(args), worker);
}

std::string_view gqa_why_not(const GqaShape& shape) noexcept {
  if (shape.kv_dtype != DType::kBF16) return kWantsBf16Kv;
  return divides_heads(shape) ? "" : kWantsWholeGroups;
}
int64_t gqa_scratch_bytes(const GqaShape& shape, int num_workers) noexcept {
  return scratch_bytes(attention_shape(shape), num_workers);
}
void gqa_run(const GqaArgs& args, platform::Worker& worker) noexcept {
  run(attention_call(args), worker);
}

}  // namespace moestro::kernels::amx
MOESTRO_TARGET_END
