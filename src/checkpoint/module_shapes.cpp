#include "checkpoint/module_shapes.h"

#include "base/strings.h"

namespace moestro::checkpoint {
namespace {

struct LayerName {
  int64_t layer = 0;
  std::string_view rest;  // "mlp.experts.7.gate_proj"
};

std::optional<LayerName> split_layer(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto layer = parse_int(name.substr(0, dot));
  if (!layer || *layer < 0) return std::nullopt;
  return LayerName{*layer, name.substr(dot + 1)};
}

bool consume(std::string_view& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  return true;
}

bool is(const ModelConfig& c, std::string_view type) { return c.model_type == type; }
bool block_sparse(const ModelConfig& c) { return is(c, "mixtral") || is(c, "minimax_m2"); }
// MiniMax declares such layers without shipping them.
bool is_mtp(const ModelConfig& c, int64_t layer) {
  return layer >= c.num_layers && layer < c.num_layers + c.num_mtp_layers && !is(c, "minimax_m2");
}
bool exists(const ModelConfig& c, int64_t layer) {
  return layer < c.num_layers || is_mtp(c, layer);
}
bool is_moe(const ModelConfig& c, int64_t layer) {
  return c.num_experts > 0 && (layer >= c.num_layers || c.moe_layer[static_cast<size_t>(layer)]);
}
bool has_indexer(const ModelConfig& c, int64_t layer) {
  return c.uses_dsa() && (layer >= c.num_layers || c.indexer_full[static_cast<size_t>(layer)]);
}

std::optional<LinearShape> mla(const ModelConfig& c, int64_t layer, std::string_view name) {
  const int64_t heads = c.num_heads, h = c.hidden_size, q = c.q_lora_rank;
  const int64_t qk = int64_t{c.qk_nope_head_dim} + c.qk_rope_head_dim;
  const bool bias = c.attention_bias;
  if (name == "q_proj" && q == 0) return LinearShape{heads * qk, h};
  if (name == "q_a_proj" && q > 0) return LinearShape{q, h, bias};
  if (name == "q_b_proj" && q > 0) return LinearShape{heads * qk, q};
  if (name == "kv_a_proj_with_mqa")
    return LinearShape{int64_t{c.kv_lora_rank} + c.qk_rope_head_dim, h, bias};
  if (name == "kv_b_proj")
    return LinearShape{heads * (int64_t{c.qk_nope_head_dim} + c.v_head_dim), c.kv_lora_rank};
  if (name == "o_proj") return LinearShape{h, heads * c.v_head_dim, bias};
  if (!has_indexer(c, layer)) return std::nullopt;
  if (name == "indexer.wq_b") return LinearShape{int64_t{c.index_n_heads} * c.index_head_dim, q};
  if (name == "indexer.wk") return LinearShape{c.index_head_dim, h};
  if (name == "indexer.weights_proj") return LinearShape{c.index_n_heads, h};
  return std::nullopt;
}

std::optional<LinearShape> grouped_query(const ModelConfig& c, std::string_view name) {
  const int64_t h = c.hidden_size, q = int64_t{c.num_heads} * c.head_dim,
                kv = int64_t{c.num_kv_heads} * c.head_dim;
  if (name == "q_proj") return LinearShape{q, h, c.attention_bias};
  if (name == "k_proj" || name == "v_proj") return LinearShape{kv, h, c.attention_bias};
  if (name == "o_proj")
    return LinearShape{h, q,
                       c.attention_bias && (is(c, "llama") || is(c, "gpt_oss") || is(c, "qwen3") ||
                                            is(c, "qwen3_moe") || is(c, "olmoe"))};
  return std::nullopt;
}

std::optional<LinearShape> gate_up_down(std::string_view name, int64_t h, int64_t width,
                                        bool bias) {
  if (name == "gate_proj" || name == "up_proj") return LinearShape{width, h, bias};
  if (name == "down_proj") return LinearShape{h, width, bias};
  return std::nullopt;
}

std::optional<LinearShape> expert(const ModelConfig& c, std::string_view name) {
  const size_t dot = name.find('.');
  const auto index = parse_int(name.substr(0, dot));
  if (dot == std::string_view::npos || !index || *index < 0 || *index >= c.num_experts)
    return std::nullopt;
  name.remove_prefix(dot + 1);
  if (!block_sparse(c)) return gate_up_down(name, c.hidden_size, c.moe_intermediate_size, false);
  if (name == "w1" || name == "w3") return LinearShape{c.moe_intermediate_size, c.hidden_size};
  if (name == "w2") return LinearShape{c.hidden_size, c.moe_intermediate_size};
  return std::nullopt;
}

std::optional<LinearShape> feed_forward(const ModelConfig& c, int64_t layer,
                                        std::string_view name) {
  const int64_t h = c.hidden_size;
  if (!is_moe(c, layer))
    return consume(name, "mlp.") ? gate_up_down(name, h, c.intermediate_size, c.mlp_bias)
                                 : std::nullopt;
  if (!consume(name, block_sparse(c) ? "block_sparse_moe." : "mlp.")) return std::nullopt;
  if (is(c, "gpt_oss"))
    return name == "router" ? std::optional(LinearShape{c.num_experts, h, true}) : std::nullopt;
  if (name == "gate") return LinearShape{c.num_experts, h};
  if (consume(name, "experts.")) return expert(c, name);
  if (c.num_shared_experts == 0) return std::nullopt;
  if (!is(c, "qwen2_moe"))
    return consume(name, "shared_experts.")
               ? gate_up_down(name, h, c.shared_expert_intermediate_size, false)
               : std::nullopt;
  if (name == "shared_expert_gate") return LinearShape{1, h};
  return consume(name, "shared_expert.")
             ? gate_up_down(name, h, c.shared_expert_intermediate_size, false)
             : std::nullopt;
}

bool has_attention_parameter(const ModelConfig& c, int64_t layer, std::string_view name) {
  if (name == "q_a_layernorm.weight") return c.uses_mla() && c.q_lora_rank > 0;
  if (name == "kv_a_layernorm.weight") return c.uses_mla();
  if (name == "indexer.k_norm.weight" || name == "indexer.k_norm.bias")
    return has_indexer(c, layer);
  if (name == "q_norm.weight" || name == "k_norm.weight") return c.use_qk_norm;
  return name == "sinks" && c.attention_sinks;
}

// gpt_oss keeps all experts of a layer in one tensor.
bool has_fused_experts(const ModelConfig& c, std::string_view name) {
  return is(c, "gpt_oss") &&
         (name == "mlp.experts.gate_up_proj" || name == "mlp.experts.down_proj" ||
          name == "mlp.experts.gate_up_proj_bias" || name == "mlp.experts.down_proj_bias");
}

}  // namespace

std::optional<LinearShape> linear_shape(const ModelConfig& c, std::string_view module) {
  if (module == "lm_head" && !c.tie_word_embeddings)
    return LinearShape{c.vocab_size, c.hidden_size};
  const auto at = split_layer(module);
  if (!at || !exists(c, at->layer)) return std::nullopt;
  std::string_view name = at->rest;
  if (name == "eh_proj" && is_mtp(c, at->layer))
    return LinearShape{c.hidden_size, 2 * int64_t{c.hidden_size}};
  if (consume(name, "self_attn."))
    return c.uses_mla() ? mla(c, at->layer, name) : grouped_query(c, name);
  return feed_forward(c, at->layer, name);
}

bool has_plain_parameter(const ModelConfig& c, std::string_view tensor) {
  if (tensor == "model.embed_tokens.weight" || tensor == "model.norm.weight") return true;
  const auto at = split_layer(tensor);
  if (!at || !exists(c, at->layer)) return false;
  std::string_view name = at->rest;
  if (name == "input_layernorm.weight" || name == "post_attention_layernorm.weight") return true;
  if (name == "enorm.weight" || name == "hnorm.weight" || name == "shared_head.norm.weight")
    return is_mtp(c, at->layer);
  if (consume(name, "self_attn.")) return has_attention_parameter(c, at->layer, name);
  if (!is_moe(c, at->layer)) return false;
  if (name == (block_sparse(c) ? "block_sparse_moe.e_score_correction_bias"
                               : "mlp.gate.e_score_correction_bias"))
    return c.topk_method == TopkMethod::kNoauxTc;
  return has_fused_experts(c, name);
}

}  // namespace moestro::checkpoint
