// TileOps: what one instruction set does for one weight format. The drivers (linear_driver,
// expert_mlp_driver) own phases, tickets and scratch and are compiled once, for the baseline;
// everything that touches vectors or tiles is behind these five functions, so a new instruction set
// is one gemm_<format>_<isa>.cpp. Called by gang workers.
//
// Packed activations: blocks of at most 32 rows; a block is a sequence of k-steps, a step holds
// step_bytes of every row:
//     a[block][k_step][row of the block][step_bytes]
// because rows 2 KiB apart would all fall into the same few L1 sets. The last block of a group has
// as many rows as are left.
#pragma once
#include <cstdint>

#include "kernels/gated_activation.h"
#include "tensor/packed_matrix.h"

namespace moestro::kernels::cpu {

// How results are written: y = v, y += v, or y = v past the caches (for results far larger than
// they are; the run ends with a store fence).
enum class StoreMode : uint8_t { kWrite, kAccumulate, kStream };

inline constexpr int32_t kBlockRows = 32;
// Rows of one TileOps::panel call: 256 rows of results are 32 KiB, and their activations stay in
// L2.
inline constexpr int32_t kCallRows = 256;

// What a worker's thread has configured; lives for one run().
struct TileState {
  int32_t rows = -1;  // the row count of the loaded tile configuration
};

// c[rows, 32] = a[rows, k] * (panel of w)^T, scaled, without bias.
struct PanelCall {
  const tensor::PackedMatrix* w;
  int32_t panel;
  const std::byte* a;       // packed as above
  const float* row_scales;  // [rows, scales_per_row]
  int32_t rows;             // 1 .. kCallRows
  float* c;                 // [rows, 32], 64-byte aligned, overwritten
  // Weights that this worker reads next, to be fetched meanwhile; null: not known.
  const std::byte* next = nullptr;
  int64_t next_bytes = 0;
};

struct TileOps {
  tensor::WeightType weight;
  int32_t step_bytes;  // of one row of one k-step of packed activations; a multiple of 64
  // Floats that pack_row writes beside a row of k values: scales, sums, whatever panel needs.
  int32_t (*scales_per_row)(const tensor::PackedFormat& format, int32_t k);
  // Rounds or quantises x[k] for weights of `format`; step s goes to dst + s * step_stride.
  void (*pack_row)(const tensor::PackedFormat& format, const float* x, int32_t k, std::byte* dst,
                   int64_t step_stride, float* scales);
  void (*panel)(const PanelCall& call, TileState& state);
  // y[r, 0..n) = or += c[r, 0..n) + bias[0..n); bias [32] or null; n <= 32.
  void (*store)(const float* c, int32_t rows, const float* bias, float* y, int64_t y_stride,
                int32_t n, StoreMode mode);
  // h[r, 0..16) = act(c[r, i] + bias[i], c[r, 16 + i] + bias[16 + i]); bias [32] or null; always 16
  // channels.
  void (*gated)(const GatedActivation& act, const float* c, int32_t rows, const float* bias,
                float* h, int64_t h_stride);
  // Ends the use of tiles by this thread.
  void (*finish)(TileState& state);
};

extern const TileOps kF32Avx512, kF32Avx2;
extern const TileOps kBf16Amx, kBf16Avx512Bf16, kBf16Avx2;
extern const TileOps kInt8Amx, kInt8Avx512Vnni, kInt8Avx2;
// Groups, of int8 activations too.
extern const TileOps kInt8BlockAmx, kInt8BlockAvx512Vnni, kInt8BlockAvx2;
// Named after the weights, then the activations where a weight type has two and one kernel does not
// do both.
extern const TileOps kFp8Amx, kFp8Avx512, kFp8Avx2, kFp8Bf16Avx2;
extern const TileOps kInt4Amx, kInt4Avx512, kInt4Avx2, kFp4Amx, kFp4Avx512, kFp4Avx2;
extern const TileOps kInt4Int8Amx, kInt4Int8Avx512Vnni, kInt4Int8Avx2;
// bfloat16 activations as 16-bit integers (int4_int16.h).
extern const TileOps kInt4Int16Amx, kInt4Int16Avx512Vnni;

inline void finish_nothing(TileState&) {}
inline int32_t no_row_scales(const tensor::PackedFormat&, int32_t) { return 0; }
inline int32_t one_row_scale(const tensor::PackedFormat&, int32_t) { return 1; }

// Where row `row` of a group of `rows` rows (packed in blocks) starts, and the distance between its
// steps.
struct PackedRow {
  int64_t offset, step_stride;
};
constexpr PackedRow packed_row(int32_t row, int32_t rows, int64_t row_bytes, int64_t step_bytes) {
  const int32_t block = row / kBlockRows * kBlockRows;
  const int32_t in_block = rows - block < kBlockRows ? rows - block : kBlockRows;
  return {block * row_bytes + (row - block) * step_bytes, in_block * step_bytes};
}

// The mode for a result of `bytes` bytes.
constexpr StoreMode store_mode(bool accumulate, int64_t bytes) {
  constexpr int64_t kMuchMoreThanCaches = 24 << 20;
  return accumulate                     ? StoreMode::kAccumulate
         : bytes >= kMuchMoreThanCaches ? StoreMode::kStream
                                        : StoreMode::kWrite;
}
// Whole cache lines from an aligned start: what streaming stores need.
inline bool can_stream(const float* y, int64_t y_stride, int32_t n) {
  return n == 32 && reinterpret_cast<uintptr_t>(y) % 64 == 0 && y_stride % 16 == 0;
}

constexpr int64_t round_up_64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Bytes of one packed activation row of k values.
constexpr int64_t packed_row_bytes(const TileOps& ops, int32_t k) {
  const int32_t per_step = tensor::values_per_step(ops.weight);
  return int64_t{(k + per_step - 1) / per_step} * ops.step_bytes;
}

}  // namespace moestro::kernels::cpu
