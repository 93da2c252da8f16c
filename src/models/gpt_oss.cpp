// gpt-oss (gpt_oss): grouped-query attention with biases and sinks, every other layer over a
// window; a router with a bias and softmax over the chosen; experts with biases and the clamped
// SwiGLU, all of a layer in one tensor (quant/fused_experts.h).
#include "models/families.h"
#include "models/gqa_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> gpt_oss(const SpecRequest& request) {
  return make_gqa_family(request,
                         {.moe = {.router = "router", .router_bias = true}, .output_bias = true});
}

}  // namespace moestro::models
