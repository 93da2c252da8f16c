#include "moe/dispatch/local.h"

#include <algorithm>

#include "platform/arena.h"

namespace moestro::moe {
namespace {

class LocalDispatch final : public Dispatch {
 public:
  static Result<std::unique_ptr<Dispatch>> make(const LocalDispatchShape& shape) {
    auto d = std::make_unique<LocalDispatch>();
    d->shape_ = shape;
    const auto pairs = static_cast<size_t>(shape.max_tokens) * static_cast<size_t>(shape.top_k);
    MOESTRO_ASSIGN(d->rows_, platform::Buffer::allocate(pairs * static_cast<size_t>(shape.hidden) *
                                                        sizeof(float)));
    MOESTRO_ASSIGN(d->indices_,
                   platform::Buffer::allocate(
                       (2 * pairs + 2 * static_cast<size_t>(shape.experts) + 2) * sizeof(int32_t)));
    auto* at = d->indices_.as<int32_t>();
    d->row_token_ = at;
    d->row_of_ = at + pairs;
    d->offsets_ = at + 2 * pairs;
    d->next_ = d->offsets_ + shape.experts + 1;
    return std::unique_ptr<Dispatch>(std::move(d));
  }

  std::string_view name() const override { return "local"; }

  GroupedRows prepare(const RoutedTokens& routed, platform::Worker& worker) noexcept override {
    // One worker: two passes over at most a few ten thousand pairs cost less than a barrier more.
    if (worker.index() == 0) group(routed);
    worker.barrier();
    return {.tokens = routed.tokens,
            .x = routed.x,
            .x_stride = routed.x_stride,
            .row_offsets = {offsets_, static_cast<size_t>(shape_.experts) + 1},
            .row_token = row_token_,
            .y = rows_.as<float>(),
            .y_stride = shape_.hidden};
  }

  void finalize(const RoutedTokens& routed, const kernels::RowOps& ops, float* out,
                int64_t out_stride, platform::Worker& worker) noexcept override {
    ops.combine({.rows = rows_.as<float>(),
                 .rows_stride = shape_.hidden,
                 .row_of = row_of_,
                 .weights = routed.weights,
                 .tokens = routed.tokens,
                 .top_k = routed.top_k,
                 .width = shape_.hidden,
                 .out = out,
                 .out_stride = out_stride,
                 .accumulate = true},
                worker);
  }

 private:
  void group(const RoutedTokens& routed) noexcept {
    const int64_t pairs = int64_t{routed.tokens} * routed.top_k;
    std::fill_n(offsets_, shape_.experts + 1, 0);
    for (int64_t i = 0; i < pairs; ++i) ++offsets_[routed.ids[i] + 1];
    for (int32_t e = 0; e < shape_.experts; ++e) offsets_[e + 1] += offsets_[e];
    std::copy_n(offsets_, shape_.experts, next_);
    for (int32_t t = 0; t < routed.tokens; ++t) {
      for (int32_t j = 0; j < routed.top_k; ++j) {
        const int64_t pair = int64_t{t} * routed.top_k + j;
        const int32_t row = next_[routed.ids[pair]]++;
        row_token_[row] = t;
        row_of_[pair] = row;
      }
    }
  }

  LocalDispatchShape shape_;
  platform::Buffer rows_;  // [max_tokens * top_k, hidden]
  platform::Buffer indices_;
  int32_t* row_token_ = nullptr;  // [pairs]
  int32_t* row_of_ = nullptr;     // [tokens, top_k]
  int32_t* offsets_ = nullptr;    // [experts + 1]
  int32_t* next_ = nullptr;       // [experts]
};

}  // namespace

int64_t LocalDispatchShape::bytes() const {
  const int64_t pairs = int64_t{max_tokens} * top_k;
  return pairs * hidden * 4 + (2 * pairs + 2 * experts + 2) * 4;
}

Result<std::unique_ptr<Dispatch>> make_local_dispatch(const LocalDispatchShape& shape) {
  return LocalDispatch::make(shape);
}

}  // namespace moestro::moe
