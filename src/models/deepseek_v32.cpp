// DeepSeek-V3.2 (deepseek_v32): V3 with a DSA indexer in every layer, whose rotation is half-split
// while the attention's is interleaved (models.md 2.6.1).
#include "models/families.h"
#include "models/mla_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> deepseek_v32(const SpecRequest& request) {
  return make_mla_family(request);
}

}  // namespace moestro::models
