// DeepSeek-V3, R1, V3.1 and Kimi-K2 (deepseek_v3, kimi_k2): MLA with a low-rank query, a dense
// prefix, then experts by noaux_tc (sigmoid with a correction, groups by the sum of their two best)
// and shared experts.
#include "models/families.h"
#include "models/mla_family.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> deepseek_v3(const SpecRequest& request) {
  return make_mla_family(request);
}

}  // namespace moestro::models
