// What the DeepSeek-like families share (deepseek_v2, v3, v32, glm_moe_dsa, glm4_moe_lite,
// kimi_k2): MLA attention, optional DSA, dense prefix, experts with shared experts, and one set of
// tensor names. Their own files say where they differ.
#pragma once
#include <memory>

#include "models/model_spec.h"

namespace moestro::models {

Result<std::unique_ptr<ModelSpec>> make_mla_family(const SpecRequest& request);

}  // namespace moestro::models
