#include "checkpoint/model_family.h"

namespace moestro::checkpoint {
namespace {

constexpr ModelFamily deepseek(std::string_view type, std::string_view architecture, double scale,
                               double eps, bool dsa = false) {
  return {.model_type = type,
          .architecture = architecture,
          .mla = true,
          .dsa = dsa,
          .mixture = Mixture::kPrefix,
          .shared_experts = true,
          .scoring = ScoringFunc::kSigmoid,
          .topk = TopkMethod::kNoauxTc,
          .scoring_keys = true,
          .norm_topk_prob = true,
          .norm_key = true,
          .routed_scaling_factor = scale,
          .rms_norm_eps = eps};
}

constexpr ModelFamily kFamilies[] = {
    deepseek("glm_moe_dsa", "GlmMoeDsaForCausalLM", 2.5, 1e-5, true),
    {.model_type = "deepseek_v2",
     .architecture = "DeepseekV2ForCausalLM",
     .mla = true,
     .mixture = Mixture::kPrefix,
     .shared_experts = true,
     .scoring_keys = true,
     .norm_key = true},
    deepseek("deepseek_v3", "DeepseekV3ForCausalLM", 2.5, 1e-6),
    deepseek("deepseek_v32", "DeepseekV32ForCausalLM", 2.5, 1e-6, true),
    deepseek("kimi_k2", "DeepseekV3ForCausalLM", 2.827, 1e-6),
    {.model_type = "glm4_moe",
     .architecture = "Glm4MoeForCausalLM",
     .mixture = Mixture::kPrefix,
     .shared_experts = true,
     .scoring = ScoringFunc::kSigmoid,
     .topk = TopkMethod::kNoauxTc,
     .norm_topk_prob = true,
     .norm_key = true,
     .rms_norm_eps = 1e-5,
     .partial_rotary = 0.5,
     .qk_norm = QkNorm::kKeyOrNever},
    deepseek("glm4_moe_lite", "Glm4MoeLiteForCausalLM", 1.8, 1e-5),
    {.model_type = "qwen2_moe",
     .architecture = "Qwen2MoeForCausalLM",
     .mixture = Mixture::kStep,
     .norm_key = true,
     .routed_scaling_factor = 0,
     .attention_bias = true},
    {.model_type = "qwen3_moe",
     .architecture = "Qwen3MoeForCausalLM",
     .mixture = Mixture::kStep,
     .norm_key = true,
     .routed_scaling_factor = 0,
     .qk_norm = QkNorm::kAlways},
    {.model_type = "qwen3", .architecture = "Qwen3ForCausalLM", .qk_norm = QkNorm::kAlways},
    {.model_type = "llama", .architecture = "LlamaForCausalLM"},
    {.model_type = "mixtral",
     .architecture = "MixtralForCausalLM",
     .mixture = Mixture::kAll,
     .experts_use_intermediate_size = true,
     .norm_topk_prob = true,
     .routed_scaling_factor = 0,
     .rms_norm_eps = 1e-5,
     .rope_theta = 1e6},
    {.model_type = "olmoe",
     .architecture = "OlmoeForCausalLM",
     .mixture = Mixture::kAll,
     .experts_use_intermediate_size = true,
     .norm_key = true,
     .routed_scaling_factor = 0,
     .rms_norm_eps = 1e-5,
     .qk_norm = QkNorm::kAlways},
    // gpt_oss: softmax over the chosen logits only, which is softmax over all, renormalised.
    {.model_type = "gpt_oss",
     .architecture = "GptOssForCausalLM",
     .mixture = Mixture::kAll,
     .experts_use_intermediate_size = true,
     .norm_topk_prob = true,
     .routed_scaling_factor = 0,
     .rms_norm_eps = 1e-5,
     .rope_theta = 150000,
     .attention_bias = true},
    {.model_type = "minimax_m2",
     .architecture = "MiniMaxM2ForCausalLM",
     .mixture = Mixture::kAll,
     .experts_use_intermediate_size = true,
     .scoring = ScoringFunc::kSigmoid,
     .topk = TopkMethod::kNoauxTc,
     .norm_topk_prob = true,
     .routed_scaling_factor = 0,
     .rope_theta = 5e6,
     .qk_norm = QkNorm::kKeyOrAlways},
};

}  // namespace

std::span<const ModelFamily> model_families() { return kFamilies; }

const ModelFamily* find_family(std::string_view model_type, std::string_view architecture) {
  for (const ModelFamily& f : kFamilies)
    if (f.model_type == model_type) return &f;
  for (const ModelFamily& f : kFamilies)
    if (f.architecture == architecture) return &f;
  return nullptr;
}

std::string known_model_types() {
  std::string out;
  for (const ModelFamily& f : kFamilies)
    out += (out.empty() ? "" : ", ") + std::string(f.model_type);
  return out;
}

}  // namespace moestro::checkpoint
