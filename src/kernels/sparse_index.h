// DSA's lightning indexer: which positions a token attends to. score(t, s) = sum_j weights[t, j] *
// relu(q[t, j] . key_s) for s <= position of t; the topk largest are kept (higher score first, then
// lower position), written in ascending order. A token with at most topk visible positions keeps
// all: num_selected = -1 and nothing is scored. Called by layers/attention/dsa.
#pragma once
#include <cstdint>

#include "kernels/kernel_list.h"
#include "kernels/step_input.h"
#include "tensor/paged_view.h"

namespace moestro::kernels {

struct SparseIndexShape {
  DType kv_dtype;  // kF32 or kBF16
  int32_t max_tokens, heads, dim, topk, max_context;
};

struct SparseIndexArgs {
  const StepInput* step;
  const float* q;          // [tokens, heads, dim], rotated
  const float* weights;    // [tokens, heads], scaled by heads^-0.5 * dim^-0.5
  tensor::PagedView keys;  // width dim, this step's tokens already stored
  int32_t heads, dim, topk;
  int32_t* selected;      // [tokens, topk]
  int32_t* num_selected;  // [tokens]
  std::byte* scratch;
};
using SparseIndexKernel = Kernel<SparseIndexShape, SparseIndexArgs>;
std::span<const SparseIndexKernel> sparse_index_kernels();

}  // namespace moestro::kernels
