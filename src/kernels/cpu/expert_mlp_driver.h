// expert_mlp over any TileOps. Phases, a barrier after each but the last:
//   pack x (by token)  ->  [gather the tokens of each expert]  ->  gate, up and activation  ->
//   [requantise]  ->  down
// The gather is skipped when no expert has two rows, the separate requantise phase when there are
// few rows (whoever takes a down task packs what it needs): 2 barriers for one token, 3 or 4 for
// many. Expert tasks go by ticket, longest expert first.
#pragma once
#include "kernels/cpu/tile_ops.h"
#include "kernels/expert_mlp.h"

namespace moestro::kernels::cpu {

bool expert_mlp_supports(const ExpertMlpShape& shape) noexcept;
int64_t expert_mlp_scratch_bytes(const TileOps& ops, const ExpertMlpShape& shape,
                                 int num_workers) noexcept;
void expert_mlp_run(const TileOps& ops, const ExpertMlpArgs& args,
                    platform::Worker& worker) noexcept;

}  // namespace moestro::kernels::cpu
