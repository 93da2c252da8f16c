// Scores in double, selection by a full sort: slow and obvious.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/ref/attention_ref.h"
#include "tensor/numeric.h"

namespace moestro::kernels::ref {
namespace {

float ranked(float v) { return v != v ? -INFINITY : v; }

// The k best of n scores, ascending by index; order [n] is scratch.
void select(const float* scores, int32_t n, int32_t k, int32_t* order, int32_t* out) {
  for (int32_t i = 0; i < n; ++i) order[i] = i;
  std::partial_sort(order, order + k, order + n, [&](int32_t a, int32_t b) {
    const float x = ranked(scores[a]), y = ranked(scores[b]);
    return x != y ? x > y : a < b;
  });
  std::copy_n(order, k, out);
  std::sort(out, out + k);
}

float key_element(const tensor::PagedView& keys, const std::byte* row, int32_t i) {
  if (keys.dtype == DType::kF32) {
    float v;
    std::memcpy(&v, row + 4 * static_cast<int64_t>(i), 4);
    return v;
  }
  Bf16 v;
  std::memcpy(&v, row + 2 * static_cast<int64_t>(i), 2);
  return to_float(v);
}

float score(const SparseIndexArgs& args, int32_t token, int32_t position) {
  const tensor::PagedView& keys = args.keys;
  const std::byte* row =
      keys.row(args.step->block_of(token, position, keys.page_size), position % keys.page_size);
  double sum = 0;
  for (int32_t h = 0; h < args.heads; ++h) {
    const int64_t head = static_cast<int64_t>(token) * args.heads + h;
    double dot = 0;
    for (int32_t d = 0; d < args.dim; ++d)
      dot += static_cast<double>(args.q[head * args.dim + d]) *
             static_cast<double>(key_element(keys, row, d));
    if (dot > 0 || dot != dot) sum += static_cast<double>(args.weights[head]) * dot;
  }
  return static_cast<float>(sum);
}

}  // namespace

std::string_view sparse_index_why_not(const SparseIndexShape& shape) noexcept {
  return shape.kv_dtype == DType::kF32 || shape.kv_dtype == DType::kBF16 ? "" : kWantsFloatKv;
}

int64_t sparse_index_scratch_bytes(const SparseIndexShape& shape, int num_workers) noexcept {
  return num_workers * ((8 * static_cast<int64_t>(shape.max_context) + 63) / 64 * 64);
}

void sparse_index_run(const SparseIndexArgs& args, platform::Worker& worker) noexcept {
  const StepInput& step = *args.step;
  int32_t longest = 1;
  for (int32_t t = 0; t < step.num_tokens; ++t) longest = std::max(longest, step.positions[t] + 1);
  auto* scores = reinterpret_cast<float*>(
      args.scratch + worker.index() * ((8 * static_cast<int64_t>(longest) + 63) / 64 * 64));
  auto* order = reinterpret_cast<int32_t*>(scores + longest);
  const auto [begin, end] = worker.share(step.num_tokens);
  for (auto t = static_cast<int32_t>(begin); t < end; ++t) {
    const int32_t visible = step.positions[t] + 1;
    args.num_selected[t] = visible <= args.topk ? -1 : args.topk;
    if (visible <= args.topk) continue;
    for (int32_t s = 0; s < visible; ++s) scores[s] = score(args, t, s);
    select(scores, visible, args.topk, order, args.selected + static_cast<int64_t>(t) * args.topk);
  }
}

int32_t top_k(const float* row, int32_t n, int32_t k, int32_t* indices,
              std::byte* scratch) noexcept {
  k = std::max(0, std::min(k, n));
  select(row, n, k, reinterpret_cast<int32_t*>(scratch), indices);
  return k;
}

}  // namespace moestro::kernels::ref
