#include "models/mla_family.h"

#include <cmath>
#include <utility>

#include "base/format.h"
#include "models/decoder_spec.h"

namespace moestro::models {
namespace {

// q_a_layernorm, kv_a_layernorm and the indexer's k_norm keep this whatever rms_norm_eps says (as
// the reference implementation does).
constexpr float kLoraNormEps = 1e-6f;

struct Builder {
  const SpecRequest& request;
  const checkpoint::ModelConfig& config = request.config;

  Result<quant::ModuleSpec> module(std::string name, int32_t n, int32_t k) const {
    return quant::make_module(request.source, request.quant, std::move(name), n, k,
                              request.compute);
  }
  // Weights that are multiplied in float32 whatever the compute type: router gate and index weights
  // decide discrete choices.
  Result<quant::ModuleSpec> float32_module(std::string name, int32_t n, int32_t k) const {
    MOESTRO_ASSIGN(quant::ModuleSpec m, module(std::move(name), n, k));
    m.format = tensor::PackedFormat::kF32;
    return m;
  }
  tensor::PackedFormat compute_format() const {
    return request.compute == DType::kF32 ? tensor::PackedFormat::kF32
                                          : tensor::PackedFormat::kBf16;
  }

  Result<layers::MlaSpec> attention(int32_t layer) const;
  Result<layers::DsaSpec> indexer(const std::string& prefix) const;
  Result<layers::MlpSpec> mlp(const std::string& prefix, int32_t intermediate) const;
  Result<moe::MoeSpec> experts(const std::string& prefix) const;
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

Result<layers::MlpSpec> Builder::mlp(const std::string& prefix, int32_t intermediate) const {
  MOESTRO_ASSIGN(quant::ModuleSpec gate,
                 module(prefix + "gate_proj", intermediate, config.hidden_size));
  MOESTRO_ASSIGN(quant::ModuleSpec up,
                 module(prefix + "up_proj", intermediate, config.hidden_size));
  MOESTRO_ASSIGN(quant::ModuleSpec down,
                 module(prefix + "down_proj", config.hidden_size, intermediate));
  return layers::MlpSpec::make(std::move(gate), std::move(up), std::move(down),
                               request.limits.max_tokens);
}

Result<moe::MoeSpec> Builder::experts(const std::string& prefix) const {
  moe::MoeSpec m;
  m.router = moe::RouterSpec::from(config);
  m.hidden = config.hidden_size;
  m.intermediate = config.moe_intermediate_size;
  MOESTRO_ASSIGN(m.gate, float32_module(prefix + "gate", config.num_experts, config.hidden_size));
  if (config.topk_method == checkpoint::TopkMethod::kNoauxTc)
    m.correction_bias = prefix + "gate.e_score_correction_bias";
  for (int32_t e = 0; e < config.num_experts; ++e) {
    const std::string p = format("{}experts.{}.", prefix, e);
    moe::ExpertModules x;
    MOESTRO_ASSIGN(x.gate, module(p + "gate_proj", m.intermediate, m.hidden));
    MOESTRO_ASSIGN(x.up, module(p + "up_proj", m.intermediate, m.hidden));
    MOESTRO_ASSIGN(x.down, module(p + "down_proj", m.hidden, m.intermediate));
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

Result<DecoderLayerSpec> Builder::decoder_layer(int32_t layer) const {
  const std::string p = format("model.layers.{}.", layer);
  const auto index = static_cast<size_t>(layer);
  DecoderLayerSpec spec;
  spec.attention_norm = {.weight = p + "input_layernorm.weight",
                         .bias = {},
                         .width = config.hidden_size,
                         .eps = config.rms_norm_eps};
  spec.mlp_norm = {.weight = p + "post_attention_layernorm.weight",
                   .bias = {},
                   .width = config.hidden_size,
                   .eps = config.rms_norm_eps};
  MOESTRO_ASSIGN(spec.attention, attention(layer));
  if (config.moe_layer[index]) {
    MOESTRO_ASSIGN(spec.experts, experts(p + "mlp."));
    if (config.num_shared_experts > 0) {
      MOESTRO_ASSIGN(spec.shared_expert,
                     mlp(p + "mlp.shared_experts.", config.shared_expert_intermediate_size));
    }
  } else {
    MOESTRO_ASSIGN(spec.dense, mlp(p + "mlp.", config.intermediate_size));
  }
  spec.kv = {.key = config.kv_lora_rank + config.qk_rope_head_dim,
             .value = 0,
             .index = spec.attention.indexer ? config.index_head_dim : 0};
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
  if (c.num_experts > moe::kMaxExperts)
    return unsupported(
        format("{} experts; the router holds at most {}", c.num_experts, moe::kMaxExperts));
  const Builder builder{request};
  auto spec = std::make_unique<DecoderSpec>();
  spec->limits_ = request.limits;
  spec->hidden = c.hidden_size;
  spec->vocab = c.vocab_size;
  spec->index_topk = c.index_topk;
  spec->embedding = "model.embed_tokens.weight";
  MOESTRO_ASSIGN(spec->rope,
                 layers::Rope::make(c.rope, c.qk_rope_head_dim, c.max_position_embeddings));
  for (int32_t l = 0; l < c.num_layers; ++l) {
    MOESTRO_ASSIGN(DecoderLayerSpec layer, builder.decoder_layer(l));
    spec->layers.push_back(std::move(layer));
  }
  spec->final_norm = {
      .weight = "model.norm.weight", .bias = {}, .width = c.hidden_size, .eps = c.rms_norm_eps};
  const bool tied = c.tie_word_embeddings && !request.source.has("lm_head.weight");
  MOESTRO_ASSIGN(quant::ModuleSpec head, builder.module(tied ? "model.embed_tokens" : "lm_head",
                                                        c.vocab_size, c.hidden_size));
  spec->head = layers::LinearSpec::make({std::move(head)}, request.limits.max_logits_rows);
  return std::unique_ptr<ModelSpec>(std::move(spec));
}

}  // namespace moestro::models
