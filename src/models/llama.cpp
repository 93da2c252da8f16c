// Llama 2 and 3 (llama): dense, plain grouped-query attention.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> llama(const SpecRequest& request) {
  return make_gqa_family(request, {.output_bias = true});
}

}  // namespace moestro::models
