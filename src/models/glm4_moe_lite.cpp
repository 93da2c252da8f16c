// GLM-4.7-Flash (glm4_moe_lite): DeepSeek-V3's layers with GLM's sizes, first layer dense.
#include "models/families.h"
#include "models/mla_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> glm4_moe_lite(const SpecRequest& request) {
  return make_mla_family(request);
}

}  // namespace moestro::models
