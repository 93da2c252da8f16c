#include "checkpoint/model_config.h"

#include <algorithm>
#include <utility>

#include "base/format.h"
#include "base/log.h"
#include "checkpoint/key_reader.h"
#include "checkpoint/layer_kinds.h"
#include "checkpoint/model_family.h"
#include "checkpoint/rope_reader.h"

namespace moestro::checkpoint {
namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr int32_t kMaxExperts = 65536;

const ModelFamily* resolve_family(KeyReader& top, KeyReader& text, ModelConfig& c) {
  if (const json::value* list = top.find("architectures")) {
    const json::array* items = list->if_array();
    if (!items || (!items->empty() && !items->front().is_string())) {
      top.fail(invalid_argument(
          format("architectures must be an array of strings, not {}", shown(*list))));
      return nullptr;
    }
    if (!items->empty()) c.architecture = json::view(items->front().get_string());
  }
  const std::string type = text.text("model_type", "");
  const ModelFamily* family = find_family(type, c.architecture);
  if (!family) {
    top.fail(unsupported(
        format("model_type {} (architecture {}) is not supported; supported are {}",
               json::quote(type, true), json::quote(c.architecture, true), known_model_types())));
    return nullptr;
  }
  if (type != family->model_type)
    log_info("model_type \"{}\" is not known; read as {} because of architecture {}", type,
             family->model_type, family->architecture);
  c.model_type = family->model_type;
  return family;
}

void read_dtype(KeyReader& r, ModelConfig& c) {
  const std::string_view key = r.first_of({"dtype", "torch_dtype"});
  std::string name = r.text(key, "bfloat16");
  if (name.starts_with("torch.")) name.erase(0, 6);
  const auto dtype = from_torch(name);
  if (dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32)
    c.dtype = *dtype;
  else
    r.fail(unsupported(format("{} is {}; supported are bfloat16, float16, float32", key,
                              json::quote(name, true))));
}

void read_sizes(KeyReader& r, ModelConfig& c, const ModelFamily& family) {
  c.vocab_size = r.size("vocab_size");
  c.hidden_size = r.size("hidden_size");
  c.num_layers = static_cast<int32_t>(r.integer("num_hidden_layers", 0, 1, kMaxLayers));
  if (!r.has("num_hidden_layers")) r.fail(invalid_argument("num_hidden_layers is missing"));
  c.num_heads = r.size("num_attention_heads");
  c.num_kv_heads = r.size("num_key_value_heads", c.num_heads);
  c.max_position_embeddings = r.size("max_position_embeddings");
  c.rms_norm_eps = static_cast<float>(r.number("rms_norm_eps", family.rms_norm_eps, 0, 1));
  c.tie_word_embeddings = r.boolean("tie_word_embeddings", false);
  c.hidden_act = r.text("hidden_act", "silu");
  if (c.hidden_act != "silu")
    r.fail(unsupported(format("hidden_act {} is not supported; supported is silu",
                              json::quote(c.hidden_act, true))));
  // Qwen's sparse models carry a dense width that no layer may use; some leave it out.
  c.intermediate_size = family.mixture == Mixture::kStep ? r.size("intermediate_size", 0, 0)
                                                         : r.size("intermediate_size");
}

void read_grouped_query(KeyReader& r, ModelConfig& c, const ModelFamily& family) {
  if (c.num_heads % c.num_kv_heads)
    return r.fail(invalid_argument(
        format("num_attention_heads {} must be a multiple of num_key_value_heads {}", c.num_heads,
               c.num_kv_heads)));
  if (!r.has("head_dim") && c.hidden_size % c.num_heads)
    return r.fail(invalid_argument(format(
        "hidden_size {} is not a multiple of num_attention_heads {} and there is no head_dim",
        c.hidden_size, c.num_heads)));
  c.head_dim = r.size("head_dim", c.hidden_size / c.num_heads);
  c.attention_bias = family.model_type == "qwen2_moe"
                         ? r.boolean("qkv_bias", true)
                         : r.boolean("attention_bias", family.attention_bias);
  switch (family.qk_norm) {
    case QkNorm::kNever:
      break;
    case QkNorm::kAlways:
      c.use_qk_norm = true;
      break;
    case QkNorm::kKeyOrNever:
      c.use_qk_norm = r.boolean("use_qk_norm", false);
      break;
    case QkNorm::kKeyOrAlways:
      c.use_qk_norm = r.boolean("use_qk_norm", true);
      break;
  }
  if (family.model_type == "olmoe") c.clip_qkv = r.number("clip_qkv", 0, 0, 1e30);
  if (family.model_type == "gpt_oss") {
    c.attention_sinks = true;
    c.swiglu_limit = r.number("swiglu_limit", 7, 1e-6, 1e30);
  }
}

void read_mla(KeyReader& r, ModelConfig& c, const ModelFamily& family) {
  c.attention_bias = r.boolean("attention_bias", false);
  c.q_lora_rank = r.size("q_lora_rank", 0, 0);
  c.kv_lora_rank = r.size("kv_lora_rank");
  c.qk_nope_head_dim = r.size("qk_nope_head_dim");
  c.qk_rope_head_dim = r.size("qk_rope_head_dim");
  c.v_head_dim = r.size("v_head_dim");
  c.rope_interleave = r.boolean("rope_interleave", true);
  if (!family.dsa) return;
  if (c.q_lora_rank == 0)
    return r.fail(invalid_argument("q_lora_rank is missing; sparse attention needs it"));
  c.index_n_heads = r.size("index_n_heads");
  c.index_head_dim = r.size("index_head_dim");
  c.index_topk = r.size("index_topk");
  c.indexer_rope_interleave =
      r.boolean("indexer_rope_interleave", family.model_type == "glm_moe_dsa");
  c.index_share_for_mtp_iteration = r.boolean("index_share_for_mtp_iteration", false);
  if (c.index_head_dim < c.qk_rope_head_dim)
    r.fail(invalid_argument(format("index_head_dim {} must be at least qk_rope_head_dim {}",
                                   c.index_head_dim, c.qk_rope_head_dim)));
}

void read_scoring(KeyReader& r, ModelConfig& c, const ModelFamily& family) {
  c.scoring = family.scoring;
  c.topk_method = family.topk;
  if (family.model_type == "minimax_m2" && !r.boolean("use_routing_bias", true))
    c.topk_method = TopkMethod::kGreedy;
  if (const json::value* v = r.find("scoring_func")) {
    const bool sigmoid = v->is_string() && v->get_string() == "sigmoid";
    if (!sigmoid && !(v->is_string() && v->get_string() == "softmax"))
      return r.fail(unsupported(
          format("scoring_func {} is not supported; supported are softmax, sigmoid", shown(*v))));
    const ScoringFunc given = sigmoid ? ScoringFunc::kSigmoid : ScoringFunc::kSoftmax;
    if (!family.scoring_keys && given != family.scoring)
      return r.fail(unsupported(
          format("scoring_func {} is not what {} models use", shown(*v), family.model_type)));
    c.scoring = given;
  }
  if (!family.scoring_keys) return;
  const std::string method = r.text("topk_method", "");
  if (method == "greedy")
    c.topk_method = TopkMethod::kGreedy;
  else if (method == "group_limited_greedy")
    c.topk_method = TopkMethod::kGroupLimitedGreedy;
  else if (method == "noaux_tc")
    c.topk_method = TopkMethod::kNoauxTc;
  else if (!method.empty())
    r.fail(unsupported(format(
        "topk_method {} is not supported; supported are greedy, group_limited_greedy, noaux_tc",
        json::quote(method, true))));
}

void check_groups(KeyReader& r, const ModelConfig& c) {
  if (c.num_experts_per_tok > c.num_experts)
    return r.fail(invalid_argument(format("num_experts_per_tok {} is more than the {} experts",
                                          c.num_experts_per_tok, c.num_experts)));
  if (c.num_experts % c.n_group)
    return r.fail(invalid_argument(format(
        "the number of experts, {}, must be a multiple of n_group {}", c.num_experts, c.n_group)));
  if (c.topk_group > c.n_group)
    return r.fail(
        invalid_argument(format("topk_group {} is more than n_group {}", c.topk_group, c.n_group)));
  const int64_t reachable = int64_t{c.topk_group} * (c.num_experts / c.n_group);
  if (c.num_experts_per_tok > reachable)
    r.fail(invalid_argument(
        format("num_experts_per_tok {} is more than the {} experts of topk_group {} groups",
               c.num_experts_per_tok, reachable, c.topk_group)));
}

void read_experts(KeyReader& r, ModelConfig& c, const ModelFamily& family) {
  if (family.mixture == Mixture::kNone) return;
  const std::string_view key = r.first_of({"n_routed_experts", "num_experts", "num_local_experts"});
  if (!r.has(key)) {
    if (family.mixture != Mixture::kStep)
      r.fail(invalid_argument(format(
          "the number of experts is missing: n_routed_experts, num_experts or num_local_experts")));
    return;  // qwen: a model with dense layers only
  }
  c.num_experts = static_cast<int32_t>(
      r.integer(key, 0, family.mixture == Mixture::kStep ? 0 : 1, kMaxExperts));
  if (c.num_experts == 0) return;
  c.num_experts_per_tok = r.size(r.first_of({"num_experts_per_tok", "experts_per_token"}));
  c.moe_intermediate_size =
      family.experts_use_intermediate_size ? c.intermediate_size : r.size("moe_intermediate_size");
  if (family.shared_experts) {
    c.num_shared_experts = static_cast<int32_t>(r.integer("n_shared_experts", 0, 0, kMaxExperts));
    const int64_t width = int64_t{c.num_shared_experts} * c.moe_intermediate_size;
    if (width > std::numeric_limits<int32_t>::max())
      return r.fail(
          invalid_argument(format("n_shared_experts {} times moe_intermediate_size {} is too large",
                                  c.num_shared_experts, c.moe_intermediate_size)));
    c.shared_expert_intermediate_size = static_cast<int32_t>(width);
    c.n_group = r.size("n_group", 1);
    c.topk_group = r.size("topk_group", 1);
  } else if (family.model_type == "qwen2_moe") {
    c.shared_expert_intermediate_size = r.size("shared_expert_intermediate_size", 0, 0);
    c.num_shared_experts = c.shared_expert_intermediate_size > 0 ? 1 : 0;
  }
  read_scoring(r, c, family);
  c.norm_topk_prob =
      family.norm_key ? r.boolean("norm_topk_prob", family.norm_topk_prob) : family.norm_topk_prob;
  if (family.routed_scaling_factor != 0)
    c.routed_scaling_factor =
        r.number("routed_scaling_factor", family.routed_scaling_factor, 1e-9, 1e9);
  c.router_weight_on_input = r.boolean("apply_router_weight_on_input", false);
  if (c.router_weight_on_input && c.num_experts_per_tok != 1)
    r.fail(unsupported(
        format("apply_router_weight_on_input is true with num_experts_per_tok {}; it is supported "
               "with 1",
               c.num_experts_per_tok)));
  check_groups(r, c);
}

void read_rotary(KeyReader& r, ModelConfig& c, const ModelFamily& family,
                 const json::object& object) {
  auto rope = read_rope(object, family, c.head_dim, c.max_position_embeddings);
  if (!rope.ok()) return r.fail(rope.status());
  c.rope = *rope;
  c.rotary_dim = family.mla ? c.qk_rope_head_dim
                            : static_cast<int32_t>(c.head_dim * c.rope.partial_rotary_factor);
  if (c.rotary_dim <= 0 || c.rotary_dim % 2 || (!family.mla && c.rotary_dim > c.head_dim))
    r.fail(invalid_argument(
        format("{} of a head's values rotate; this must be an even number, at most the head's size",
               c.rotary_dim)));
}

// An id or a list of ids.
void add_token_ids(KeyReader& r, std::string_view key, std::vector<int32_t>& ids) {
  const json::value* v = r.find(key);
  if (!v) return;
  const auto add = [&](const json::value& item) {
    if (!item.is_int64() || item.get_int64() < 0 ||
        item.get_int64() > std::numeric_limits<int32_t>::max())
      return r.fail(invalid_argument(
          format("{} holds {}; token ids are integers from 0 to 2^31-1", key, shown(item))));
    const auto id = static_cast<int32_t>(item.get_int64());
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  if (!v->is_array()) return add(*v);
  if (v->get_array().size() > 1024)
    return r.fail(invalid_argument(
        format("{} has {} entries, at most 1024 are read", key, v->get_array().size())));
  for (const json::value& item : v->get_array()) add(item);
}

int32_t token_id(KeyReader& r, std::string_view key, int32_t fallback) {
  std::vector<int32_t> ids;
  add_token_ids(r, key, ids);
  return ids.empty() ? fallback : ids.front();
}

// The language model's own object; keys that it lacks come from the outer one.
json::object text_config(const json::object& config) {
  const json::value* inner = json::find(config, "text_config");
  if (!inner || !inner->is_object()) return config;
  json::object text = inner->get_object();
  for (const auto& [key, value] : config)
    if (!json::find(text, {key.data(), key.size()})) text[key] = value;
  return text;
}

Status read_fields(const json::object& config, const json::object& object, ModelConfig& c) {
  KeyReader top(config), r(object);
  const ModelFamily* family = resolve_family(top, r, c);
  MOESTRO_TRY(top.status());
  read_dtype(r, c);
  read_sizes(r, c, *family);
  MOESTRO_TRY(r.status());
  if (family->mla)
    read_mla(r, c, *family);
  else
    read_grouped_query(r, c, *family);
  c.mlp_bias = r.boolean("mlp_bias", false);
  MOESTRO_TRY(r.status());
  read_experts(r, c, *family);
  MOESTRO_TRY(r.status());
  read_layer_kinds(r, *family, c);
  read_rotary(r, c, *family, object);
  c.num_mtp_layers = static_cast<int32_t>(
      r.integer(r.first_of({"num_nextn_predict_layers", "num_mtp_modules"}), 0, 0, 64));
  add_token_ids(r, "eos_token_id", c.eos_token_ids);
  c.bos_token_id = token_id(r, "bos_token_id", -1);
  c.pad_token_id = token_id(r, "pad_token_id", -1);
  return r.status();
}

Result<json::object> parse_object(const ModelFiles& files, std::string_view name) {
  MOESTRO_ASSIGN(const auto bytes, files.open(name));
  const std::string label = format("{}/{}", files.location(), name);
  MOESTRO_ASSIGN(json::value parsed,
                 json::parse(bytes->text(), {.max_bytes = kMaxConfigBytes}).with(label));
  if (!parsed.is_object())
    return invalid_argument(
        format("{} must hold an object, not {}", label, json::kind_name(parsed)));
  return std::move(parsed.get_object());
}

void merge(json::object& into, const json::object& from) {
  for (const auto& [key, value] : from) {
    json::value& old = into[key];
    if (old.is_object() && value.is_object())
      merge(old.get_object(), value.get_object());
    else
      old = value;
  }
}

// A model cut short by --hf-overrides '{"num_hidden_layers": 4}' keeps the beginning of its
// per-layer lists.
void cut_layer_lists(json::object& config, const json::object& overrides) {
  const json::value* layers = json::find(overrides, "num_hidden_layers");
  if (!layers || !layers->is_int64() || layers->get_int64() < 0) return;
  const auto count = static_cast<uint64_t>(layers->get_int64());
  for (const std::string_view key : kLayerListKeys) {
    if (json::find(overrides, key)) continue;
    json::value* list = config.if_contains({key.data(), key.size()});
    if (list && list->is_array() && list->get_array().size() > count)
      list->get_array().resize(count);
  }
}

}  // namespace

Result<ModelConfig> parse_model_config(json::object config, const json::object* generation_config) {
  ModelConfig c;
  MOESTRO_TRY(read_fields(config, text_config(config), c).with("config.json"));
  if (generation_config) {
    KeyReader r(*generation_config);
    add_token_ids(r, "eos_token_id", c.eos_token_ids);
    if (c.bos_token_id < 0) c.bos_token_id = token_id(r, "bos_token_id", -1);
    if (c.pad_token_id < 0) c.pad_token_id = token_id(r, "pad_token_id", -1);
    MOESTRO_TRY(r.status().with("generation_config.json"));
    c.generation = *generation_config;
  }
  c.raw = std::move(config);
  return c;
}

Result<ModelConfig> read_model_config(const ModelFiles& files, const json::object& overrides) {
  MOESTRO_ASSIGN(json::object config, parse_object(files, "config.json"));
  merge(config, overrides);
  cut_layer_lists(config, overrides);
  json::object generation;
  const bool has_generation = files.contains("generation_config.json");
  if (has_generation) {
    MOESTRO_ASSIGN(generation, parse_object(files, "generation_config.json"));
  }
  return parse_model_config(std::move(config), has_generation ? &generation : nullptr)
      .with(files.location());
}

}  // namespace moestro::checkpoint
