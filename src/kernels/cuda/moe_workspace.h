// The scratch memory of one MoE layer launch (moe_layer.h) and how its parts lie in it. Plain C++;
// used by the launches and by the planner through moe_workspace_bytes.
#pragma once
#include <algorithm>

#include "kernels/cuda/moe_layer.h"

namespace moestro::kernels::cuda {

// Rows are "grouped rows": each expert's rows in stable token order, padded to a multiple of 8. The
// operand tiles of expert e with R = padded rows lie at expert_start[e] * k_steps * 128 bytes, as
// data[k_step][row 0..R-1][128 bytes, swizzled by row % 8]: any 8-aligned range of rows is one
// sequential copy a step, so kernels choose their tiles freely.
struct MoeWorkspace {
  // Zero between launches, epoch apart.
  uint32_t* barrier;  // [2] arrivals, generation: the routing kernel's grid barrier
  uint32_t* epoch;    // [2] which set a launch with resident rows uses; blocks that have read it
  // All ones between launches: words that their reader waits for, then sets back. In two sets by
  // epoch: the other set is set back during a launch.
  uint32_t* parts[2];  // sums of parts of blocks: [row][256 channels] a part
  uint16_t* h_set;     // resident: [2][rows, h_stride] bfloat16
  float* h_scale_set;  // resident: [2][rows]
  // Per launch.
  int32_t* expert_start;     // [experts + 1] first grouped row
  int32_t* expert_rows;      // [experts]
  int32_t* tile_start;       // [experts + 1] tiles of row_tile rows before each expert
  int32_t* block_histogram;  // [experts][routing blocks]
  int32_t* ids;              // [tokens, top_k]
  float* weights;            // [tokens, top_k]
  int32_t* pair_rank;  // [tokens * top_k] rank among the pairs of its expert in its routing block
  int32_t* pair_row;   // [tokens * top_k] grouped row, -1: none
  uint32_t* up_done;   // [experts] blocks of gate_up that are finished
  float* h_absmax;     // [rows]
  float* x_scale;      // [rows]
  float* h_scale;      // [rows]
  std::byte* x_rows;   // operand tiles of x
  uint16_t* h;         // bfloat16 [rows, h_stride]
  std::byte* h_rows;   // operand tiles of h
  uint16_t* y;         // bfloat16 [rows, hidden]
  int64_t zero_bytes, ones_end;  // [0, zero_bytes) starts as zeros, [zero_bytes, ones_end) as ones
  int64_t bytes;
};

inline constexpr int32_t kPrefillRows = 160;  // row_tile of the prefill kernel
inline constexpr int32_t kResidentTokens = 8;

struct MoeSizes {
  int32_t row_tile, hidden_steps, inter_steps;
  int32_t h_stride;  // values
  DeviceMatrix up, down;
  bool resident;  // routing inside the decode kernel, x in shared memory
  int64_t rows;   // at most
};

inline MoeSizes moe_sizes(const DeviceMoeShape& s) {
  MoeSizes z{};
  z.row_tile = moe_row_tile(s);
  z.up = gate_up_matrix(s.hidden, s.intermediate, s.value_bytes);
  z.down = {s.hidden, s.intermediate, s.value_bytes};
  z.hidden_steps = z.up.k_steps();
  z.inter_steps = z.down.k_steps();
  z.h_stride = ceil_div(s.intermediate, kBlockRows / 2) * (kBlockRows / 2);
  // The rows of x and four stages of weights and rows of h must fit in shared memory.
  z.resident = s.max_tokens <= kResidentTokens && z.row_tile == 8 &&
               (z.hidden_steps + 3 * 33) * 1024 <= kDecodeSharedBytes;
  const int64_t pairs = int64_t{s.max_tokens} * s.top_k;
  const int64_t hit = std::min<int64_t>(pairs, s.experts);
  z.rows = z.resident ? 8 * hit : pairs + 8 * hit;
  return z;
}

inline MoeWorkspace place_moe_workspace(const DeviceMoeShape& s, int32_t sms, std::byte* base) {
  const MoeSizes z = moe_sizes(s);
  const int64_t pairs = int64_t{s.max_tokens} * s.top_k;
  const int64_t hit = std::min<int64_t>(pairs, s.experts);
  const bool decode = z.row_tile < kPrefillRows;
  MoeWorkspace w{};
  int64_t at = 0;
  auto take = [&](auto*& pointer, int64_t count) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + at);
    at += (count * static_cast<int64_t>(sizeof(*pointer)) + 1023) / 1024 * 1024;
  };
  take(w.barrier, 2);
  take(w.epoch, 2);
  w.zero_bytes = at;
  const int64_t part = int64_t{kBlockRows} * z.row_tile;
  take(w.parts[0], decode ? sms * part : 0);
  take(w.parts[1], !decode ? 0 : (z.resident ? hit * z.down.blocks() + sms : sms) * part);
  take(w.h_set, z.resident ? 2 * z.rows * z.h_stride : 0);
  take(w.h_scale_set, z.resident ? 2 * z.rows : 0);
  w.ones_end = at;
  if (!z.resident) {
    // Tiles may reach past the last row: their surplus is read and not used.
    const int64_t read_rows = z.rows + kPrefillRows;
    take(w.expert_start, s.experts + 1);
    take(w.expert_rows, s.experts);
    take(w.tile_start, s.experts + 1);
    take(w.block_histogram, int64_t{sms} * s.experts);
    take(w.ids, pairs);
    take(w.weights, pairs);
    take(w.pair_rank, pairs);
    take(w.pair_row, pairs);
    take(w.up_done, s.experts);
    take(w.h_absmax, z.rows);
    take(w.x_scale, read_rows);
    take(w.h_scale, read_rows);
    take(w.x_rows, read_rows * z.hidden_steps * kStepBytes);
    take(w.h, z.rows * z.h_stride);
    take(w.h_rows, decode ? 0 : read_rows * z.inter_steps * kStepBytes);
    take(w.y, z.rows * s.hidden);
  }
  w.bytes = at;
  return w;
}

}  // namespace moestro::kernels::cuda
