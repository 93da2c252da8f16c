// MiniMax-M2 (minimax_m2): grouped-query attention normed over all heads together and rotated in
// part, experts by sigmoid and bias in every layer, under Mixtral's names.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> minimax_m2(const SpecRequest& request) {
  return make_gqa_family(request, {.moe = {.block = "block_sparse_moe.",
                                           .correction_bias = "e_score_correction_bias",
                                           .gate = "w1",
                                           .up = "w3",
                                           .down = "w2"},
                                   .norms_span_heads = true});
}

}  // namespace moestro::models
