// Dispatch: takes routed tokens to where their experts are and brings the results back
// (docs/design.md, "The MoE pipeline"). `local` keeps everything on this rank; the others cross
// ranks. One object a MoE layer kind, shared by its layers; called by all workers inside a step.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "kernels/op_counts.h"
#include "kernels/row_ops.h"
#include "platform/gang.h"

namespace moestro::moe {

// What the router decided for this rank's tokens.
struct RoutedTokens {
  int32_t tokens = 0, top_k = 0;
  const float* x = nullptr;  // [tokens, hidden]
  int64_t x_stride = 0;
  const int32_t* ids = nullptr;    // [tokens, top_k] experts
  const float* weights = nullptr;  // [tokens, top_k]
};

// Rows grouped by local expert, ready for the expert kernel.
struct GroupedRows {
  int32_t tokens = 0;        // rows of x
  const float* x = nullptr;  // [tokens, hidden]
  int64_t x_stride = 0;
  std::span<const int32_t> row_offsets;  // [local experts + 1]
  const int32_t* row_token = nullptr;    // [rows] row of x
  float* y = nullptr;                    // [rows, hidden] the kernel's output
  int64_t y_stride = 0;
};

class Dispatch {
 public:
  virtual ~Dispatch() = default;
  virtual std::string_view name() const = 0;  // a literal
  // Ends with a barrier: the grouped rows are visible to all workers.
  virtual GroupedRows prepare(const RoutedTokens& routed, platform::Worker& worker) noexcept = 0;
  // After a barrier that ends the expert kernel: out[t] += sum_j weight[t, j] * y(t, j), in order
  // of j.
  virtual void finalize(const RoutedTokens& routed, const kernels::RowOps& ops, float* out,
                        int64_t out_stride, platform::Worker& worker) noexcept = 0;
};

// The dispatch that a layer's plan names, and the count of what ran.
struct DispatchChoice {
  std::string_view name = "local";
  std::shared_ptr<kernels::OpCounts> counts;  // null: nobody counts

  void count(const Dispatch& ran, int32_t tokens, const platform::Worker& worker) const noexcept {
    if (counts && worker.index() == 0) counts->add(ran.name().data(), tokens);
  }
};

}  // namespace moestro::moe
