// One panel (32 channels) times many rows with AMX. Included by gemm_*_amx.cpp only.
//
// Tiles 0..3 hold results (rows 0-15 and 16-31 of a block x both channel tiles), 4 and 5
// activations, 6 and 7 weights. Four products need 4 KiB of operands, 64 bytes a cycle, and L2
// gives 48: so k is split into pieces whose weights (32 KiB) stay in L1 while all row blocks pass,
// whose activations are loaded past L1; results wait in c between pieces. Quantised weights are
// decoded a piece at a time, once for all rows; for one block in small pieces, so that decoding the
// next overlaps with multiplying. A sum's order is that of k in any case.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/groups_avx512.h"
#include "kernels/cpu/tile_ops.h"
#include "platform/amx_tile.h"
#include "platform/target.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu::amx {

// In tile steps: 64 bytes of an activation row.
inline constexpr int32_t kPieceSteps = 16, kSmallPieceSteps = 4;

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

// Results stay in the tiles while a block's piece is summed: 16 < rows <= 32.
template <Products products, int32_t sub>
inline void multiply_32(const Piece<sub>& p, Prefetch& prefetch) {
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
  for (int32_t s = p.begin; s < p.end; ++s) {
    const std::byte *w = p.weights(s), *a = p.activations(s);
    prefetch.step();
    load_tile<6>(w, 64);
    stream_tile<4>(a, p.kRowBytes);
    dot<products, 0, 4, 6>();
    load_tile<7>(w + 1024, 64);
    dot<products, 1, 4, 7>();
    stream_tile<5>(a + 16 * p.kRowBytes, p.kRowBytes);
    dot<products, 2, 5, 6>();
    dot<products, 3, 5, 7>();
  }
  store_tile<0>(c, 128);
  store_tile<1>(c + 16, 128);
  store_tile<2>(c + 16 * 32, 128);
  store_tile<3>(c + 16 * 32 + 16, 128);
}

// rows <= 16.
template <Products products, int32_t sub>
inline void multiply_16(const Piece<sub>& p, Prefetch& prefetch) {
  using namespace platform;
  if (p.first) {
    zero_tile<0>();
    zero_tile<1>();
  } else {
    load_tile<0>(p.c, 128);
    load_tile<1>(p.c + 16, 128);
  }
  for (int32_t s = p.begin; s < p.end; ++s) {
    const std::byte *w = p.weights(s), *a = p.activations(s);
    prefetch.step();
    load_tile<4>(a, p.kRowBytes);
    load_tile<6>(w, 64);
    dot<products, 0, 4, 6>();
    load_tile<7>(w + 1024, 64);
    dot<products, 1, 4, 7>();
  }
  store_tile<0>(p.c, 128);
  store_tile<1>(p.c + 16, 128);
}

template <Products products, int32_t sub>
inline void multiply(const Piece<sub>& p, Prefetch& prefetch) {
  if (p.rows > 16)
    multiply_32<products>(p, prefetch);
  else
    multiply_16<products>(p, prefetch);
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

template <class Weights>
Prefetch prefetch_for(const PanelCall& call) {
  const int32_t blocks = (call.rows + kBlockRows - 1) / kBlockRows;
  return {call, int64_t{tile_steps<Weights>(*call.w)} * blocks};
}

// call.c becomes raw sums (int32 or float32) over all of k.
template <Products products, class Weights>
inline void panel_sums(const PanelCall& call, TileState& state) {
  Prefetch prefetch = prefetch_for<Weights>(call);
  each_piece<Weights>(call, state, [&](const auto& piece, int32_t, int32_t) {
    multiply<products>(piece, prefetch);
  });
}

// call.c becomes the sums with all their scales; groups are multiples of a tile step's values.
template <Products products, class Weights>
inline void panel_groups(const PanelCall& call, TileState& state, avx512::Stretch& stretch) {
  constexpr bool kIntegers = products != Products::kBf16;
  const int32_t values = tensor::values_per_step(call.w->format) / Weights::kSub;
  Prefetch prefetch = prefetch_for<Weights>(call);
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
      multiply<products>(piece, prefetch);
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
