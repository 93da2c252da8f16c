// The scratch memory of one MoE layer launch (moe_layer.h) and how its parts lie in it. Plain C++;
// used by the launches and by the planner through moe_workspace_bytes.
#pragma once
#include <algorithm>

#include "kernels/cuda/moe_layer.h"

namespace moestro::kernels::cuda {

// Rows are "grouped rows": each expert's rows in stable token order, padded to whole tiles of
// row_tile rows.
struct MoeWorkspace {
  // Counters, zero between launches.
  uint32_t* barrier;     // [2] arrivals, generation: the routing kernel's grid barrier
  uint32_t* part_count;  // [sms] finished parts of a shared block of a product
  int32_t* part_sums;    // [sms][256 * row_tile] sums of shared blocks
  // Per launch.
  int32_t* tile_start;       // [experts + 1] first tile of each expert
  int32_t* expert_rows;      // [experts]
  int32_t* block_histogram;  // [routing blocks][experts]
  int32_t* ids;              // [tokens, top_k]
  float* weights;            // [tokens, top_k]
  int32_t* pair_rank;  // [tokens * top_k] rank among the pairs of its expert in its routing block
  int32_t* pair_row;   // [tokens * top_k] grouped row, -1: none
  float* token_scale;  // [tokens]
  float* x_scale;      // [rows]
  float* h_scale;      // [rows]
  int8_t* x_tokens;    // [tokens, hidden padded to 128]
  int8_t* x_rows;      // tiles of x
  uint16_t* h;         // bfloat16 [rows, intermediate padded to 128]
  int8_t* h_rows;      // tiles of h
  uint16_t* y;         // bfloat16 [rows, hidden]
  int64_t counter_bytes;  // the zeroed part at the start
  int64_t bytes;
};

struct MoeSizes {
  int32_t row_tile, hidden_steps, inter_steps;
  int64_t tiles, rows;  // at most
};

inline MoeSizes moe_sizes(const DeviceMoeShape& s) {
  MoeSizes z{};
  z.row_tile = moe_row_tile(s);
  z.hidden_steps = ceil_div(s.hidden, kStepBytes);
  z.inter_steps = ceil_div(s.intermediate, kStepBytes);
  const int64_t pairs = int64_t{s.max_tokens} * s.top_k;
  z.tiles = pairs / z.row_tile + std::min<int64_t>(pairs, s.experts);
  z.rows = z.tiles * z.row_tile;
  return z;
}

inline MoeWorkspace place_moe_workspace(const DeviceMoeShape& s, int32_t sms, std::byte* base) {
  const MoeSizes z = moe_sizes(s);
  const int64_t pairs = int64_t{s.max_tokens} * s.top_k;
  MoeWorkspace w{};
  int64_t at = 0;
  auto take = [&](auto*& pointer, int64_t count) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + at);
    at += (count * static_cast<int64_t>(sizeof(*pointer)) + 1023) / 1024 * 1024;
  };
  take(w.barrier, 2);
  take(w.part_count, sms);
  take(w.part_sums, z.row_tile <= 32 ? int64_t{sms} * kBlockRows * z.row_tile : 0);
  w.counter_bytes = at;
  take(w.tile_start, s.experts + 1);
  take(w.expert_rows, s.experts);
  take(w.block_histogram, int64_t{sms} * s.experts);
  take(w.ids, pairs);
  take(w.weights, pairs);
  take(w.pair_rank, pairs);
  take(w.pair_row, pairs);
  take(w.token_scale, s.max_tokens);
  take(w.x_scale, z.rows);
  take(w.h_scale, z.rows);
  take(w.x_tokens, int64_t{s.max_tokens} * z.hidden_steps * kStepBytes);
  take(w.x_rows, z.rows * z.hidden_steps * kStepBytes);
  take(w.h, z.rows * z.inter_steps * kStepBytes);
  take(w.h_rows, z.rows * z.inter_steps * kStepBytes);
  take(w.y, z.rows * s.hidden);
  w.bytes = at;
  return w;
}

}  // namespace moestro::kernels::cuda
