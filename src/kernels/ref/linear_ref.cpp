#include "kernels/ref/linear_ref.h"

#include "kernels/ref/packed_access.h"

namespace moestro::kernels::ref {
namespace {

// This worker's float row in scratch.
float* own_row(std::byte* scratch, int32_t k, const platform::Worker& worker) {
  return reinterpret_cast<float*>(scratch + round_up_64(int64_t{4} * k) * worker.index());
}

}  // namespace

bool linear_supports(const LinearShape&) noexcept { return true; }

int64_t linear_scratch_bytes(const LinearShape& shape, int num_workers) noexcept {
  return round_up_64(int64_t{4} * shape.k) * num_workers;
}

void linear_run(const LinearArgs& args, platform::Worker& worker) noexcept {
  if (args.outputs.empty() || args.rows <= 0) return;
  const tensor::PackedMatrix& first = *args.outputs.front().weight;
  float* row = own_row(args.scratch, first.k, worker);
  for (int32_t r = 0; r < args.rows; ++r) {
    const float scale = round_row(first.format, args.x + r * args.x_stride, first.k, row);
    for (const LinearOutput& out : args.outputs) {
      const auto [begin, end] = worker.share(out.weight->n, tensor::kTileChannels);
      float* y = out.y + r * out.y_stride;
      for (auto c = static_cast<int32_t>(begin); c < end; ++c) {
        const float v = dot(*out.weight, c, row, scale) + bias_at(*out.weight, c);
        y[c] = args.accumulate ? y[c] + v : v;
      }
    }
  }
}

bool head_linear_supports(const HeadLinearShape& shape) noexcept {
  return shape.format != tensor::PackedFormat::kInt8;
}

int64_t head_linear_scratch_bytes(const HeadLinearShape& shape, int num_workers) noexcept {
  return round_up_64(int64_t{4} * shape.k) * num_workers;
}

void head_linear_run(const HeadLinearArgs& args, platform::Worker& worker) noexcept {
  const auto heads = static_cast<int64_t>(args.weights.size());
  if (heads == 0) return;
  float* row = own_row(args.scratch, args.weights.front().k, worker);
  const auto [begin, end] = worker.share(heads * args.rows);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t h = i / args.rows, r = i % args.rows;
    const tensor::PackedMatrix& w = args.weights[static_cast<size_t>(h)];
    const float scale =
        round_row(w.format, args.x + r * args.x_row_stride + h * args.x_head_stride, w.k, row);
    float* y = args.y + r * args.y_row_stride + h * args.y_head_stride;
    for (int32_t c = 0; c < w.n; ++c) y[c] = dot(w, c, row, scale) + bias_at(w, c);
  }
}

}  // namespace moestro::kernels::ref
