#include "models/family_builder.h"

#include <utility>

#include "base/format.h"

namespace moestro::models {

Result<quant::ModuleSpec> FamilyBuilder::module(std::string name, int32_t n, int32_t k,
                                                bool biased) const {
  std::string bias = biased ? name + ".bias" : std::string();
  MOESTRO_ASSIGN(quant::ModuleSpec m, quant::make_module(request.source, request.quant,
                                                         std::move(name), n, k, request.compute));
  m.bias = std::move(bias);
  return m;
}

Result<quant::ModuleSpec> FamilyBuilder::float32_module(std::string name, int32_t n, int32_t k,
                                                        bool biased) const {
  MOESTRO_ASSIGN(quant::ModuleSpec m, module(std::move(name), n, k, biased));
  quant::force_floats(m, tensor::PackedFormat::kF32, "it decides discrete choices");
  return m;
}

tensor::PackedFormat FamilyBuilder::compute_format() const {
  return request.compute == DType::kF32 ? tensor::PackedFormat::kF32 : tensor::PackedFormat::kBf16;
}

layers::NormSpec FamilyBuilder::norm(std::string weight) const {
  return {.weight = std::move(weight),
          .bias = {},
          .width = config.hidden_size,
          .eps = config.rms_norm_eps};
}

Result<layers::MlpSpec> FamilyBuilder::mlp(const std::string& prefix, int32_t intermediate) const {
  const bool biased = config.mlp_bias;
  MOESTRO_ASSIGN(quant::ModuleSpec gate,
                 module(prefix + "gate_proj", intermediate, config.hidden_size, biased));
  MOESTRO_ASSIGN(quant::ModuleSpec up,
                 module(prefix + "up_proj", intermediate, config.hidden_size, biased));
  MOESTRO_ASSIGN(quant::ModuleSpec down,
                 module(prefix + "down_proj", config.hidden_size, intermediate, biased));
  return layers::MlpSpec::make(std::move(gate), std::move(up), std::move(down),
                               request.limits.max_tokens);
}

Result<moe::MoeSpec> FamilyBuilder::experts(const std::string& prefix,
                                            const MoeNames& names) const {
  moe::MoeSpec m;
  m.router = moe::RouterSpec::from(config);
  m.hidden = config.hidden_size;
  m.intermediate = config.moe_intermediate_size;
  if (config.swiglu_limit > 0)
    m.activation = kernels::clamped_swiglu(static_cast<float>(config.swiglu_limit));
  MOESTRO_ASSIGN(m.gate, float32_module(format("{}{}", prefix, names.router), config.num_experts,
                                        config.hidden_size, names.router_bias));
  if (config.topk_method == checkpoint::TopkMethod::kNoauxTc)
    m.correction_bias = format("{}{}", prefix, names.correction_bias);
  for (int32_t e = 0; e < config.num_experts; ++e) {
    const std::string p = format("{}experts.{}.", prefix, e);
    moe::ExpertModules x;
    MOESTRO_ASSIGN(x.gate, module(format("{}{}", p, names.gate), m.intermediate, m.hidden));
    MOESTRO_ASSIGN(x.up, module(format("{}{}", p, names.up), m.intermediate, m.hidden));
    MOESTRO_ASSIGN(x.down, module(format("{}{}", p, names.down), m.hidden, m.intermediate));
    if (x.gate.format != x.up.format || x.gate.format != x.down.format ||
        (e > 0 && x.gate.format != m.experts.front().gate.format))
      return unsupported(
          format("{}: the experts of one layer are stored in different schemes ({} and {})", p,
                 m.experts.empty() ? x.gate.method->name() : m.experts.front().gate.method->name(),
                 x.down.method->name()));
    m.experts.push_back(std::move(x));
  }
  m.gate_op.shape = {.format = m.gate.format,
                     .max_rows = request.limits.max_tokens,
                     .total_n = config.num_experts,
                     .k = m.hidden};
  m.expert_op.shape = {.format = m.experts.front().gate.format,
                       .max_tokens = request.limits.max_tokens,
                       .max_rows = request.limits.max_tokens * m.router.top_k,
                       .experts = config.num_experts,
                       .hidden = m.hidden,
                       .intermediate = m.intermediate};
  return m;
}

Result<DecoderLayerSpec> FamilyBuilder::layer_without_attention(int32_t layer,
                                                                const MoeNames& names) const {
  const std::string p = format("model.layers.{}.", layer);
  DecoderLayerSpec spec;
  spec.attention_norm = norm(p + "input_layernorm.weight");
  spec.mlp_norm = norm(p + "post_attention_layernorm.weight");
  if (!config.moe_layer[static_cast<size_t>(layer)]) {
    MOESTRO_ASSIGN(spec.dense, mlp(p + "mlp.", config.intermediate_size));
    return spec;
  }
  const std::string block = format("{}{}", p, names.block);
  MOESTRO_ASSIGN(spec.experts, experts(block, names));
  if (config.num_shared_experts == 0) return spec;
  layers::SharedExpertSpec shared;
  MOESTRO_ASSIGN(shared.mlp,
                 mlp(format("{}{}", block, names.shared), config.shared_expert_intermediate_size));
  if (!names.shared_gate.empty()) {
    MOESTRO_ASSIGN(quant::ModuleSpec gate,
                   float32_module(format("{}{}", block, names.shared_gate), 1, config.hidden_size));
    shared.gate = layers::LinearSpec::make({std::move(gate)}, request.limits.max_tokens);
  }
  spec.shared_expert = std::move(shared);
  return spec;
}

Result<std::unique_ptr<DecoderSpec>> FamilyBuilder::decoder(
    int32_t rotary_dim, const std::function<Result<DecoderLayerSpec>(int32_t)>& layer) const {
  if (config.num_experts > moe::kMaxExperts)
    return unsupported(
        format("{} experts; the router holds at most {}", config.num_experts, moe::kMaxExperts));
  auto spec = std::make_unique<DecoderSpec>();
  spec->limits_ = request.limits;
  spec->hidden = config.hidden_size;
  spec->vocab = config.vocab_size;
  spec->index_topk = config.index_topk;
  spec->embedding = "model.embed_tokens.weight";
  MOESTRO_ASSIGN(spec->rope,
                 layers::Rope::make(config.rope, rotary_dim, config.max_position_embeddings));
  for (int32_t l = 0; l < config.num_layers; ++l) {
    MOESTRO_ASSIGN(spec->layers.emplace_back(), layer(l));
  }
  spec->final_norm = norm("model.norm.weight");
  const bool tied = config.tie_word_embeddings && !request.source.has("lm_head.weight");
  MOESTRO_ASSIGN(quant::ModuleSpec head, module(tied ? "model.embed_tokens" : "lm_head",
                                                config.vocab_size, config.hidden_size));
  spec->head = layers::LinearSpec::make({std::move(head)}, request.limits.max_logits_rows);
  return spec;
}

}  // namespace moestro::models
