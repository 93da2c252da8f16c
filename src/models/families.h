// One factory an architecture, each in the file of its name; registry.cpp lists them.
#pragma once
#include <memory>

#include "models/model_spec.h"

namespace moestro::models {
Result<std::unique_ptr<ModelSpec>> glm_moe_dsa(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> qwen3_moe(const SpecRequest& request);
}  // namespace moestro::models
