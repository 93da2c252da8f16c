#include "kernels/cpu/expert_mlp_driver.h"

#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/cpu/linear_driver.h"

namespace moestro::kernels::cpu {
namespace {

using platform::Worker;

constexpr int32_t kPrivateRows =
    64;  // up to so many rows the intermediate is packed by whoever needs it (a bit each)
constexpr int32_t kGatherRows =
    128;  // fewer rows are packed straight to their places, saving a barrier

// Offsets into scratch. Growing any of the numbers never shrinks an offset, so the largest shape
// bounds all.
struct Layout {
  int64_t x_row, h_row,
      h_stride;  // bytes of a packed row of x and of h; floats of an unpacked row of h
  int64_t x_per_row, h_per_row;  // floats beside a packed row
  int64_t order, unfinished, token_scales, tokens, x_scales, x, h, h_scales, h_packed, own,
      own_bytes, ordered, ordered_bytes, end;

  Layout(const TileOps& ops, const tensor::PackedFormat& format, int32_t num_tokens,
         int32_t num_rows, int32_t experts, int32_t hidden, int32_t intermediate, int workers)
      : x_row(packed_row_bytes(ops, hidden)),
        h_row(packed_row_bytes(ops, intermediate)),
        h_stride((intermediate + 15) / 16 * 16),
        x_per_row(ops.scales_per_row(format, hidden)),
        h_per_row(ops.scales_per_row(format, intermediate)) {
    int64_t at = 0;
    const auto take = [&](int64_t bytes) {
      const int64_t begin = at;
      at += round_up_64(bytes);
      return begin;
    };
    order = take(int64_t{4} * experts);
    unfinished = take(int64_t{4} * experts);
    token_scales = take(4 * x_per_row * num_tokens);
    tokens = take(x_row * num_tokens);
    x_scales = take(4 * x_per_row * num_rows);
    x = take(x_row * num_rows);
    h = take(4 * h_stride * num_rows);
    h_scales = take(4 * h_per_row * num_rows);
    h_packed = take(h_row * num_rows);
    const int32_t own_rows = std::min(num_rows, kPrivateRows);
    own_bytes = round_up_64(4 * h_per_row * own_rows) + h_row * own_rows;
    own = take(own_bytes * workers);
    ordered_bytes = k_order_bytes(format, hidden);
    ordered = take(ordered_bytes * workers);
    end = at;
  }
};

class Run {
 public:
  Run(const TileOps& ops, const ExpertMlpArgs& args, Worker& worker)
      : ops_(ops),
        args_(args),
        worker_(worker),
        rows_(args.row_offsets.back()),
        hidden_(args.gate_up.front().k),
        intermediate_(args.down.front().k),
        layout_(ops, args.down.front().format, args.tokens, rows_,
                static_cast<int32_t>(args.gate_up.size()), hidden_, intermediate_, worker.count()) {
    bool reordered = false;
    for (size_t e = 0; e < args.gate_up.size(); ++e) {
      num_active_ += count(e) > 0;
      longest_ = std::max(longest_, count(e));
      reordered |= args.gate_up[e].k_order != nullptr;
    }
    // (Experts with an order of their own share no packed token.)
    by_token_ = !reordered && args.row_token && rows_ >= 2 * args.tokens &&
                (longest_ == 1 || rows_ >= kGatherRows);
    gather_ = by_token_ && longest_ > 1;
    own_h_ = rows_ <= kPrivateRows;
    // With many experts the work after one is done does not hold the others up.
    last_packs_h_ = !own_h_ && num_active_ >= 4 * worker.count();
    // With still more, and none much longer than others, nobody waits for the last of them.
    whole_experts_ = gather_ && !own_h_ && num_active_ >= 16 * worker.count() &&
                     int64_t{4} * longest_ * worker.count() <= rows_;
    gate_up_tasks_ = tasks_of(args.gate_up.front());
    down_tasks_ = tasks_of(args.down.front());
  }

  void run() {
    if (worker_.index() == 0) order_experts();
    if (by_token_)
      pack_tokens();
    else
      pack_rows();
    worker_.barrier();
    if (whole_experts_)
      whole_experts();
    else
      phases();
    ops_.finish(state_);
    _mm_sfence();
  }

 private:
  int32_t first(size_t e) const { return args_.row_offsets[e]; }
  int32_t count(size_t e) const { return args_.row_offsets[e + 1] - args_.row_offsets[e]; }
  int64_t token_of(int32_t row) const { return args_.row_token ? args_.row_token[row] : row; }
  template <class T>
  T* at(int64_t offset) const {
    return reinterpret_cast<T*>(args_.scratch + offset);
  }

  void phases() {
    if (gather_) {
      gather_rows();
      worker_.barrier();
    }
    gate_up();
    worker_.barrier();
    if (!own_h_ && !last_packs_h_) {
      pack_h();
      worker_.barrier();
    }
    down();
  }

  // Some packed rows of one expert and their scales.
  struct Operand {
    const std::byte* a;
    const float* scales;
    int32_t rows;
    int64_t row_bytes, per_row;
  };
  struct Weights {
    const std::byte* at = nullptr;
    int64_t bytes = 0;
  };
  static Weights panel_of(const tensor::PackedMatrix& w, int32_t p) {
    return {w.panel(p), w.panel_bytes()};
  }

  // Multiplies panels [begin, end) of w; done(first row, rows, panel) takes each result from c_.
  // `after()` is what this worker reads then; asked once, before the last panel.
  template <class After, class Done>
  void multiply(const tensor::PackedMatrix& w, int32_t begin, int32_t end, const Operand& x,
                After after, Done done) {
    for (int32_t r = 0; r < x.rows; r += kCallRows) {
      const int32_t rows = std::min(kCallRows, x.rows - r);
      for (int32_t p = begin; p < end; ++p) {
        const Weights next = p + 1 < end              ? panel_of(w, p + 1)
                             : r + kCallRows < x.rows ? panel_of(w, begin)
                                                      : after();
        ops_.panel(
            {&w, p, x.a + r * x.row_bytes, x.scales + r * x.per_row, rows, c_, next.at, next.bytes},
            state_);
        done(r, rows, p);
      }
    }
  }
  template <class After>
  void multiply_gate_up(size_t e, int32_t begin, int32_t end, const Operand& x, float* h,
                        After after) {
    const tensor::PackedMatrix& w = args_.gate_up[e];
    multiply(w, begin, end, x, after, [&](int32_t r, int32_t rows, int32_t p) {
      ops_.gated(args_.activation, c_, rows, w.bias ? w.bias + p * 32 : nullptr,
                 h + r * layout_.h_stride + p * 16, layout_.h_stride);
    });
  }
  template <class After>
  void multiply_down(size_t e, int32_t begin, int32_t end, const Operand& h, After after) {
    const tensor::PackedMatrix& w = args_.down[e];
    const StoreMode mode = store_mode(args_.accumulate, int64_t{4} * rows_ * hidden_);
    float* y = args_.y + first(e) * args_.y_stride;
    multiply(w, begin, end, h, after, [&](int32_t r, int32_t rows, int32_t p) {
      ops_.store(c_, rows, w.bias ? w.bias + p * 32 : nullptr, y + r * args_.y_stride + p * 32,
                 args_.y_stride, std::min(32, w.n - p * 32), mode);
    });
  }

  struct Tasks {
    int32_t panels, per_task, count;  // count: tasks of one expert
  };
  Tasks tasks_of(const tensor::PackedMatrix& w) const {
    const int32_t panels = w.num_panels();
    const int32_t per_task =
        panels_per_task(int64_t{panels} * num_active_, w.panel_bytes(), worker_.count());
    return {panels, per_task, (panels + per_task - 1) / per_task};
  }

  // The experts that have rows, the longest first, so that the last tasks are small.
  void order_experts() {
    std::fill_n(at<int32_t>(layout_.unfinished), args_.gate_up.size(), gate_up_tasks_.count);
    auto* order = at<int32_t>(layout_.order);
    int32_t n = 0;
    for (size_t e = 0; e < args_.gate_up.size(); ++e)
      if (count(e) > 0) order[n++] = static_cast<int32_t>(e);
    if (longest_ > 1)
      std::sort(order, order + n, [&](int32_t a, int32_t b) {
        const int32_t rows_a = count(static_cast<size_t>(a)),
                      rows_b = count(static_cast<size_t>(b));
        return rows_a != rows_b ? rows_a > rows_b : a < b;
      });
  }

  void pack_tokens() {
    const auto [begin, end] = worker_.share(args_.tokens);
    for (int64_t t = begin; t < end; ++t)
      ops_.pack_row(args_.gate_up.front().format, args_.x + t * args_.x_stride, hidden_,
                    at<std::byte>(layout_.tokens + t * layout_.x_row), ops_.step_bytes,
                    at<float>(layout_.token_scales) + t * layout_.x_per_row);
  }

  // Calls f(row, its place, its expert) for this worker's share of the grouped rows; places are of
  // a row of row_bytes.
  template <class F>
  void each_row(int64_t row_bytes, F f) const {
    const auto [begin, end] = worker_.share(rows_);
    if (begin == end) return;
    size_t e =
        static_cast<size_t>(std::upper_bound(args_.row_offsets.begin(), args_.row_offsets.end(),
                                             static_cast<int32_t>(begin)) -
                            args_.row_offsets.begin()) -
        1;
    for (auto r = static_cast<int32_t>(begin); r < end; ++r) {
      while (args_.row_offsets[e + 1] <= r) ++e;
      PackedRow place = packed_row(r - first(e), count(e), row_bytes, ops_.step_bytes);
      place.offset += first(e) * row_bytes;
      f(r, place, e);
    }
  }

  void pack_rows() {
    auto* scales = at<float>(layout_.x_scales);
    auto* ordered = at<float>(layout_.ordered + layout_.ordered_bytes * worker_.index());
    each_row(layout_.x_row, [&](int32_t r, const PackedRow& place, size_t e) {
      const float* x =
          in_k_order(args_.gate_up[e], args_.x + token_of(r) * args_.x_stride, ordered);
      ops_.pack_row(args_.gate_up.front().format, x, hidden_,
                    at<std::byte>(layout_.x + place.offset), place.step_stride,
                    scales + r * layout_.x_per_row);
    });
  }

  // Copies the packed token of row r to its place.
  void gather_row(int32_t r, std::byte* to, int64_t step_stride, float* scales) const {
    const int64_t token = token_of(r);
    std::copy_n(at<float>(layout_.token_scales) + token * layout_.x_per_row, layout_.x_per_row,
                scales);
    const std::byte* from = at<std::byte>(layout_.tokens + token * layout_.x_row);
    for (int64_t i = 0; i < layout_.x_row; i += ops_.step_bytes, to += step_stride)
      for (int32_t j = 0; j < ops_.step_bytes; j += 64)  // whole lines, without a call for each
        std::memcpy(to + j, from + i + j, 64);
  }

  void gather_rows() {
    each_row(layout_.x_row, [&](int32_t r, const PackedRow& place, size_t) {
      gather_row(r, at<std::byte>(layout_.x + place.offset), place.step_stride,
                 at<float>(layout_.x_scales) + r * layout_.x_per_row);
    });
  }

  // Everything of one expert by one worker, in buffers that stay in its caches: slices of those
  // that the other way fills for all rows.
  void whole_experts() {
    const int64_t slice = int64_t{worker_.index()} * longest_;
    std::byte *x = at<std::byte>(layout_.x + slice * layout_.x_row),
              *packed = at<std::byte>(layout_.h_packed + slice * layout_.h_row);
    float *x_scales = at<float>(layout_.x_scales) + slice * layout_.x_per_row,
          *h_scales = at<float>(layout_.h_scales) + slice * layout_.h_per_row,
          *h = at<float>(layout_.h) + slice * layout_.h_stride;
    const auto* order = at<int32_t>(layout_.order);
    worker_.start_tickets();
    for (int64_t task = worker_.take_ticket(); task < num_active_;) {
      const auto e = static_cast<size_t>(order[task]);
      const int32_t rows = count(e);
      for (int32_t i = 0; i < rows; ++i) {
        const PackedRow place = packed_row(i, rows, layout_.x_row, ops_.step_bytes);
        gather_row(first(e) + i, x + place.offset, place.step_stride,
                   x_scales + i * layout_.x_per_row);
      }
      multiply_gate_up(e, 0, gate_up_tasks_.panels,
                       {x, x_scales, rows, layout_.x_row, layout_.x_per_row}, h,
                       [&] { return panel_of(args_.down[e], 0); });
      for (int32_t i = 0; i < rows; ++i) {
        const PackedRow place = packed_row(i, rows, layout_.h_row, ops_.step_bytes);
        ops_.pack_row(args_.down[e].format, h + i * layout_.h_stride, intermediate_,
                      packed + place.offset, place.step_stride, h_scales + i * layout_.h_per_row);
      }
      multiply_down(e, 0, down_tasks_.panels,
                    {packed, h_scales, rows, layout_.h_row, layout_.h_per_row}, [&] {
                      task = worker_.take_ticket();
                      return task < num_active_
                                 ? panel_of(args_.gate_up[static_cast<size_t>(order[task])], 0)
                                 : Weights{};
                    });
    }
  }

  void pack_h_row(int32_t r, const PackedRow& place) {
    ops_.pack_row(args_.down.front().format, at<float>(layout_.h) + r * layout_.h_stride,
                  intermediate_, at<std::byte>(layout_.h_packed + place.offset), place.step_stride,
                  at<float>(layout_.h_scales) + r * layout_.h_per_row);
  }

  void pack_h() {
    each_row(layout_.h_row,
             [&](int32_t r, const PackedRow& place, size_t) { pack_h_row(r, place); });
  }

  // Whoever ends the last gate_up task of an expert packs its rows of h, which are then still in
  // the caches.
  void finish_gate_up_task(size_t e) {
    std::atomic_ref<int32_t> unfinished(at<int32_t>(layout_.unfinished)[e]);
    if (unfinished.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    for (int32_t i = 0; i < count(e); ++i) {
      PackedRow place = packed_row(i, count(e), layout_.h_row, ops_.step_bytes);
      place.offset += first(e) * layout_.h_row;
      pack_h_row(first(e) + i, place);
    }
  }

  // Runs f(expert, first panel, end panel, after) over all active experts' panels of the matrices,
  // by ticket; after() takes the next ticket and gives the first weights of its task.
  template <class F>
  void each_task(const Tasks& tasks, std::span<const tensor::PackedMatrix> matrices, F f) {
    const int64_t total = int64_t{tasks.count} * num_active_;
    const auto* order = at<int32_t>(layout_.order);
    const auto expert = [&](int64_t task) {
      return static_cast<size_t>(order[task / tasks.count]);
    };
    const auto panel = [&](int64_t task) {
      return static_cast<int32_t>(task % tasks.count) * tasks.per_task;
    };
    worker_.start_tickets();
    for (int64_t task = worker_.take_ticket(), next; task < total; task = next) {
      next = -1;
      f(expert(task), panel(task), std::min(tasks.panels, panel(task) + tasks.per_task), [&] {
        next = worker_.take_ticket();
        return next < total ? panel_of(matrices[expert(next)], panel(next)) : Weights{};
      });
    }
  }

  void gate_up() {
    each_task(gate_up_tasks_, args_.gate_up,
              [&](size_t e, int32_t p_begin, int32_t p_end, auto after) {
                const std::byte* a = at<std::byte>(layout_.x + first(e) * layout_.x_row);
                const float* scales = at<float>(layout_.x_scales) + first(e) * layout_.x_per_row;
                if (by_token_ && !gather_) {  // the only row of this expert is its token
                  a = at<std::byte>(layout_.tokens + token_of(first(e)) * layout_.x_row);
                  scales = at<float>(layout_.token_scales) + token_of(first(e)) * layout_.x_per_row;
                }
                multiply_gate_up(e, p_begin, p_end,
                                 {a, scales, count(e), layout_.x_row, layout_.x_per_row},
                                 at<float>(layout_.h) + first(e) * layout_.h_stride, after);
                if (last_packs_h_) finish_gate_up_task(e);
              });
  }

  // Expert e's rows of h, packed by this worker for itself; each row once.
  void pack_own_h(size_t e) {
    auto* scales = at<float>(layout_.own + layout_.own_bytes * worker_.index());
    std::byte* packed = own_packed();
    for (int32_t i = 0; i < count(e); ++i) {
      const int32_t r = first(e) + i;
      if (own_packed_rows_ >> r & 1) continue;
      own_packed_rows_ |= uint64_t{1} << r;
      const PackedRow place = packed_row(i, count(e), layout_.h_row, ops_.step_bytes);
      ops_.pack_row(args_.down.front().format, at<float>(layout_.h) + r * layout_.h_stride,
                    intermediate_, packed + first(e) * layout_.h_row + place.offset,
                    place.step_stride, scales + r * layout_.h_per_row);
    }
  }
  std::byte* own_packed() const {
    return at<std::byte>(layout_.own + layout_.own_bytes * worker_.index() +
                         round_up_64(4 * layout_.h_per_row * rows_));
  }

  void down() {
    const std::byte* packed = own_h_ ? own_packed() : at<std::byte>(layout_.h_packed);
    const float* all_scales =
        at<float>(own_h_ ? layout_.own + layout_.own_bytes * worker_.index() : layout_.h_scales);
    each_task(down_tasks_, args_.down, [&](size_t e, int32_t p_begin, int32_t p_end, auto after) {
      if (own_h_) pack_own_h(e);
      multiply_down(e, p_begin, p_end,
                    {packed + first(e) * layout_.h_row, all_scales + first(e) * layout_.h_per_row,
                     count(e), layout_.h_row, layout_.h_per_row},
                    after);
    });
  }

  const TileOps& ops_;
  const ExpertMlpArgs& args_;
  Worker& worker_;
  const int32_t rows_, hidden_, intermediate_;
  const Layout layout_;
  int32_t num_active_ = 0, longest_ = 0;
  bool by_token_ = false, gather_ = false, own_h_ = false, last_packs_h_ = false,
       whole_experts_ = false;
  Tasks gate_up_tasks_{}, down_tasks_{};
  uint64_t own_packed_rows_ = 0;
  TileState state_;
  alignas(64) float c_[kCallRows * 32];
};

}  // namespace

std::string_view expert_mlp_why_not(const ExpertMlpShape& shape) noexcept {
  return why_not_k(shape.format, std::max(shape.hidden, shape.intermediate));
}

int64_t expert_mlp_scratch_bytes(const TileOps& ops, const ExpertMlpShape& s,
                                 int num_workers) noexcept {
  return Layout(ops, s.format, s.max_tokens, s.max_rows, s.experts, s.hidden, s.intermediate,
                num_workers)
      .end;
}

void expert_mlp_run(const TileOps& ops, const ExpertMlpArgs& args,
                    platform::Worker& worker) noexcept {
  if (args.gate_up.empty() || args.row_offsets.back() == 0) return;
  Run(ops, args, worker).run();
}

}  // namespace moestro::kernels::cpu
