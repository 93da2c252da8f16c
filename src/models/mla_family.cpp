#include "models/mla_family.h"

#include <cmath>
#include <utility>

#include "base/format.h"
#include "models/family_builder.h"

namespace moestro::models {
namespace {

// q_a_layernorm, kv_a_layernorm and the indexer's k_norm keep this whatever rms_norm_eps says (as
// the reference implementation does).
constexpr float kLoraNormEps = 1e-6f;

struct Builder : FamilyBuilder {
  Result<layers::MlaSpec> attention(int32_t layer) const;
  Result<layers::DsaSpec> indexer(const std::string& prefix) const;
  Result<DecoderLayerSpec> decoder_layer(int32_t layer) const;
};

Result<layers::DsaSpec> Builder::indexer(const std::string& prefix) const {
  layers::DsaSpec d{.heads = config.index_n_heads,
                    .dim = config.index_head_dim,
                    .topk = config.index_topk,
                    .rope = config.qk_rope_head_dim,
                    .rope_interleaved = config.indexer_rope_interleave,
                    .key_norm = {},
                    .op = {}};
  d.key_norm = {.weight = prefix + "k_norm.weight",
                .bias = prefix + "k_norm.bias",
                .width = d.dim,
                .eps = kLoraNormEps};
  d.op.shape = {.kv_dtype = request.kv_dtype,
                .max_tokens = request.limits.max_tokens,
                .heads = d.heads,
                .dim = d.dim,
                .topk = d.topk,
                .max_context = request.limits.max_context};
  return d;
}

Result<layers::MlaSpec> Builder::attention(int32_t layer) const {
  const std::string p = format("model.layers.{}.self_attn.", layer);
  const checkpoint::ModelConfig& c = config;
  const int32_t max_tokens = request.limits.max_tokens;
  layers::MlaSpec a;
  a.hidden = c.hidden_size;
  a.heads = c.num_heads;
  a.q_lora = c.q_lora_rank;
  a.latent = c.kv_lora_rank;
  a.nope = c.qk_nope_head_dim;
  a.rope = c.qk_rope_head_dim;
  a.v_dim = c.v_head_dim;
  a.rope_interleaved = c.rope_interleave;
  a.compute = request.compute;
  a.sparse = c.uses_dsa();
  a.scale = 1.0f / std::sqrt(static_cast<float>(a.nope + a.rope));
  if (c.rope.type == checkpoint::RopeType::kYarn && c.rope.mscale_all_dim != 0) {
    const double m = layers::yarn_mscale(c.rope.factor, c.rope.mscale_all_dim);
    a.scale *= static_cast<float>(m * m);
  }
  const bool full_indexer = c.uses_dsa() && c.indexer_full[static_cast<size_t>(layer)];
  if (c.uses_dsa() && a.q_lora == 0)
    return unsupported(
        "sparse attention (index_topk) without q_lora_rank: the indexer needs the low-rank query");
  if (c.attention_bias)
    return unsupported(
        "attention_bias true: no released MLA checkpoint has biases, and they are not read");

  std::vector<quant::ModuleSpec> input, query;
  if (a.q_lora > 0) {
    MOESTRO_ASSIGN(input.emplace_back(), module(p + "q_a_proj", a.q_lora, a.hidden));
    MOESTRO_ASSIGN(query.emplace_back(),
                   module(p + "q_b_proj", a.heads * (a.nope + a.rope), a.q_lora));
    a.q_a_norm = {
        .weight = p + "q_a_layernorm.weight", .bias = {}, .width = a.q_lora, .eps = kLoraNormEps};
  } else {
    MOESTRO_ASSIGN(input.emplace_back(),
                   module(p + "q_proj", a.heads * (a.nope + a.rope), a.hidden));
  }
  MOESTRO_ASSIGN(input.emplace_back(),
                 module(p + "kv_a_proj_with_mqa", a.latent + a.rope, a.hidden));
  a.kv_a_norm = {
      .weight = p + "kv_a_layernorm.weight", .bias = {}, .width = a.latent, .eps = kLoraNormEps};
  if (full_indexer) {
    MOESTRO_ASSIGN(a.indexer, indexer(p + "indexer."));
    MOESTRO_ASSIGN(input.emplace_back(), module(p + "indexer.wk", c.index_head_dim, a.hidden));
    MOESTRO_ASSIGN(input.emplace_back(),
                   float32_module(p + "indexer.weights_proj", c.index_n_heads, a.hidden));
    MOESTRO_ASSIGN(query.emplace_back(),
                   module(p + "indexer.wq_b", c.index_n_heads * c.index_head_dim, a.q_lora));
  }
  a.input = layers::group_by_format(std::move(input), max_tokens);
  if (!query.empty()) a.query = layers::group_by_format(std::move(query), max_tokens);

  MOESTRO_ASSIGN(a.kv_b, module(p + "kv_b_proj", a.heads * (a.nope + a.v_dim), a.latent));
  quant::force_floats(a.kv_b, compute_format(), "kv_b_proj is absorbed into queries and outputs");
  a.absorb_key.shape = {.format = compute_format(),
                        .max_rows = max_tokens,
                        .heads = a.heads,
                        .n = a.latent,
                        .k = a.nope};
  a.absorb_value.shape = {.format = compute_format(),
                          .max_rows = max_tokens,
                          .heads = a.heads,
                          .n = a.v_dim,
                          .k = a.latent};
  a.attention.shape = {.kv_dtype = request.kv_dtype,
                       .max_tokens = max_tokens,
                       .heads = a.heads,
                       .latent = a.latent,
                       .rope = a.rope,
                       .max_context = request.limits.max_context};
  MOESTRO_ASSIGN(quant::ModuleSpec output, module(p + "o_proj", a.hidden, a.heads * a.v_dim));
  a.output = layers::LinearSpec::make({std::move(output)}, max_tokens);
  return a;
}

Result<DecoderLayerSpec> Builder::decoder_layer(int32_t layer) const {
  MOESTRO_ASSIGN(DecoderLayerSpec spec, layer_without_attention(layer, MoeNames{}));
  MOESTRO_ASSIGN(layers::MlaSpec mla, attention(layer));
  spec.kv = {.key = config.kv_lora_rank + config.qk_rope_head_dim,
             .value = 0,
             .index = mla.indexer ? config.index_head_dim : 0};
  spec.attention = std::move(mla);
  return spec;
}

}  // namespace

Result<std::unique_ptr<ModelSpec>> make_mla_family(const SpecRequest& request) {
  const checkpoint::ModelConfig& c = request.config;
  if (!c.uses_mla())
    return invalid_argument(
        format("config.json: kv_lora_rank is missing, but model_type \"{}\" is built on multi-head "
               "latent attention",
               c.model_type));
  const Builder builder{{request}};
  MOESTRO_ASSIGN(auto spec, builder.decoder(c.qk_rope_head_dim, [&](int32_t layer) {
    return builder.decoder_layer(layer);
  }));
  return std::unique_ptr<ModelSpec>(std::move(spec));
}

}  // namespace moestro::models
