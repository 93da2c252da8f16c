// Qwen3 with experts (qwen3_moe): grouped-query attention with a norm of each query and key head,
// softmax routing, no shared expert; decoder_sparse_step and mlp_only_layers leave some layers
// dense. Tensor names as in the published checkpoints.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> qwen3_moe(const SpecRequest& request) {
  return make_gqa_family(request, {.output_bias = true});
}

}  // namespace moestro::models
