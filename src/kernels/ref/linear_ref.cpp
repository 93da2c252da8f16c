#include "kernels/ref/linear_ref.h"

#include "kernels/ref/packed_access.h"

namespace moestro::kernels::ref {
namespace {

// A worker's scratch: a row and its scales.
int64_t worker_bytes(const tensor::PackedFormat& format, int32_t k) {
  return round_up_64(int64_t{4} * k) + round_up_64(int64_t{4} * row_scales(format, k));
}
float* own_row(std::byte* scratch, const tensor::PackedMatrix& w, const platform::Worker& worker) {
  return reinterpret_cast<float*>(scratch + worker_bytes(w.format, w.k) * worker.index());
}

}  // namespace

std::string_view linear_why_not(const LinearShape&) noexcept { return ""; }

int64_t linear_scratch_bytes(const LinearShape& shape, int num_workers) noexcept {
  return worker_bytes(shape.format, shape.k) * num_workers;
}

void linear_run(const LinearArgs& args, platform::Worker& worker) noexcept {
  if (args.outputs.empty() || args.rows <= 0) return;
  const tensor::PackedMatrix& first = *args.outputs.front().weight;
  float* row = own_row(args.scratch, first, worker);
  float* scales = row + round_up_64(int64_t{4} * first.k) / 4;
  for (int32_t r = 0; r < args.rows; ++r) {
    const tensor::PackedMatrix* rounded_for = nullptr;
    for (const LinearOutput& out : args.outputs) {
      if (!rounded_for || out.weight->k_order != rounded_for->k_order) {
        rounded_for = out.weight;
        round_row(*rounded_for, args.x + r * args.x_stride, row, scales);
      }
      const auto [begin, end] = worker.share(out.weight->n, tensor::kTileChannels);
      float* y = out.y + r * out.y_stride;
      for (auto c = static_cast<int32_t>(begin); c < end; ++c) {
        const float v = dot(*out.weight, c, row, scales) + bias_at(*out.weight, c);
        y[c] = args.accumulate ? y[c] + v : v;
      }
    }
  }
}

std::string_view head_linear_why_not(const HeadLinearShape& shape) noexcept {
  return tensor::has_channel_scales(shape.format) ? "only float weights" : "";
}

int64_t head_linear_scratch_bytes(const HeadLinearShape& shape, int num_workers) noexcept {
  return worker_bytes(shape.format, shape.k) * num_workers;
}

void head_linear_run(const HeadLinearArgs& args, platform::Worker& worker) noexcept {
  const auto heads = static_cast<int64_t>(args.weights.size());
  if (heads == 0) return;
  float* row = own_row(args.scratch, args.weights.front(), worker);
  float scale = 1.0f;
  const auto [begin, end] = worker.share(heads * args.rows);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t h = i / args.rows, r = i % args.rows;
    const tensor::PackedMatrix& w = args.weights[static_cast<size_t>(h)];
    round_row(w, args.x + r * args.x_row_stride + h * args.x_head_stride, row, &scale);
    float* y = args.y + r * args.y_row_stride + h * args.y_head_stride;
    for (int32_t c = 0; c < w.n; ++c) y[c] = dot(w, c, row, &scale) + bias_at(w, c);
  }
}

}  // namespace moestro::kernels::ref
