// linear and head_linear over any TileOps: one barrier between packing x and the panels
// (head_linear: none). The run functions are what cpu/lists_linear.cpp puts into its tables.
#pragma once
#include "kernels/cpu/tile_ops.h"
#include "kernels/linear.h"

namespace moestro::kernels::cpu {

std::string_view linear_why_not(const LinearShape& shape) noexcept;
int64_t linear_scratch_bytes(const TileOps& ops, const LinearShape& shape,
                             int num_workers) noexcept;
void linear_run(const TileOps& ops, const LinearArgs& args, platform::Worker& worker) noexcept;

std::string_view head_linear_why_not(const HeadLinearShape& shape) noexcept;
int64_t head_linear_scratch_bytes(const TileOps& ops, const HeadLinearShape& shape,
                                  int num_workers) noexcept;
void head_linear_run(const TileOps& ops, const HeadLinearArgs& args,
                     platform::Worker& worker) noexcept;

// x[k] in the order of w's packed k: x itself, or copied to `buffer` [k].
const float* in_k_order(const tensor::PackedMatrix& w, const float* x, float* buffer);
// Bytes of such a buffer for each worker; 0 where the format has no order.
int64_t k_order_bytes(const tensor::PackedFormat& format, int32_t k);

// Why int32 sums over k are not safe; empty: they are.
std::string_view why_not_k(const tensor::PackedFormat& format, int32_t k);

// Panels a task takes: small enough that the workers end together, large enough that a ticket costs
// nothing.
int32_t panels_per_task(int64_t total_panels, int64_t panel_bytes, int num_workers);

}  // namespace moestro::kernels::cpu
