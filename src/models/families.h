// One factory an architecture, each in the file of its name; registry.cpp lists them.
#pragma once
#include <memory>

#include "models/model_spec.h"

namespace moestro::models {
Result<std::unique_ptr<ModelSpec>> deepseek_v2(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> deepseek_v3(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> deepseek_v32(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> glm4_moe(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> glm4_moe_lite(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> glm_moe_dsa(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> gpt_oss(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> llama(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> minimax_m2(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> mixtral(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> olmoe(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> qwen2_moe(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> qwen3(const SpecRequest& request);
Result<std::unique_ptr<ModelSpec>> qwen3_moe(const SpecRequest& request);
}  // namespace moestro::models
