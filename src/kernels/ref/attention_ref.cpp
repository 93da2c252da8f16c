// Two-pass softmax attention, one (token, head) at a time, sums in double.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/ref/attention_ref.h"
#include "tensor/numeric.h"

namespace moestro::kernels::ref {
namespace {

float element(const tensor::PagedView& view, const std::byte* row, int32_t i) {
  if (view.dtype == DType::kF32) {
    float v;
    std::memcpy(&v, row + 4 * static_cast<int64_t>(i), 4);
    return v;
  }
  Bf16 v;
  std::memcpy(&v, row + 2 * static_cast<int64_t>(i), 2);
  return to_float(v);
}

const std::byte* row_at(const StepInput& step, const tensor::PagedView& view, int32_t token,
                        int32_t position) {
  return view.row(step.block_of(token, position, view.page_size), position % view.page_size);
}

// One worker's scratch: scores of one (token, head), then the output sums.
struct WorkerScratch {
  double* sums;   // [value_dim]
  float* scores;  // [max positions]
};

int64_t worker_scratch_bytes(int32_t value_dim, int32_t positions) {
  return (8 * static_cast<int64_t>(value_dim) + 4 * static_cast<int64_t>(positions) + 63) / 64 * 64;
}

// What one (token, head) attends to: `count` positions, the i-th being selected[i] or first + i.
struct Visible {
  const int32_t* selected;
  int32_t first, count;
  int32_t at(int32_t i) const { return selected ? selected[i] : first + i; }
};

struct HeadInputs {
  const float* q;
  tensor::PagedView key, value;
  int32_t key_offset, key_dim, value_offset, value_dim;  // in values, inside a row
  float scale;
  const float* sink;  // one value or null
  float* out;
};

void attend(const StepInput& step, int32_t token, const Visible& visible, const HeadInputs& in,
            const WorkerScratch& scratch) {
  float max = in.sink ? *in.sink : -INFINITY;
  for (int32_t i = 0; i < visible.count; ++i) {
    const std::byte* row = row_at(step, in.key, token, visible.at(i));
    double dot = 0;
    for (int32_t d = 0; d < in.key_dim; ++d)
      dot += static_cast<double>(in.q[d]) *
             static_cast<double>(element(in.key, row, in.key_offset + d));
    scratch.scores[i] = static_cast<float>(dot * static_cast<double>(in.scale));
    max = std::max(max, scratch.scores[i]);
  }
  double sum = in.sink ? std::exp(static_cast<double>(*in.sink) - static_cast<double>(max)) : 0;
  std::fill_n(scratch.sums, in.value_dim, 0.0);
  for (int32_t i = 0; i < visible.count; ++i) {
    const std::byte* row = row_at(step, in.value, token, visible.at(i));
    const double p = std::exp(static_cast<double>(scratch.scores[i]) - static_cast<double>(max));
    sum += p;
    for (int32_t d = 0; d < in.value_dim; ++d)
      scratch.sums[d] += p * static_cast<double>(element(in.value, row, in.value_offset + d));
  }
  for (int32_t d = 0; d < in.value_dim; ++d)
    in.out[d] = static_cast<float>(sum > 0 ? scratch.sums[d] / sum : 0.0);
}

// The scratch's size is not in the arguments: a worker's part is cut by the longest context of this
// step.
WorkerScratch worker_scratch(const StepInput& step, std::byte* scratch, int32_t value_dim,
                             const platform::Worker& worker) {
  int32_t positions = 1;
  for (int32_t t = 0; t < step.num_tokens; ++t)
    positions = std::max(positions, step.positions[t] + 1);
  std::byte* mine = scratch + worker.index() * worker_scratch_bytes(value_dim, positions);
  return {reinterpret_cast<double*>(mine),
          reinterpret_cast<float*>(mine + 8 * static_cast<int64_t>(value_dim))};
}

bool is_kv_dtype(DType t) { return t == DType::kF32 || t == DType::kBF16; }

}  // namespace

std::string_view mla_why_not(const MlaShape& shape) noexcept {
  return is_kv_dtype(shape.kv_dtype) ? "" : kWantsFloatKv;
}

int64_t mla_scratch_bytes(const MlaShape& shape, int num_workers) noexcept {
  return num_workers * worker_scratch_bytes(shape.latent, shape.max_context);
}

void mla_run(const MlaArgs& args, platform::Worker& worker) noexcept {
  const StepInput& step = *args.step;
  const WorkerScratch scratch = worker_scratch(step, args.scratch, args.latent, worker);
  const int32_t width = args.latent + args.rope;
  const auto [begin, end] = worker.share(static_cast<int64_t>(step.num_tokens) * args.heads);
  for (int64_t i = begin; i < end; ++i) {
    const auto token = static_cast<int32_t>(i / args.heads);
    Visible visible{nullptr, 0, step.positions[token] + 1};
    if (args.selected && args.num_selected[token] >= 0)
      visible = {args.selected + static_cast<int64_t>(token) * args.max_selected, 0,
                 args.num_selected[token]};
    attend(step, token, visible,
           {args.q + i * width, args.kv, args.kv, 0, width, 0, args.latent, args.scale, nullptr,
            args.out + i * args.latent},
           scratch);
  }
}

std::string_view gqa_why_not(const GqaShape& shape) noexcept {
  if (!is_kv_dtype(shape.kv_dtype)) return kWantsFloatKv;
  return divides_heads(shape) ? "" : kWantsWholeGroups;
}

int64_t gqa_scratch_bytes(const GqaShape& shape, int num_workers) noexcept {
  return num_workers * worker_scratch_bytes(shape.v_head_dim, shape.max_context);
}

void gqa_run(const GqaArgs& args, platform::Worker& worker) noexcept {
  const StepInput& step = *args.step;
  const WorkerScratch scratch = worker_scratch(step, args.scratch, args.v_head_dim, worker);
  const auto [begin, end] = worker.share(static_cast<int64_t>(step.num_tokens) * args.heads);
  for (int64_t i = begin; i < end; ++i) {
    const auto token = static_cast<int32_t>(i / args.heads),
               head = static_cast<int32_t>(i % args.heads);
    const int32_t kv_head = head / (args.heads / args.kv_heads), position = step.positions[token];
    const int32_t first = args.window > 0 ? std::max(0, position - args.window + 1) : 0;
    attend(step, token, {nullptr, first, position - first + 1},
           {args.q + token * args.q_stride + static_cast<int64_t>(head) * args.head_dim, args.key,
            args.value, kv_head * args.head_dim, args.head_dim, kv_head * args.v_head_dim,
            args.v_head_dim, args.scale, args.sinks ? args.sinks + head : nullptr,
            args.out + i * args.v_head_dim},
           scratch);
  }
}

}  // namespace moestro::kernels::ref
