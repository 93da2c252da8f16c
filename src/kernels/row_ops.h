// Operations on rows of activations: norms, rotary embedding, embedding look-up, cache writes,
// combine. Each has a scalar reference and vector forms; a RowOps table holds one implementation of
// each for an instruction set. All are pure float32 inside. Which worker does which part is a
// promise, so that row operations can follow each other without a barrier: norm, embedding and
// store_kv give a worker the rows worker.share(rows), rope the (row, head) pairs worker.share(rows
// * heads); combine promises nothing.
#pragma once
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/kernel_list.h"
#include "kernels/step_input.h"

namespace moestro::kernels {

// y = weight * x / sqrt(mean(x^2) + eps); layer norm (bias not null): y = weight * (x - mean) /
// sqrt(var + eps) + bias. x may be y.
struct NormArgs {
  const float* x;
  int64_t x_stride;
  const float* weight;  // [width]
  const float* bias;    // [width] or null: RMS norm
  float eps;
  float* y;
  int64_t y_stride;
  int32_t rows, width;
};

// Rotates the first `rope_dim` values at x in place, for each of `heads` heads of each row. cos and
// sin: [rows, rope_dim / 2]. interleaved: pairs (2i, 2i + 1); else half split: pairs (i, i +
// rope_dim / 2). Formula: RoFormer (Su et al., 2021).
struct RopeArgs {
  float* x;  // element (row, head, i) at x[row * row_stride + head * head_stride + i]
  int64_t row_stride, head_stride;
  int32_t rows, heads, rope_dim;
  const float* cos;
  const float* sin;
  bool interleaved;
};

// out[t] = table[ids[t]]; ids are in [0, vocabulary).
struct EmbeddingArgs {
  const std::byte* table;  // [vocabulary, width] row-major, may be unaligned
  DType dtype;             // kF32, kBF16, kF16
  const int32_t* ids;
  int32_t rows, width;
  float* out;  // [rows, width]
};

// Stores x[t] (width values) of every token into its page.
struct StoreKvArgs {
  const StepInput* step;
  const float* x;
  int64_t x_stride;
  tensor::PagedView kv;
  int32_t offset;  // first value of the token's row to write
  int32_t width;
};

// out[t] = (accumulate ? out[t] : 0) + sum_j weights[t, j] * rows[row_of[t, j]] in order of j
// (deterministic).
struct CombineArgs {
  const float* rows;  // [*, width]
  int64_t rows_stride;
  const int32_t* row_of;  // [tokens, top_k]; -1: not on this rank
  const float* weights;   // [tokens, top_k]
  int32_t tokens, top_k, width;
  float* out;  // [tokens, width]
  int64_t out_stride;
  bool accumulate;
};

// Sampling's passes over one row of logits. NaN counts as minus infinity everywhere. log-sum-exp =
// max + log(sum_exp).
struct LogitsStats {
  float max;
  double sum_exp;  // sum of exp(x - max); an element equal to max adds exactly 1
  int32_t argmax;  // lowest index among equals; 0 if all are NaN
};

struct RowOps {
  std::string_view name;  // "row_ops_avx512"
  platform::IsaSet needs;
  void (*norm)(const NormArgs&, platform::Worker&) noexcept;
  void (*rope)(const RopeArgs&, platform::Worker&) noexcept;
  void (*embedding)(const EmbeddingArgs&, platform::Worker&) noexcept;
  void (*store_kv)(const StoreKvArgs&, platform::Worker&) noexcept;
  void (*combine)(const CombineArgs&, platform::Worker&) noexcept;
  // The following are single-threaded. A sampler takes logits_stats, guesses a threshold, checks
  // its mass with sum_exp (top-p) or takes top_k, and sorts only the candidates.
  LogitsStats (*logits_stats)(const float* row, int32_t n) noexcept;
  // Sum of exp((x - shift) * scale) over the elements x >= threshold (minus infinity: all); shift
  // is finite, scale is 1 / temperature.
  double (*sum_exp)(const float* row, int32_t n, float shift, float scale,
                    float threshold) noexcept;
  // Indices of the elements >= threshold, ascending; returns how many there are and writes at most
  // `capacity` of them.
  int32_t (*gather_above)(const float* row, int32_t n, float threshold, int32_t* indices,
                          int32_t capacity) noexcept;
  // The min(k, n) largest (larger first, then lower index), their indices written in ascending
  // order; returns how many. scratch: top_k_scratch_bytes(n), 4-byte aligned.
  int32_t (*top_k)(const float* row, int32_t n, int32_t k, int32_t* indices,
                   std::byte* scratch) noexcept;
};
std::span<const RowOps> row_ops();

constexpr int64_t top_k_scratch_bytes(int32_t n) { return 4 * (static_cast<int64_t>(n) + 16); }

}  // namespace moestro::kernels
