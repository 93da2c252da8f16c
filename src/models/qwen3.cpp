// Dense Qwen3 (qwen3): as qwen3_moe, without experts.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> qwen3(const SpecRequest& request) {
  return make_gqa_family(request, {.output_bias = true});
}

}  // namespace moestro::models
