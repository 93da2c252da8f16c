// Linear layers: y = x W^T (+ bias). x and y are float32; x is rounded (bf16) or quantised per row
// (int8) inside, by the weight's format. Called by layers/linear; several matrices of one format
// that share their input go in one call (one packing of x).
#pragma once
#include <cstdint>
#include <span>

#include "kernels/kernel_list.h"
#include "tensor/packed_matrix.h"

namespace moestro::kernels {

struct LinearShape {
  tensor::PackedFormat format;
  int32_t max_rows;
  int32_t total_n, k;  // total_n: sum over the outputs of one call
};

struct LinearOutput {
  const tensor::PackedMatrix* weight;  // [n, k]
  float* y;                            // [rows, n]
  int64_t y_stride;                    // in floats
};

struct LinearArgs {
  const float* x;    // [rows, k]
  int64_t x_stride;  // in floats
  int32_t rows;
  std::span<const LinearOutput> outputs;  // same format and k; equal k_orders are best neighbours
  bool accumulate = false;                // y += …: residual connections
  std::byte* scratch;                     // 64-byte aligned, scratch_bytes of the largest shape
};
// Rounding of activations by the format's ActivationType and groups (tensor/packed_matrix.h).
// int8: s = absmax(row) / 127, q = round_half_even(x / s) (an all-zero row has s = 0 and q = 0); y
// = s * scale[n] * sum(q_x q_w), the sum exact in int32. bf16: x rounded to nearest even, products
// summed in float32 (four-bit weights: kernels may hold x as 16-bit integers of one power of two
// for every 128 values of k, or a smaller group: exact where it is within a factor of 128 of the
// largest of them, else to 2^-15 of that; sums of those are exact). f32: float32 FMA. fp8: q =
// e4m3(x / s), s = absmax / 448. Group formats: sums of a group times its scales, in float32; no
// scaled weight is rounded. Every output is summed in an order that does not depend on rows, row
// position or number of workers.
using LinearKernel = Kernel<LinearShape, LinearArgs>;
std::span<const LinearKernel> linear_kernels(const tensor::PackedFormat& format);

// One small matrix a head: y[r, h, :] = x[r, h, :] W_h^T. MLA's absorption of kv_b_proj into
// queries and outputs.
struct HeadLinearShape {
  tensor::PackedFormat format;  // kF32 or kBf16
  int32_t max_rows, heads, n, k;
};
struct HeadLinearArgs {
  const float* x;  // element (r, h, i) at x[r * x_row_stride + h * x_head_stride + i]
  int64_t x_row_stride, x_head_stride;
  float* y;
  int64_t y_row_stride, y_head_stride;
  int32_t rows;
  std::span<const tensor::PackedMatrix> weights;  // [heads], each [n, k]
  std::byte* scratch;
};
using HeadLinearKernel = Kernel<HeadLinearShape, HeadLinearArgs>;
std::span<const HeadLinearKernel> head_linear_kernels(const tensor::PackedFormat& format);

}  // namespace moestro::kernels
