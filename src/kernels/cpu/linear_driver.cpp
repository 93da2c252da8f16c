#include "kernels/cpu/linear_driver.h"

#include <xmmintrin.h>

#include <algorithm>

namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kHeadRows = 64;  // rows of a head that are packed at a time

// x[rows, k] packed, rows shared out; scales [rows, scales_per_row]; ordered: this worker's row.
void pack_rows(const TileOps& ops, const LinearArgs& args, float* ordered, float* scales,
               std::byte* packed, platform::Worker& worker) {
  const tensor::PackedMatrix& first = *args.outputs.front().weight;
  const tensor::PackedFormat& format = first.format;
  const int32_t k = first.k;
  const int64_t row_bytes = packed_row_bytes(ops, k), per_row = ops.scales_per_row(format, k);
  const auto [begin, end] = worker.share(args.rows);
  for (auto r = static_cast<int32_t>(begin); r < end; ++r) {
    const PackedRow at = packed_row(r, args.rows, row_bytes, ops.step_bytes);
    ops.pack_row(format, in_k_order(first, args.x + r * args.x_stride, ordered), k,
                 packed + at.offset, at.step_stride, scales + r * per_row);
  }
}

struct Panels {
  const LinearOutput* output;
  int32_t begin, end;
};

// Task `task` of the outputs' panels laid end to end; tasks do not cross from one output to the
// next.
Panels panels_of_task(std::span<const LinearOutput> outputs, int64_t task, int32_t per_task) {
  for (const LinearOutput& out : outputs) {
    const int32_t panels = out.weight->num_panels(), tasks = (panels + per_task - 1) / per_task;
    if (task < tasks) {
      const auto begin = static_cast<int32_t>(task) * per_task;
      return {&out, begin, std::min(panels, begin + per_task)};
    }
    task -= tasks;
  }
  return {nullptr, 0, 0};
}

// `after()` gives the panels of this worker's next task (no output: none); asked once, before the
// last panel.
template <class After>
void run_panels(const TileOps& ops, const LinearArgs& args, const Panels& panels,
                const float* scales, const std::byte* packed, TileState& state, After after) {
  alignas(64) float c[kCallRows * 32];
  const tensor::PackedMatrix& w = *panels.output->weight;
  const StoreMode mode = store_mode(args.accumulate, int64_t{4} * args.rows * w.n);
  const int64_t row_bytes = packed_row_bytes(ops, w.k), per_row = ops.scales_per_row(w.format, w.k);
  for (int32_t r = 0; r < args.rows; r += kCallRows) {
    const int32_t rows = std::min(kCallRows, args.rows - r);
    for (int32_t p = panels.begin; p < panels.end; ++p) {
      const Panels next = p + 1 < panels.end          ? Panels{panels.output, p + 1, panels.end}
                          : r + kCallRows < args.rows ? panels
                                                      : after();
      PanelCall call = {&w, p, packed + r * row_bytes, scales + r * per_row, rows, c};
      if (next.output) {
        call.next = next.output->weight->panel(next.begin);
        call.next_bytes = next.output->weight->panel_bytes();
      }
      ops.panel(call, state);
      ops.store(c, rows, w.bias ? w.bias + p * 32 : nullptr,
                panels.output->y + r * panels.output->y_stride + p * 32, panels.output->y_stride,
                std::min(32, w.n - p * 32), mode);
    }
  }
}

}  // namespace

const float* in_k_order(const tensor::PackedMatrix& w, const float* x, float* buffer) {
  if (!w.k_order) return x;
  for (int32_t i = 0; i < w.k; ++i) buffer[i] = x[w.k_order[i]];
  return buffer;
}

int64_t k_order_bytes(const tensor::PackedFormat& format, int32_t k) {
  return tensor::may_reorder(format) ? round_up_64(int64_t{4} * k) : 0;
}

std::string_view why_not_k(const tensor::PackedFormat& format, int32_t k) {
  // int32 sums of unsigned activations (up to 255) times weights (up to 128) are exact up to this.
  constexpr int32_t kMaxInt8K = 65536;
  return tensor::has_compensation(format) && k > kMaxInt8K
             ? "k above 65536 could overflow int32 sums"
             : "";
}

int32_t panels_per_task(int64_t total_panels, int64_t panel_bytes, int num_workers) {
  constexpr int64_t kTaskBytes = 512 << 10;
  const int64_t fair = total_panels / (int64_t{8} * num_workers);
  return static_cast<int32_t>(
      std::clamp<int64_t>(fair, 1, std::max<int64_t>(1, kTaskBytes / panel_bytes)));
}

std::string_view linear_why_not(const LinearShape& shape) noexcept {
  return why_not_k(shape.format, shape.k);
}

int64_t linear_scratch_bytes(const TileOps& ops, const LinearShape& shape,
                             int num_workers) noexcept {
  return k_order_bytes(shape.format, shape.k) * num_workers +
         round_up_64(int64_t{4} * ops.scales_per_row(shape.format, shape.k) * shape.max_rows) +
         packed_row_bytes(ops, shape.k) * shape.max_rows;
}

namespace {

// Outputs that take x in one order.
void run_outputs(const TileOps& ops, const LinearArgs& args, platform::Worker& worker) {
  const tensor::PackedMatrix& first = *args.outputs.front().weight;
  const int64_t ordered_bytes = k_order_bytes(first.format, first.k);
  std::byte* at = args.scratch + ordered_bytes * worker.count();
  auto* scales = reinterpret_cast<float*>(at);
  std::byte* packed =
      at + round_up_64(int64_t{4} * ops.scales_per_row(first.format, first.k) * args.rows);
  pack_rows(ops, args, reinterpret_cast<float*>(args.scratch + ordered_bytes * worker.index()),
            scales, packed, worker);
  worker.barrier();
  worker.start_tickets();
  int64_t total_panels = 0, num_tasks = 0;
  for (const LinearOutput& out : args.outputs) total_panels += out.weight->num_panels();
  const int32_t per_task = panels_per_task(total_panels, first.panel_bytes(), worker.count());
  for (const LinearOutput& out : args.outputs)
    num_tasks += (out.weight->num_panels() + per_task - 1) / per_task;
  TileState state;
  for (int64_t task = worker.take_ticket(), next; task < num_tasks; task = next) {
    next = -1;
    run_panels(ops, args, panels_of_task(args.outputs, task, per_task), scales, packed, state, [&] {
      next = worker.take_ticket();
      return panels_of_task(args.outputs, next, per_task);
    });
  }
  ops.finish(state);
}

}  // namespace

void linear_run(const TileOps& ops, const LinearArgs& args, platform::Worker& worker) noexcept {
  if (args.outputs.empty() || args.rows <= 0) return;
  for (size_t begin = 0, end; begin < args.outputs.size(); begin = end) {
    const int32_t* order = args.outputs[begin].weight->k_order;
    for (end = begin + 1; end < args.outputs.size(); ++end)
      if (args.outputs[end].weight->k_order != order) break;
    if (begin > 0) worker.barrier();  // the packed rows of the outputs before are still read
    LinearArgs part = args;
    part.outputs = args.outputs.subspan(begin, end - begin);
    run_outputs(ops, part, worker);
  }
  _mm_sfence();
}

std::string_view head_linear_why_not(const HeadLinearShape&) noexcept { return ""; }

int64_t head_linear_scratch_bytes(const TileOps& ops, const HeadLinearShape& shape,
                                  int num_workers) noexcept {
  return packed_row_bytes(ops, shape.k) * std::min(shape.max_rows, kHeadRows) * num_workers;
}

void head_linear_run(const TileOps& ops, const HeadLinearArgs& args,
                     platform::Worker& worker) noexcept {
  const auto heads = static_cast<int32_t>(args.weights.size());
  if (heads == 0 || args.rows <= 0) return;
  const tensor::PackedMatrix& first = args.weights.front();
  const int64_t row_bytes = packed_row_bytes(ops, first.k);
  std::byte* packed = args.scratch + row_bytes * std::min(args.rows, kHeadRows) * worker.index();
  // Few heads: several workers share one, each packs its rows for itself.
  const int32_t parts = std::clamp((2 * worker.count() + heads - 1) / heads, 1, first.num_panels());
  const auto [begin, end] = worker.share(int64_t{heads} * parts);
  alignas(64) float c[kHeadRows * 32];
  TileState state;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t h = task / parts, part = task % parts;
    const tensor::PackedMatrix& w = args.weights[static_cast<size_t>(h)];
    const auto p_begin = static_cast<int32_t>(w.num_panels() * part / parts);
    const auto p_end = static_cast<int32_t>(w.num_panels() * (part + 1) / parts);
    for (int32_t r0 = 0; r0 < args.rows; r0 += kHeadRows) {
      const int32_t rows = std::min(kHeadRows, args.rows - r0);
      for (int32_t r = 0; r < rows; ++r) {
        const PackedRow at = packed_row(r, rows, row_bytes, ops.step_bytes);
        ops.pack_row(w.format, args.x + (r0 + r) * args.x_row_stride + h * args.x_head_stride, w.k,
                     packed + at.offset, at.step_stride, nullptr);
      }
      for (int32_t p = p_begin; p < p_end; ++p) {
        ops.panel({&w, p, packed, nullptr, rows, c}, state);
        ops.store(c, rows, w.bias ? w.bias + p * 32 : nullptr,
                  args.y + r0 * args.y_row_stride + h * args.y_head_stride + p * 32,
                  args.y_row_stride, std::min(32, w.n - p * 32), StoreMode::kWrite);
      }
    }
  }
  ops.finish(state);
}

}  // namespace moestro::kernels::cpu
