// One panel (32 channels) times many rows with AMX, for int8 and bfloat16. Included by
// gemm_*_amx.cpp only.
//
// Tiles 0..3 hold results (rows 0-15 and 16-31 of a block x both channel tiles), 4 and 5
// activations, 6 and 7 weights. Four products need 4 KiB of operands, 64 bytes a cycle, and L2
// gives 48: so k is split into pieces whose weights (32 KiB) stay in L1 while all row blocks pass,
// whose activations are loaded past L1; results wait in c between pieces. A sum's order is that of
// k either way.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/tile_ops.h"
#include "platform/amx_tile.h"
#include "platform/target.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu::amx {

inline constexpr int32_t kPieceSteps = 16;

// Tiles for a block of `rows` rows; loaded only when the number changes.
inline void configure(TileState& state, int32_t rows) {
  if (state.rows == rows) return;
  state.rows = rows;
  const int32_t low = std::min(rows, 16), high = rows - low;
  platform::TileConfig config;
  config.set(0, low);
  config.set(1, low);
  config.set(4, low);
  config.set(2, high);
  config.set(3, high);
  config.set(5, high);
  config.set(6, 16);
  config.set(7, 16);
  platform::load_tile_config(config);
}

inline void finish(TileState& state) {
  if (state.rows >= 0) platform::release_tiles();
  state.rows = -1;
}

template <bool int8, int c, int a, int b>
inline void dot() {
  if constexpr (int8)
    platform::dot_u8s8<c, a, b>();
  else
    platform::dot_bf16<c, a, b>();
}

// Brings the weights that follow to L2, a bit every step.
class Prefetch {
 public:
  Prefetch(const PanelCall& call, int64_t steps)
      : at_(reinterpret_cast<const char*>(call.next)),
        end_(at_ + call.next_bytes),
        per_step_((call.next_bytes / std::max<int64_t>(1, steps) + 63) / 64 * 64) {}
  void step() {
    for (const char* stop = std::min(at_ + per_step_, end_); at_ < stop; at_ += 64)
      _mm_prefetch(at_, _MM_HINT_T1);
  }

 private:
  const char *at_, *end_;
  int64_t per_step_;
};

struct Piece {
  const std::byte* w;
  const std::byte* a;
  int32_t steps, rows;  // rows of the block
  float* c;             // [rows, 32]
  bool first;           // c is to be overwritten
};

// Results stay in the tiles while a block's piece is summed: 16 < rows <= 32.
template <bool int8>
inline void multiply_32(const Piece& p, Prefetch& prefetch) {
  using namespace platform;
  float* c = p.c;
  if (p.first) {
    zero_tile<0>();
    zero_tile<1>();
    zero_tile<2>();
    zero_tile<3>();
  } else {
    load_tile<0>(c, 128);
    load_tile<1>(c + 16, 128);
    load_tile<2>(c + 16 * 32, 128);
    load_tile<3>(c + 16 * 32 + 16, 128);
  }
  const std::byte *w = p.w, *a = p.a;
  for (int32_t s = 0; s < p.steps; ++s, w += tensor::kKStepBytes, a += p.rows * 64) {
    prefetch.step();
    load_tile<6>(w, 64);
    stream_tile<4>(a, 64);
    dot<int8, 0, 4, 6>();
    load_tile<7>(w + 1024, 64);
    dot<int8, 1, 4, 7>();
    stream_tile<5>(a + 1024, 64);
    dot<int8, 2, 5, 6>();
    dot<int8, 3, 5, 7>();
  }
  store_tile<0>(c, 128);
  store_tile<1>(c + 16, 128);
  store_tile<2>(c + 16 * 32, 128);
  store_tile<3>(c + 16 * 32 + 16, 128);
}

// rows <= 16.
template <bool int8>
inline void multiply_16(const Piece& p, Prefetch& prefetch) {
  using namespace platform;
  if (p.first) {
    zero_tile<0>();
    zero_tile<1>();
  } else {
    load_tile<0>(p.c, 128);
    load_tile<1>(p.c + 16, 128);
  }
  const std::byte *w = p.w, *a = p.a;
  for (int32_t s = 0; s < p.steps; ++s, w += tensor::kKStepBytes, a += p.rows * 64) {
    prefetch.step();
    load_tile<4>(a, 64);
    load_tile<6>(w, 64);
    dot<int8, 0, 4, 6>();
    load_tile<7>(w + 1024, 64);
    dot<int8, 1, 4, 7>();
  }
  store_tile<0>(p.c, 128);
  store_tile<1>(p.c + 16, 128);
}

// call.c becomes raw sums (int32 or float32).
template <bool int8>
inline void panel_sums(const PanelCall& call, TileState& state) {
  const int32_t k_steps = call.w->k_steps(), blocks = (call.rows + kBlockRows - 1) / kBlockRows;
  const int32_t piece_steps = blocks == 1 ? k_steps : kPieceSteps;
  const std::byte* w = call.w->panel(call.panel);
  Prefetch prefetch(call, int64_t{k_steps} * blocks);
  for (int32_t s = 0; s < k_steps; s += piece_steps) {
    const int32_t steps = std::min(piece_steps, k_steps - s);
    for (int32_t b = 0; b < blocks; ++b) {
      const int32_t rows = std::min(kBlockRows, call.rows - b * kBlockRows);
      const Piece piece = {w + s * tensor::kKStepBytes,
                           call.a + (int64_t{b} * kBlockRows * k_steps + int64_t{s} * rows) * 64,
                           steps,
                           rows,
                           call.c + b * kBlockRows * 32,
                           s == 0};
      configure(state, rows);
      if (rows > 16)
        multiply_32<int8>(piece, prefetch);
      else
        multiply_16<int8>(piece, prefetch);
    }
  }
}

}  // namespace moestro::kernels::cpu::amx
MOESTRO_TARGET_END
