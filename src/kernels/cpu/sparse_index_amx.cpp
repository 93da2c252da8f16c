// DSA index selection over bf16 keys in AMX tiles: 16 cached keys are the left operand as they lie
// in memory, 16 heads of a query the right one; the weighted sum over heads and the selection are
// AVX-512. Queries are rounded to bf16.
#include <immintrin.h>

#include <algorithm>
#include <bit>
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
#include "kernels/cpu/select_body.h"
#include "kernels/cpu/sparse_index_tiles_body.h"
// clang-format on

constexpr int32_t kBlock =
    256;  // positions scored together: their keys stay in the second-level cache
static_assert(kIndexChunk % kBlock == 0);

float* aligned(float* p) {
  return reinterpret_cast<float*>(aligned(reinterpret_cast<std::byte*>(p)));
}
std::string_view why_not_keys(DType dtype) { return dtype == DType::kBF16 ? "" : kWantsBf16Kv; }

struct IndexScratch {
  uint32_t* q;      // [kIndexTokens, head tiles, key steps, 16 pairs, 16 heads]
  std::byte* keys;  // [kBlock, key_bytes] copies of rows that cannot be read in place
  float* dots;      // [2, kBlock, 16 heads]
  float* sums;      // [kBlock, 16] weighted dots, to be summed over the lanes
  int32_t head_tiles, key_steps;
  int64_t key_bytes;
};

int64_t index_scratch_floats(int32_t heads, int32_t dim) {
  const int64_t steps = padded_dim(dim, 32) / 32;
  return int64_t{kIndexTokens} * (padded_dim(heads, kTile) / kTile) * steps * 256 +
         kBlock * (steps * 16 + 16) + 3 * kBlock * kTile + 5 * 16;
}

IndexScratch index_scratch(const SparseIndexArgs& args, int worker) {
  IndexScratch s;
  s.head_tiles = padded_dim(args.heads, kTile) / kTile;
  s.key_steps = padded_dim(args.dim, 32) / 32;
  s.key_bytes = int64_t{s.key_steps} * 64 + 64;
  float* next = aligned(reinterpret_cast<float*>(args.scratch) +
                        worker * index_scratch_floats(args.heads, args.dim));
  s.q = reinterpret_cast<uint32_t*>(next);
  next += int64_t{kIndexTokens} * s.head_tiles * s.key_steps * 256;
  s.keys = reinterpret_cast<std::byte*>(next);
  next += kBlock * s.key_bytes / 4;
  s.dots = next;
  s.sums = next + 2 * kBlock * kTile;
  return s;
}

void load_index_queries(const SparseIndexArgs& args, const IndexTile& tile, const IndexScratch& s) {
  for (int32_t t = 0; t < tile.num_tokens; ++t) {
    for (int32_t h = 0; h < args.heads; h += kTile) {
      const float* q[kTile];
      const int32_t rows = std::min(kTile, args.heads - h);
      for (int32_t i = 0; i < rows; ++i)
        q[i] = args.q + (int64_t{tile.token + t} * args.heads + h + i) * args.dim;
      pack_queries(q, rows, args.dim,
                   s.q + (t * s.head_tiles + h / kTile) * int64_t{s.key_steps} * 256);
    }
  }
}

// s.sums[p, lane] (+)= weights[lane] * relu(dots[p, lane]) of one head tile.
void weigh_heads(const float* dots, const float* weights, int32_t heads, int32_t positions,
                 bool first, float* sums) {
  const Vec weight = load_first(weights, heads);
  for (int32_t p = 0; p < positions; ++p) {  // max's order keeps NaN
    const Vec before = first ? zero() : load(sums + p * kTile);
    store(sums + p * kTile, fma(weight, max(zero(), load(dots + p * kTile)), before));
  }
}

// scores[p] = the sum of the lanes of sums[p], 16 positions at a time.
void sum_heads(const float* sums, int32_t positions, float* scores) {
  for (int32_t p = 0; p < positions; p += kTile) {
    __m512i rows[kTile];
    for (int32_t i = 0; i < kTile; ++i) rows[i] = _mm512_loadu_si512(sums + (p + i) * kTile);
    transpose_16x16(rows);
    Vec total = zero();
    for (int32_t i = 0; i < kTile; ++i) total = add(total, _mm512_castsi512_ps(rows[i]));
    store(scores + p, total);
  }
}

// Scores of positions [begin, end) of the tile's tokens, whole tiles of positions: scores past a
// token's own position are never read.
void score_positions(const SparseIndexArgs& args, const IndexTile& tile, int32_t begin, int32_t end,
                     const IndexScratch& s, float* scores, int64_t stride) {
  configure_tiles();
  RowTile keys[kBlock / kTile];
  for (int32_t first = begin; first < end; first += kBlock) {
    const int32_t n = std::min(kBlock, end - first), whole = padded_dim(n, kTile);
    for (int32_t i = 0; i < n; i += kTile) {
      keys[i / kTile] =
          key_tile(*args.step, tile.token, args.keys, nullptr, first + i, std::min(kTile, n - i), 0,
                   args.dim, s.keys + i * s.key_bytes, s.key_bytes);
    }
    for (int32_t t = 0; t < tile.num_tokens; ++t) {
      const float* weights = args.weights + int64_t{tile.token + t} * args.heads;
      for (int32_t h = 0; h < s.head_tiles; h += 2) {
        const int32_t tiles = std::min(2, s.head_tiles - h);
        score_tiles(keys, n, s.q + (t * s.head_tiles + h) * int64_t{s.key_steps} * 256, tiles,
                    s.key_steps, s.dots, kBlock * kTile);
        for (int32_t i = 0; i < tiles; ++i)
          weigh_heads(s.dots + i * kBlock * kTile, weights + (h + i) * kTile,
                      std::min(kTile, args.heads - (h + i) * kTile), whole, h + i == 0, s.sums);
      }
      sum_heads(s.sums, whole, scores + t * stride + first);
    }
  }
  platform::release_tiles();
}

}  // namespace
#include "kernels/cpu/sparse_index_body.h"
}  // namespace moestro::kernels::amx
MOESTRO_TARGET_END
