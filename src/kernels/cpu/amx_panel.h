// One panel (32 channels) times many rows with AMX. Included by gemm_*_amx.cpp only.
//
// Tiles 0..3 hold results (rows 0-15 and 16-31 of a block x both channel tiles), 4 and 5
// activations, 6 and 7 weights. Four products need 4 KiB of operands, 64 bytes a cycle, and L2
// gives 48: so k is split into pieces whose weights (16 KiB) stay in L1 while all row blocks pass,
// whose activations are loaded past L1; results wait in c between pieces. Quantised weights are
// decoded a piece at a time, once for all rows. A sum's order is that of k in any case.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/groups_avx512.h"
#include "kernels/cpu/next_weights.h"
#include "kernels/cpu/tile_ops.h"
#include "platform/amx_tile.h"
#include "platform/target.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu::amx {

// In tile steps: 64 bytes of an activation row.
inline constexpr int32_t kPieceSteps = 8, kSmallPieceSteps = 4;

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

// Activations times weights.
enum class Products : uint8_t { kU8S8, kS8U8, kS8S8, kBf16 };

template <Products products, int c, int a, int b>
inline void dot() {
  if constexpr (products == Products::kU8S8)
    platform::dot_u8s8<c, a, b>();
  else if constexpr (products == Products::kS8U8)
    platform::dot_s8u8<c, a, b>();
  else if constexpr (products == Products::kS8S8)
    platform::dot_s8s8<c, a, b>();
  else
    platform::dot_bf16<c, a, b>();
}

// Weights that are operands as they lie, and those that a decoder (decode_avx512.h) makes operands.
struct InPlace {
  static constexpr int32_t kSub = 1;
  static constexpr bool kDecodes = false;
};
template <class Decoder>
struct Decoded : Decoder {
  static constexpr bool kDecodes = true;
};

// Tile steps [begin, end), counted from the start of a piece, times one block.
template <int32_t sub>
struct Piece {
  const std::byte *w, *a;  // at the start of the piece
  int32_t begin, end;
  int32_t rows;  // of the block
  float* c;      // [rows, 32]
  bool first;    // c is to be overwritten

  static constexpr int64_t kRowBytes = 64 * sub;  // of a k-step
  const std::byte* weights(int32_t s) const { return w + s * tensor::kKStepBytes; }
  const std::byte* activations(int32_t s) const {
    return a + s / sub * (rows * kRowBytes) + s % sub * 64;
  }
};

// The result tiles of a block: of up to 16 rows, or of both halves.
template <bool both>
inline void zero_results() {
  platform::zero_tile<0>();
  platform::zero_tile<1>();
  if constexpr (both) platform::zero_tile<2>();
  if constexpr (both) platform::zero_tile<3>();
}
template <bool both>
inline void load_results(const float* c) {
  platform::load_tile<0>(c, 128);
  platform::load_tile<1>(c + 16, 128);
  if constexpr (both) platform::load_tile<2>(c + 16 * 32, 128);
  if constexpr (both) platform::load_tile<3>(c + 16 * 32 + 16, 128);
}
template <bool both>
inline void store_results(float* c) {
  platform::store_tile<0>(c, 128);
  platform::store_tile<1>(c + 16, 128);
  if constexpr (both) platform::store_tile<2>(c + 16 * 32, 128);
  if constexpr (both) platform::store_tile<3>(c + 16 * 32 + 16, 128);
}

// Adds a piece's products to the result tiles. What is fetched meanwhile is asked for a few lines
// at a time: tile loads wait in the same queue.
template <Products products, bool both, int32_t sub>
inline void add_products(const Piece<sub>& p, NextWeights& next) {
  using namespace platform;
  for (int32_t s = p.begin; s < p.end; ++s) {
    const std::byte *w = p.weights(s), *a = p.activations(s);
    next.step();
    load_tile<6>(w, 64);
    next.step();
    if constexpr (both)
      stream_tile<4>(a, p.kRowBytes);
    else
      load_tile<4>(a, p.kRowBytes);
    dot<products, 0, 4, 6>();
    next.step();
    load_tile<7>(w + 1024, 64);
    dot<products, 1, 4, 7>();
    next.step();
    if constexpr (both) {
      stream_tile<5>(a + 16 * p.kRowBytes, p.kRowBytes);
      dot<products, 2, 5, 6>();
      dot<products, 3, 5, 7>();
    }
  }
}

template <Products products, bool both, int32_t sub>
inline void multiply_block(const Piece<sub>& p, NextWeights& next) {
  if (p.first)
    zero_results<both>();
  else
    load_results<both>(p.c);
  add_products<products, both>(p, next);
  store_results<both>(p.c);
}
template <Products products, int32_t sub>
inline void multiply(const Piece<sub>& p, NextWeights& next) {
  if (p.rows > 16)
    multiply_block<products, true>(p, next);
  else
    multiply_block<products, false>(p, next);
}

// Tile steps that hold values of k.
template <class Weights>
int32_t tile_steps(const tensor::PackedMatrix& w) {
  const int32_t values = tensor::values_per_step(w.format) / Weights::kSub;
  return (w.k + values - 1) / values;
}

// Calls f(piece, first row of the block, first tile step of the piece) for every piece of k and,
// inside, every block.
template <class Weights, class F>
inline void each_piece(const PanelCall& call, TileState& state, F f) {
  constexpr int32_t sub = Weights::kSub;
  const tensor::PackedMatrix& m = *call.w;
  const int32_t k_steps = m.k_steps(), blocks = (call.rows + kBlockRows - 1) / kBlockRows;
  const int32_t piece_steps = blocks > 1          ? kPieceSteps / sub
                              : Weights::kDecodes ? kSmallPieceSteps / sub
                                                  : k_steps;
  alignas(64) std::byte decoded[Weights::kDecodes ? kPieceSteps * tensor::kKStepBytes : 64];
  for (int32_t s = 0; s < k_steps; s += piece_steps) {
    const int32_t steps = std::min(piece_steps, k_steps - s);
    const std::byte* w = m.panel(call.panel) + s * tensor::kKStepBytes;
    if constexpr (Weights::kDecodes) {
      Weights::decode(m, call.panel, s, steps, decoded);
      w = decoded;
    }
    for (int32_t b = 0; b < blocks; ++b) {
      const int32_t rows = std::min(kBlockRows, call.rows - b * kBlockRows);
      configure(state, rows);
      f(Piece<sub>{w, call.a + (int64_t{b} * kBlockRows * k_steps + int64_t{s} * rows) * 64 * sub,
                   0, std::min(steps * sub, tile_steps<Weights>(m) - s * sub), rows,
                   call.c + b * kBlockRows * 32, s == 0},
        b * kBlockRows, s * sub);
    }
  }
}

// The same for one block of weights that are decoded: each piece is decoded before the one ahead of
// it is multiplied, so that tile loads do not wait for stores just made.
template <class Weights, class F>
inline void each_decoded_piece(const PanelCall& call, F f) {
  constexpr int32_t sub = Weights::kSub, piece_steps = kSmallPieceSteps / sub;
  const tensor::PackedMatrix& m = *call.w;
  const int32_t k_steps = m.k_steps();
  alignas(64) std::byte decoded[2][kSmallPieceSteps * tensor::kKStepBytes];
  Weights::decode(m, call.panel, 0, std::min(piece_steps, k_steps), decoded[0]);
  for (int32_t s = 0, i = 0; s < k_steps; s += piece_steps, i ^= 1) {
    const int32_t steps = std::min(piece_steps, k_steps - s), next = s + steps;
    if (next < k_steps)
      Weights::decode(m, call.panel, next, std::min(piece_steps, k_steps - next), decoded[i ^ 1]);
    f(Piece<sub>{decoded[i], call.a + int64_t{s} * call.rows * 64 * sub, 0,
                 std::min(steps * sub, tile_steps<Weights>(m) - s * sub), call.rows, call.c,
                 s == 0},
      s * sub);
  }
}

template <class Weights>
NextWeights next_for(const PanelCall& call) {
  const int32_t blocks = (call.rows + kBlockRows - 1) / kBlockRows;
  return {call, int64_t{4} * tile_steps<Weights>(*call.w) * blocks};
}

// call.c becomes raw sums (int32 or float32) over all of k.
template <Products products, class Weights>
inline void panel_sums(const PanelCall& call, TileState& state) {
  NextWeights next = next_for<Weights>(call);
  if constexpr (Weights::kDecodes) {
    const auto one_block = [&]<bool both>() {
      configure(state, call.rows);
      zero_results<both>();
      each_decoded_piece<Weights>(
          call, [&](const auto& piece, int32_t) { add_products<products, both>(piece, next); });
      store_results<both>(call.c);
    };
    if (call.rows <= 16) return one_block.template operator()<false>();
    if (call.rows <= kBlockRows) return one_block.template operator()<true>();
  }
  each_piece<Weights>(
      call, state, [&](const auto& piece, int32_t, int32_t) { multiply<products>(piece, next); });
}

// panel_groups for up to 16 rows: the sums of a piece are counted after those of the next have been
// begun, so that nothing waits for tiles.
template <Products products, class Weights>
inline void few_rows_groups(const PanelCall& call, TileState& state, avx512::Stretch& stretch) {
  constexpr int32_t kStretches = kSmallPieceSteps;  // of one piece, at most
  const int32_t values = tensor::values_per_step(call.w->format) / Weights::kSub;
  NextWeights next = next_for<Weights>(call);
  configure(state, call.rows);
  alignas(64) float t[2][kStretches][16 * 32];
  int32_t starts[2][kStretches], num[2] = {0, 0}, now = 0;
  const auto count = [&](int32_t which) {
    for (int32_t j = 0; j < num[which]; ++j) {
      const int32_t k = starts[which][j];
      stretch.start(k);
      stretch.template count<products != Products::kBf16>(t[which][j], 0, call.rows, call.c,
                                                          k == 0);
    }
    num[which] = 0;
  };
  each_decoded_piece<Weights>(call, [&](auto piece, int32_t first_step) {
    const int32_t end = piece.end;
    piece.first = true;
    while (piece.begin < end) {
      const int32_t k = (first_step + piece.begin) * values;
      piece.end = stretch.end(k, (first_step + end) * values) / values - first_step;
      piece.c = t[now][num[now]];
      multiply_block<products, false>(piece, next);
      starts[now][num[now]++] = k;
      piece.begin = piece.end;
    }
    now ^= 1;
    count(now);
  });
  count(now ^ 1);
}

// call.c becomes the sums with all their scales; groups are multiples of a tile step's values.
template <Products products, class Weights>
inline void panel_groups(const PanelCall& call, TileState& state, avx512::Stretch& stretch) {
  constexpr bool kIntegers = products != Products::kBf16;
  if constexpr (Weights::kDecodes)
    if (call.rows <= 16) {
      few_rows_groups<products, Weights>(call, state, stretch);
      return stretch.finish();
    }
  const int32_t values = tensor::values_per_step(call.w->format) / Weights::kSub;
  NextWeights next = next_for<Weights>(call);
  alignas(64) float t[kBlockRows * 32];
  each_piece<Weights>(call, state, [&](auto piece, int32_t first_row, int32_t first_step) {
    float* c = piece.c;
    const int32_t end = piece.end;
    bool first = piece.first;
    piece.c = t;
    piece.first = true;
    while (piece.begin < end) {
      const int32_t k = (first_step + piece.begin) * values;
      piece.end = stretch.end(k, (first_step + end) * values) / values - first_step;
      multiply<products>(piece, next);
      stretch.start(k);
      stretch.template count<kIntegers>(t, first_row, piece.rows, c, first);
      first = false;
      piece.begin = piece.end;
    }
  });
  stretch.finish();
}

}  // namespace moestro::kernels::cpu::amx
MOESTRO_TARGET_END
