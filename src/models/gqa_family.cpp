#include "models/gqa_family.h"

#include <cmath>
#include <utility>

#include "base/format.h"

namespace moestro::models {
namespace {

struct Builder : FamilyBuilder {
  const GqaFamily& family;

  Result<layers::GqaSpec> attention(int32_t layer) const;
  Result<DecoderLayerSpec> decoder_layer(int32_t layer) const;
};

Result<layers::GqaSpec> Builder::attention(int32_t layer) const {
  const std::string p = format("model.layers.{}.self_attn.", layer);
  const int32_t max_tokens = request.limits.max_tokens;
  layers::GqaSpec a;
  a.hidden = config.hidden_size;
  a.heads = config.num_heads;
  a.kv_heads = config.num_kv_heads;
  a.head_dim = config.head_dim;
  a.rope = config.rotary_dim;
  a.scale = 1.0f / std::sqrt(static_cast<float>(a.head_dim));
  a.clip = static_cast<float>(config.clip_qkv);
  if (config.attention_kinds[static_cast<size_t>(layer)] == checkpoint::AttentionKind::kSliding)
    a.window = config.sliding_window;
  if (config.attention_sinks) a.sinks = p + "sinks";

  std::vector<quant::ModuleSpec> input;
  const bool biased = config.attention_bias;
  MOESTRO_ASSIGN(input.emplace_back(), module(p + "q_proj", a.q_width(), a.hidden, biased));
  MOESTRO_ASSIGN(input.emplace_back(), module(p + "k_proj", a.kv_width(), a.hidden, biased));
  MOESTRO_ASSIGN(input.emplace_back(), module(p + "v_proj", a.kv_width(), a.hidden, biased));
  a.input = layers::group_by_format(std::move(input), max_tokens);
  if (config.use_qk_norm) {
    const auto norm_of = [&](const char* name, int32_t width) {
      return layers::NormSpec{.weight = p + name,
                              .bias = {},
                              .width = family.norms_span_heads ? width : a.head_dim,
                              .eps = config.rms_norm_eps};
    };
    a.q_norm = norm_of("q_norm.weight", a.q_width());
    a.k_norm = norm_of("k_norm.weight", a.kv_width());
  }
  a.attention.shape = {.kv_dtype = request.kv_dtype,
                       .max_tokens = max_tokens,
                       .heads = a.heads,
                       .kv_heads = a.kv_heads,
                       .head_dim = a.head_dim,
                       .v_head_dim = a.head_dim,
                       .max_context = request.limits.max_context};
  MOESTRO_ASSIGN(quant::ModuleSpec output,
                 module(p + "o_proj", a.hidden, a.q_width(), biased && family.output_bias));
  a.output = layers::LinearSpec::make({std::move(output)}, max_tokens);
  return a;
}

Result<DecoderLayerSpec> Builder::decoder_layer(int32_t layer) const {
  MOESTRO_ASSIGN(DecoderLayerSpec spec, layer_without_attention(layer, family.moe));
  MOESTRO_ASSIGN(layers::GqaSpec gqa, attention(layer));
  spec.kv = {.key = gqa.kv_width(), .value = gqa.kv_width(), .index = 0};
  spec.attention = std::move(gqa);
  return spec;
}

}  // namespace

Result<std::unique_ptr<ModelSpec>> make_gqa_family(const SpecRequest& request,
                                                   const GqaFamily& family) {
  const Builder builder{{request}, family};
  MOESTRO_ASSIGN(auto spec, builder.decoder(request.config.rotary_dim, [&](int32_t layer) {
    return builder.decoder_layer(layer);
  }));
  return std::unique_ptr<ModelSpec>(std::move(spec));
}

}  // namespace moestro::models
