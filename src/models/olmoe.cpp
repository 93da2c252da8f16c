// OLMoE (olmoe): attention whose queries and keys are normed over all heads together, softmax
// routing in every layer.
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> olmoe(const SpecRequest& request) {
  return make_gqa_family(request, {.output_bias = true, .norms_span_heads = true});
}

}  // namespace moestro::models
