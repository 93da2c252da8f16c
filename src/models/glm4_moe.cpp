// GLM-4.5 to 4.7 (glm4_moe): grouped-query attention with biases of q, k and v and half of each
// head rotated, norms of single heads in some sizes, dense prefix, experts by noaux_tc with one
// shared expert.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> glm4_moe(const SpecRequest& request) {
  return make_gqa_family(request, {});
}

}  // namespace moestro::models
