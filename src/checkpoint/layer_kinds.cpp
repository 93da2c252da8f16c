#include "checkpoint/layer_kinds.h"

#include <algorithm>
#include <optional>

#include "base/format.h"

namespace moestro::checkpoint {
namespace {

// The list under key with one entry a layer; null if absent or wrong (then r has the error).
const json::array* layer_list(KeyReader& r, std::string_view key, int32_t num_layers) {
  const json::value* v = r.find(key);
  if (!v) return nullptr;
  if (!v->is_array()) {
    r.fail(invalid_argument(format("{} must be an array, not {}", key, json::kind_name(*v))));
    return nullptr;
  }
  if (v->get_array().size() != static_cast<size_t>(num_layers)) {
    r.fail(invalid_argument(
        format("{} has {} entries for {} layers", key, v->get_array().size(), num_layers)));
    return nullptr;
  }
  return &v->get_array();
}

bool is_text(const json::value& v, std::string_view text) {
  return v.is_string() && json::view(v.get_string()) == text;
}

void bad_entry(KeyReader& r, std::string_view key, size_t layer, const json::value& v,
               std::string_view allowed) {
  r.fail(unsupported(format("{}[{}] is {}; supported are {}", key, layer, shown(v), allowed)));
}

void moe_by_prefix(KeyReader& r, ModelConfig& c) {
  if (const json::array* list = layer_list(r, "mlp_layer_types", c.num_layers)) {
    for (size_t l = 0; l < list->size(); ++l) {
      const bool sparse = is_text((*list)[l], "sparse");
      if (!sparse && !is_text((*list)[l], "dense"))
        return bad_entry(r, "mlp_layer_types", l, (*list)[l], "dense, sparse");
      c.moe_layer[l] = sparse;
    }
    return;
  }
  // Published configs give the key or the list; only glm4_moe_lite is known to leave both to its
  // default.
  const int64_t dense =
      r.integer("first_k_dense_replace", c.model_type == "glm4_moe_lite" ? 1 : 0, 0, kMaxLayers);
  const int64_t every = r.integer("moe_layer_freq", 1, 1, kMaxLayers);
  for (int32_t l = 0; l < c.num_layers; ++l)
    c.moe_layer[static_cast<size_t>(l)] = l >= dense && l % every == 0;
}

void moe_by_step(KeyReader& r, ModelConfig& c) {
  const int64_t step = r.integer("decoder_sparse_step", 1, 1, kMaxLayers);
  for (int32_t l = 0; l < c.num_layers; ++l)
    c.moe_layer[static_cast<size_t>(l)] = (l + 1) % step == 0;
  const json::value* dense = r.find("mlp_only_layers");
  if (!dense) return;
  if (!dense->is_array())
    return r.fail(invalid_argument(
        format("mlp_only_layers must be an array, not {}", json::kind_name(*dense))));
  for (const json::value& item : dense->get_array()) {
    if (!item.is_int64())
      return r.fail(
          invalid_argument(format("mlp_only_layers holds {}, which is not a layer", shown(item))));
    const int64_t l = item.get_int64();
    if (l >= 0 && l < c.num_layers) c.moe_layer[static_cast<size_t>(l)] = false;
  }
}

void read_moe_layers(KeyReader& r, const ModelFamily& family, ModelConfig& c) {
  c.moe_layer.assign(static_cast<size_t>(c.num_layers), family.mixture == Mixture::kAll);
  if (c.num_experts > 0 && family.mixture == Mixture::kPrefix) moe_by_prefix(r, c);
  if (c.num_experts > 0 && family.mixture == Mixture::kStep) moe_by_step(r, c);
  const bool any_dense =
      std::find(c.moe_layer.begin(), c.moe_layer.end(), false) != c.moe_layer.end();
  if (any_dense && c.intermediate_size == 0)
    r.fail(invalid_argument("intermediate_size is missing, and some layers are dense"));
}

// Layers that look at a window when config.json does not list the kinds.
bool slides_by_default(KeyReader& r, const ModelFamily& family, int32_t layer) {
  if (family.model_type == "gpt_oss") return layer % 2 == 0;
  if (family.model_type == "mixtral") return true;
  if (!r.boolean("use_sliding_window", false)) return false;
  if (family.model_type == "qwen3_moe") return true;
  // Other Qwen: layers from max_window_layers on.
  return layer >= r.integer("max_window_layers", 28, 0, kMaxLayers);
}

void read_attention_kinds(KeyReader& r, const ModelFamily& family, ModelConfig& c) {
  c.attention_kinds.assign(static_cast<size_t>(c.num_layers), AttentionKind::kFull);
  if (const json::array* list = layer_list(r, "attn_type_list", c.num_layers))
    for (size_t l = 0; l < list->size(); ++l)
      if (!(*list)[l].is_int64() || (*list)[l].get_int64() != 1)
        return bad_entry(r, "attn_type_list", l, (*list)[l], "1 (full attention)");
  const auto window = static_cast<int32_t>(
      r.integer("sliding_window", family.model_type == "gpt_oss" ? 128 : 0, 0, int64_t{1} << 30));
  const json::array* list = layer_list(r, "layer_types", c.num_layers);
  bool any = false;
  for (size_t l = 0; l < c.attention_kinds.size() && r.status().ok(); ++l) {
    bool sliding =
        !family.mla && window > 0 && !list && slides_by_default(r, family, static_cast<int32_t>(l));
    if (list) {
      const json::value& kind = (*list)[l];
      sliding = is_text(kind, "sliding_attention");
      if (!sliding && !is_text(kind, "full_attention") &&
          !(family.dsa && is_text(kind, "deepseek_sparse_attention")))
        return bad_entry(r, "layer_types", l, kind, "full_attention, sliding_attention");
      if (sliding && (family.mla || window == 0))
        return r.fail(invalid_argument(
            format("layer_types[{}] is sliding_attention, but there is no sliding_window", l)));
    }
    if (sliding) c.attention_kinds[l] = AttentionKind::kSliding;
    any |= sliding;
  }
  c.sliding_window = any ? window : 0;
}

// "full"/"F" or "shared"/"S".
std::optional<bool> is_full(const json::value& v) {
  if (is_text(v, "full") || is_text(v, "F")) return true;
  if (is_text(v, "shared") || is_text(v, "S")) return false;
  return std::nullopt;
}

void indexer_from_list(KeyReader& r, std::string_view key, const json::array& list,
                       ModelConfig& c) {
  for (size_t l = 0; l < list.size(); ++l) {
    const auto full = is_full(list[l]);
    if (!full) return bad_entry(r, key, l, list[l], "full, shared");
    c.indexer_full[l] = *full;
  }
}

void indexer_from_pattern(KeyReader& r, std::string_view pattern, ModelConfig& c) {
  if (pattern.size() != c.indexer_full.size())
    return r.fail(invalid_argument(
        format("index_topk_pattern has {} letters for {} layers", pattern.size(), c.num_layers)));
  for (size_t l = 0; l < pattern.size(); ++l) {
    if (pattern[l] != 'F' && pattern[l] != 'S')
      return r.fail(
          invalid_argument(format("index_topk_pattern has {} at layer {}; allowed are F and S",
                                  json::quote(pattern.substr(l, 1), true), l)));
    c.indexer_full[l] = pattern[l] == 'F';
  }
}

void indexer_from_frequency(KeyReader& r, ModelConfig& c) {
  const int64_t offset = r.integer("index_skip_topk_offset", 2, 0, kMaxLayers);
  const int64_t every = std::max<int64_t>(r.integer("index_topk_freq", 1, 0, kMaxLayers), 1);
  for (int64_t l = 0; l < c.num_layers; ++l)
    c.indexer_full[static_cast<size_t>(l)] = std::max<int64_t>(l - offset + 1, 0) % every == 0;
}

void read_indexer_kinds(KeyReader& r, const ModelFamily& family, ModelConfig& c) {
  if (!family.dsa) return;
  c.indexer_full.assign(static_cast<size_t>(c.num_layers), true);
  const json::value* pattern = r.find("index_topk_pattern");
  if (r.has("indexer_types")) {
    if (const json::array* list = layer_list(r, "indexer_types", c.num_layers))
      indexer_from_list(r, "indexer_types", *list, c);
  } else if (pattern && pattern->is_string()) {
    indexer_from_pattern(r, json::view(pattern->get_string()), c);
  } else if (pattern) {
    if (const json::array* list = layer_list(r, "index_topk_pattern", c.num_layers))
      indexer_from_list(r, "index_topk_pattern", *list, c);
  } else {
    indexer_from_frequency(r, c);
  }
  if (!c.indexer_full[0] && r.status().ok())
    r.fail(invalid_argument(
        "the first layer shares an indexer, but there is none before it: its kind must be full"));
}

}  // namespace

void read_layer_kinds(KeyReader& r, const ModelFamily& family, ModelConfig& c) {
  read_moe_layers(r, family, c);
  read_attention_kinds(r, family, c);
  read_indexer_kinds(r, family, c);
}

}  // namespace moestro::checkpoint
