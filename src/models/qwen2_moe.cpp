// Qwen1.5 and Qwen2 with experts (qwen2_moe): grouped-query attention with biases of q, k and v,
// softmax routing, a shared expert behind a sigmoid gate.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> qwen2_moe(const SpecRequest& request) {
  return make_gqa_family(
      request, {.moe = {.shared = "shared_expert.", .shared_gate = "shared_expert_gate"}});
}

}  // namespace moestro::models
