// GLM-5 (glm_moe_dsa): MLA with a DSA indexer in every full layer (others share the preceding one's
// choice), dense prefix, then experts by noaux_tc with one shared expert. Tensor names as in the
// published checkpoints.
#include "models/families.h"
#include "models/mla_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> glm_moe_dsa(const SpecRequest& request) {
  return make_mla_family(request);
}

}  // namespace moestro::models
