// expert_mlp over any TileOps. Phases, a barrier after each but the last:
//   pack x (by token)  ->  [gather the tokens of each expert]  ->  gate, up, activation,
//   [requantise]  ->  down
// The gather is skipped when no expert has two rows. The intermediate is rounded by whoever takes a
// down task (few rows), by whoever ends an expert's last gate_up task (many experts), or else in a
// phase of its own. With many experts for each worker, a task is all of one expert from gathering
// to down, so that its rows stay in the worker's caches and the weights that follow are always
// known. So 2 barriers for one token, 1 or 3 for many, 4 for a dense MLP over many rows (the
// caller's, after the last phase, not counted). Tasks go by ticket, longest expert first.
#pragma once
#include "kernels/cpu/tile_ops.h"
#include "kernels/expert_mlp.h"

namespace moestro::kernels::cpu {

std::string_view expert_mlp_why_not(const ExpertMlpShape& shape) noexcept;
int64_t expert_mlp_scratch_bytes(const TileOps& ops, const ExpertMlpShape& shape,
                                 int num_workers) noexcept;
void expert_mlp_run(const TileOps& ops, const ExpertMlpArgs& args,
                    platform::Worker& worker) noexcept;

}  // namespace moestro::kernels::cpu
