// The packed weight layout of the CUDA kernels, one for decode and prefill. Plain C++: quant/ packs
// by it on the host, the kernels index by it, and both builds test it.
//
// A matrix [n, k] is cut into blocks of 256 packed rows; a block into steps of 128 bytes of k (128
// int8 or 64 bf16 values); a step is four tiles of 64 rows x 128 bytes, 8 KiB each, in the 128-byte
// swizzle that wgmma reads from shared memory:
//
//     data[block][k_step][tile 0..3][row 0..63][chunk ^ (row % 8)][16 bytes]
//
// So a block is one sequential stream and a step one bulk copy of 32 KiB without a tensor map. n
// and k are padded with zeros. Experts follow one another: matrix of expert e at e * matrix_bytes.
//
// Packed rows are permuted so that a thread's registers hold neighbouring output channels (fragment
// in ptx/wgmma.cuh). With packed row = 128 w + 64 i + 16 q + 8 h + r inside a block (w < 2
// warpgroups, i < 2 products, q < 4 warps, h < 2, r < 8):
//     plain     channel 256 block + 128 w + 32 q + 4 r + 2 i + h
//     gate_up   column  128 block +  64 w + 16 q + 2 r + i of gate (h = 0) or up (h = 1)
//
// 4-bit weights with bfloat16 activations (int4): steps of 64 values of k and kInt4BlockStepBytes,
// codes as the registers of wgmma's A hold them, then a bfloat16 scale a channel and step:
//
//     data[block][k_step][tile 0..3][thread 0..127][chunk of 16 values 0..3][8 codes of 4 bits]
//                        [256 scales, in the order of plain channels]
//
// Thread 32 q + 4 r + c has values 2 c + 8 x + t of rows 16 q + 8 h + r; code 2 x + h + 4 t of a
// word is value + 8.
//
// Activations of grouped rows use the same tiles with N = 8 … 128 rows: data[row_tile][k_step][row
// 0..N-1][swizzled 128 bytes].
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define MOESTRO_HOST_DEVICE __host__ __device__
#else
#define MOESTRO_HOST_DEVICE
#endif

namespace moestro::kernels::cuda {

inline constexpr int32_t kBlockRows = 256;
inline constexpr int32_t kTileRows = 64;
inline constexpr int32_t kStepBytes = 128;                           // of one row
inline constexpr int32_t kBlockStepBytes = kBlockRows * kStepBytes;  // one copy
inline constexpr int32_t kStepScales = 4;                            // of a block's step
inline constexpr int32_t kInt4CodeBytes = kBlockRows * 32;           // of a step
inline constexpr int32_t kInt4BlockStepBytes = kInt4CodeBytes + 2 * kBlockRows;
inline constexpr int32_t kInt4StepValues = 64;

MOESTRO_HOST_DEVICE constexpr int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Sizes of one packed matrix; n counts gate and up together.
struct DeviceMatrix {
  int32_t n = 0, k = 0, value_bytes = 1;
  MOESTRO_HOST_DEVICE constexpr int32_t blocks() const { return ceil_div(n, kBlockRows); }
  MOESTRO_HOST_DEVICE constexpr int32_t k_steps() const {
    return ceil_div(k * value_bytes, kStepBytes);
  }
  MOESTRO_HOST_DEVICE constexpr int32_t padded_n() const { return blocks() * kBlockRows; }
  MOESTRO_HOST_DEVICE constexpr int64_t bytes() const {
    return int64_t{blocks()} * k_steps() * kBlockStepBytes;
  }
  // With 4-bit weights; value_bytes is the activations', 2.
  MOESTRO_HOST_DEVICE constexpr int64_t int4_bytes() const {
    return int64_t{blocks()} * k_steps() * kInt4BlockStepBytes;
  }
  // Floats of the scales by steps, below.
  MOESTRO_HOST_DEVICE constexpr int64_t step_scales() const {
    return int64_t{blocks()} * k_steps() * kStepScales;
  }
};

constexpr DeviceMatrix gate_up_matrix(int32_t hidden, int32_t intermediate, int32_t value_bytes) {
  return {ceil_div(intermediate, kBlockRows / 2) * kBlockRows, hidden, value_bytes};
}

// Where byte `byte` (< 128) of row `row` lies inside a swizzled tile of 128-byte rows.
MOESTRO_HOST_DEVICE constexpr int32_t swizzled_offset(int32_t row, int32_t byte) {
  return row * kStepBytes + ((byte / 16) ^ (row % 8)) * 16 + byte % 16;
}

// Where byte `byte` of packed row `row` lies inside a packed matrix.
MOESTRO_HOST_DEVICE constexpr int64_t packed_offset(const DeviceMatrix& m, int32_t row,
                                                    int32_t byte) {
  const int64_t step = int64_t{row / kBlockRows} * m.k_steps() + byte / kStepBytes;
  return step * kBlockStepBytes + swizzled_offset(row % kBlockRows, byte % kStepBytes);
}

// Where value k of a packed row lies inside an int4 matrix: byte of the 32-bit word, bit in it; and
// the byte of its scale.
struct Int4Place {
  int64_t word, scale;
  int32_t bit;
};
MOESTRO_HOST_DEVICE constexpr Int4Place int4_place(const DeviceMatrix& m, int32_t row, int32_t k) {
  const int64_t step =
      (int64_t{row / kBlockRows} * m.k_steps() + k / kInt4StepValues) * kInt4BlockStepBytes;
  const int32_t in = row % kBlockRows, w = in / 128, i = in / 64 % 2, q = in / 16 % 4,
                h = in / 8 % 2, r = in % 8;
  const int32_t chunk = k / 16 % 4, x = k / 8 % 2, c = k / 2 % 4, t = k % 2;
  return {step + ((2 * w + i) * 128 + 32 * q + 4 * r + c) * 16 + 4 * chunk,
          step + kInt4CodeBytes + 2 * (128 * w + 32 * q + 4 * r + 2 * i + h),
          4 * (2 * x + h + 4 * t)};
}

// The packed row of an output channel (plain) or of a column of gate (side 0) or up (side 1).
MOESTRO_HOST_DEVICE constexpr int32_t plain_row(int32_t channel) {
  const int32_t w = channel / 128 % 2, q = channel / 32 % 4, r = channel / 4 % 8,
                i = channel / 2 % 2, h = channel % 2;
  return channel / kBlockRows * kBlockRows + 128 * w + 64 * i + 16 * q + 8 * h + r;
}
MOESTRO_HOST_DEVICE constexpr int32_t gate_up_row(int32_t column, int32_t side) {
  const int32_t w = column / 64 % 2, q = column / 16 % 4, r = column / 2 % 8, i = column % 2;
  return column / 128 * kBlockRows + 128 * w + 64 * i + 16 * q + 8 * side + r;
}

// Packs row-major [n, k] values (value_bytes each) and, unless null, their scales [n] in packed
// order. dst holds m.bytes(), dst_scales m.padded_n() floats; both are wholly written. Any thread.
void pack_plain(const DeviceMatrix& m, const void* src, const float* scales, void* dst,
                float* dst_scales);
// gate and up, each [intermediate, k].
void pack_gate_up(const DeviceMatrix& m, int32_t intermediate, const void* gate, const void* up,
                  const float* gate_scales, const float* up_scales, void* dst, float* dst_scales);

// 4-bit weights, row-major [n, k] of values -8 to 7, a bfloat16 scale for `group` values (a
// multiple of 64) of a row: [n, ceil(k / group)]. dst holds m.int4_bytes().
void pack_plain_int4(const DeviceMatrix& m, const int8_t* src, const uint16_t* scales,
                     int32_t group, void* dst);
void pack_gate_up_int4(const DeviceMatrix& m, int32_t intermediate, const int8_t* gate,
                       const int8_t* up, const uint16_t* gate_scales, const uint16_t* up_scales,
                       int32_t group, void* dst);

// Scales of blocks of 128 channels x 128 values, as checkpoints have them: row-major [ceil(n /
// 128), ceil(k / 128)]. Packed as [block][k_step][w][h] (w, h as above): the scale of warpgroup w's
// channels, of gate (h = 0) or up (h = 1). dst holds m.step_scales() floats, wholly written.
void pack_plain_block_scales(const DeviceMatrix& m, const float* src, float* dst);
void pack_gate_up_block_scales(const DeviceMatrix& m, int32_t intermediate, const float* gate,
                               const float* up, float* dst);

}  // namespace moestro::kernels::cuda
