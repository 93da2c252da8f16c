// linear and head_linear over any TileOps: one barrier between packing x and the panels
// (head_linear: none). The run functions are what cpu/lists_linear.cpp puts into its tables.
#pragma once
#include "kernels/cpu/tile_ops.h"
#include "kernels/linear.h"

namespace moestro::kernels::cpu {

bool linear_supports(const LinearShape& shape) noexcept;
int64_t linear_scratch_bytes(const TileOps& ops, const LinearShape& shape) noexcept;
void linear_run(const TileOps& ops, const LinearArgs& args, platform::Worker& worker) noexcept;

bool head_linear_supports(const HeadLinearShape& shape) noexcept;
int64_t head_linear_scratch_bytes(const TileOps& ops, const HeadLinearShape& shape,
                                  int num_workers) noexcept;
void head_linear_run(const TileOps& ops, const HeadLinearArgs& args,
                     platform::Worker& worker) noexcept;

// Panels a task takes: small enough that the workers end together, large enough that a ticket costs
// nothing.
int32_t panels_per_task(int64_t total_panels, int64_t panel_bytes, int num_workers);

}  // namespace moestro::kernels::cpu
