// DeepSeek-V2 and V2-Lite (deepseek_v2): MLA, with or without a low-rank query; experts by softmax,
// greedy or the best groups (by their largest score), not renormalised. Tensor names as in the
// published checkpoints.
#include "models/families.h"
#include "models/mla_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> deepseek_v2(const SpecRequest& request) {
  return make_mla_family(request);
}

}  // namespace moestro::models
