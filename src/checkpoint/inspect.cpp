#include "checkpoint/inspect.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/format.h"
#include "base/strings.h"
#include "checkpoint/weight_source.h"

namespace moestro::checkpoint {
namespace {

constexpr std::array<std::string_view, 4> kScaleSuffixes = {".weight_scale", ".weight_scale_inv",
                                                            ".scales", ".weight_scale_2"};
constexpr std::array<std::string_view, 17> kNotParameters = {"weight_scale",
                                                             "weight_scale_inv",
                                                             "weight_scale_2",
                                                             "weight_global_scale",
                                                             "input_scale",
                                                             "input_global_scale",
                                                             "input_zero_point",
                                                             "weight_shape",
                                                             "weight_zero_point",
                                                             "weight_g_idx",
                                                             "g_idx",
                                                             "qzeros",
                                                             "scales",
                                                             "k_scale",
                                                             "v_scale",
                                                             "weight_offset",
                                                             "inv_freq"};
constexpr std::array<std::string_view, 10> kTokenizerFiles = {"tokenizer.json",
                                                              "tokenizer_config.json",
                                                              "chat_template.jinja",
                                                              "generation_config.json",
                                                              "special_tokens_map.json",
                                                              "vocab.json",
                                                              "merges.txt",
                                                              "tokenizer.model",
                                                              "added_tokens.json",
                                                              "tiktoken.model"};

// "model.layers.3.mlp.gate" -> "model.layers.*.mlp.gate"
std::string kind_of(std::string_view module) {
  std::string out;
  for (const std::string_view part : split(module, '.')) {
    if (!out.empty()) out += '.';
    out += parse_int(part) ? std::string_view("*") : part;
  }
  return out;
}

// The number after "model.layers." or ".experts.".
std::optional<int64_t> number_after(std::string_view name, std::string_view prefix) {
  const size_t at = name.find(prefix);
  if (at == std::string_view::npos) return std::nullopt;
  name.remove_prefix(at + prefix.size());
  return parse_int(name.substr(0, name.find('.')));
}

struct Sum {
  int64_t count = 0;
  uint64_t bytes = 0;
  void add(uint64_t n) { ++count, bytes += n; }
};

json::object sums_json(const std::map<std::string, Sum>& sums) {
  json::object out;
  for (const auto& [name, sum] : sums)
    out[name] = json::object{{"tensors", sum.count}, {"bytes", sum.bytes}};
  return out;
}

class Inspector {
 public:
  Inspector(std::shared_ptr<const ModelFiles> files, const json::object& overrides)
      : files_(std::move(files)) {
    out_["location"] = files_->location();
    auto config = read_model_config(*files_, overrides);
    if (config.ok())
      config_ = std::move(config).value();
    else
      problem(config.status().message());
    if (config_) read_quant();
    auto source = open_safetensors(files_);
    if (source.ok())
      source_ = std::move(source).value();
    else
      problem(source.status().message());
  }

  json::object run() {
    if (config_) describe_config();
    if (source_) {
      for (const std::string& name : source_->names()) add_tensor(name);
      describe_weights();
      if (quant_) describe_quant();
      if (config_) check_against_config();
    }
    json::array tokenizer;
    for (const std::string_view name : kTokenizerFiles)
      if (files_->contains(name)) tokenizer.emplace_back(name);
    if (!files_->contains("tokenizer.json"))
      problem("no tokenizer.json: text cannot be turned into tokens");
    out_["tokenizer"] = std::move(tokenizer);
    out_["problems"] = std::move(problems_);
    return std::move(out_);
  }

 private:
  void problem(std::string text) { problems_.emplace_back(std::move(text)); }

  void read_quant() {
    auto quant = read_quant_config(*files_, config_->raw);
    if (quant.ok())
      quant_ = std::move(quant).value();
    else
      problem(quant.status().message());
  }

  void describe_config();
  void describe_weights();
  void describe_quant();
  void check_against_config();
  void check_layers();
  void add_tensor(const std::string& name);
  void add_module(std::string_view module, uint64_t bytes);
  int64_t logical_elements(std::string_view name, std::string_view suffix,
                           const TensorInfo& info) const;

  std::shared_ptr<const ModelFiles> files_;
  std::optional<ModelConfig> config_;
  std::optional<QuantConfig> quant_;
  std::unique_ptr<WeightSource> source_;
  json::object out_;
  json::array problems_;
  double total_ = 0, active_ = 0, mtp_ = 0;  // parameters; doubles, since active ones are fractions
  std::map<std::string, Sum> dtypes_, quantized_, unquantized_;
  std::set<int64_t> layers_;
  int64_t max_expert_ = -1, unknown_ = 0;
  int64_t unscaled_ = 0, unlisted_ = 0;  // modules where config and tensors disagree
  std::string unscaled_example_, unlisted_example_;
};

void Inspector::describe_config() {
  const ModelConfig& c = *config_;
  out_["model_type"] = c.model_type;
  out_["architecture"] = c.architecture;
  out_["dtype"] = torch_name(c.dtype);
  out_["context"] = c.max_position_embeddings;
  json::object sizes{
      {"vocab_size", c.vocab_size}, {"hidden_size", c.hidden_size}, {"heads", c.num_heads}};
  if (c.uses_mla()) {
    sizes["attention"] = c.uses_dsa() ? "mla, sparse" : "mla";
    sizes["q_lora_rank"] = c.q_lora_rank;
    sizes["kv_lora_rank"] = c.kv_lora_rank;
    sizes["qk_head_dim"] = int64_t{c.qk_nope_head_dim} + c.qk_rope_head_dim;
    sizes["v_head_dim"] = c.v_head_dim;
    if (c.uses_dsa()) sizes["index_topk"] = c.index_topk;
  } else {
    sizes["attention"] = c.num_kv_heads == c.num_heads ? "multi-head" : "grouped-query";
    sizes["kv_heads"] = c.num_kv_heads;
    sizes["head_dim"] = c.head_dim;
  }
  if (c.intermediate_size > 0) sizes["intermediate_size"] = c.intermediate_size;
  out_["sizes"] = std::move(sizes);
  const auto moe = std::count(c.moe_layer.begin(), c.moe_layer.end(), true);
  const auto sliding =
      std::count(c.attention_kinds.begin(), c.attention_kinds.end(), AttentionKind::kSliding);
  json::object layers{{"total", c.num_layers}, {"moe", moe}, {"dense", c.num_layers - moe}};
  if (sliding > 0)
    layers["sliding_attention"] = sliding, layers["sliding_window"] = c.sliding_window;
  if (c.uses_dsa())
    layers["own_indexer"] = std::count(c.indexer_full.begin(), c.indexer_full.end(), true);
  layers["mtp_declared"] = c.num_mtp_layers;
  out_["layers"] = std::move(layers);
  out_["experts"] = nullptr;
  if (c.num_experts > 0)
    out_["experts"] = json::object{{"count", c.num_experts},
                                   {"per_token", c.num_experts_per_tok},
                                   {"width", c.moe_intermediate_size},
                                   {"shared", c.num_shared_experts},
                                   {"shared_width", c.shared_expert_intermediate_size}};
}

// Elements of the weight that the tensor stands for; 0 for scales and the like.
int64_t Inspector::logical_elements(std::string_view name, std::string_view suffix,
                                    const TensorInfo& info) const {
  if (suffix.ends_with("_scales") ||
      std::find(kNotParameters.begin(), kNotParameters.end(), suffix) != kNotParameters.end())
    return 0;
  const int64_t stored = static_cast<int64_t>(info.bytes) * 8 / bits(info.dtype);
  if (suffix.ends_with("_blocks")) return stored * 2;  // two 4-bit values a byte
  const std::string_view module =
      name.substr(0, name.size() - std::min(name.size(), suffix.size() + 1));
  const QuantGroup* group = quant_ ? quant_->match(module) : nullptr;
  const int32_t code_bits = group ? group->weights->num_bits : 4;
  const bool packed = suffix == "weight_packed" || suffix == "qweight" ||
                      (suffix == "weight" && group && code_bits == 4 &&
                       (info.dtype == DType::kU8 || info.dtype == DType::kI8));
  return packed ? static_cast<int64_t>(info.bytes) * 8 / code_bits : stored;
}

void Inspector::add_module(std::string_view module, uint64_t bytes) {
  const auto has_scale = [&](std::string_view suffix) {
    return source_->has(std::string(module) + std::string(suffix));
  };
  const bool scaled = std::any_of(kScaleSuffixes.begin(), kScaleSuffixes.end(), has_scale);
  (scaled ? quantized_ : unquantized_)[kind_of(module)].add(bytes);
  if (!quant_ || module.ends_with("embed_tokens")) return;
  const bool listed = quant_->match(module) != nullptr;
  if (listed && !scaled && unscaled_++ == 0) unscaled_example_ = module;
  if (!listed && scaled && unlisted_++ == 0) unlisted_example_ = module;
}

void Inspector::add_tensor(const std::string& name) {
  const TensorInfo* info = source_->find(name);
  if (!info) {
    ++unknown_;
    return;
  }
  dtypes_[std::string(safetensors_name(info->dtype))].add(info->bytes);
  const size_t dot = name.rfind('.');
  const std::string_view suffix =
      std::string_view(name).substr(dot == std::string::npos ? 0 : dot + 1);
  const auto count = static_cast<double>(logical_elements(name, suffix, *info));
  const auto layer = number_after(name, "model.layers.");
  const auto expert = number_after(name, ".experts.");
  if (layer) layers_.insert(*layer);
  if (expert) max_expert_ = std::max(max_expert_, *expert);
  total_ += count;
  if (config_ && layer && *layer >= config_->num_layers)
    mtp_ += count;
  else if (config_ && config_->num_experts > 0 && name.find(".experts.") != std::string::npos)
    active_ += count * config_->num_experts_per_tok / config_->num_experts;
  else
    active_ += count;
  const bool matrix = info->shape.size() == 2 &&
                      (suffix == "weight" || suffix == "weight_packed" || suffix == "qweight");
  if (matrix) add_module(std::string_view(name).substr(0, dot), info->bytes);
}

void Inspector::describe_weights() {
  out_["parameters"] = json::object{{"total", static_cast<int64_t>(total_)},
                                    {"active", static_cast<int64_t>(active_)},
                                    {"mtp", static_cast<int64_t>(mtp_)}};
  int64_t shards = 0;
  for (const std::string& name : files_->list()) shards += name.ends_with(".safetensors");
  out_["weights"] = json::object{{"files", shards},
                                 {"tensors", source_->names().size()},
                                 {"bytes", source_->total_bytes()},
                                 {"dtypes", sums_json(dtypes_)}};
  if (unknown_ > 0) problem(format("{} tensors have a type that is not known", unknown_));
}

void Inspector::describe_quant() {
  json::array groups;
  for (const QuantGroup& g : quant_->groups)
    groups.push_back(json::object{{"name", g.name}, {"format", g.format}, {"scheme", describe(g)}});
  json::object quant{
      {"method", quant_->method == QuantMethodName::kNone ? "none" : quant_->method_text},
      {"groups", std::move(groups)}};
  if (quant_->method != QuantMethodName::kNone) {
    quant["key"] = quant_->config_key;
    quant["quantized"] = sums_json(quantized_);
    quant["unquantized"] = sums_json(unquantized_);
  }
  out_["quantization"] = std::move(quant);
  if (quant_->method == QuantMethodName::kNone && !quantized_.empty())
    problem(format("{} has scales, but config.json declares no quantization",
                   quantized_.begin()->first));
  if (quant_->method == QuantMethodName::kNone || quant_->method == QuantMethodName::kMxfp4) return;
  if (unscaled_ > 0)
    problem(
        format("{} linear layers are quantized by {} but have no scale, for example {}; they are "
               "read as plain floats",
               unscaled_, quant_->config_key, unscaled_example_));
  if (unlisted_ > 0)
    problem(
        format("{} linear layers have scales but are not quantized by {}, for example {}; the "
               "scales decide",
               unlisted_, quant_->config_key, unlisted_example_));
}

void Inspector::check_layers() {
  const ModelConfig& c = *config_;
  int64_t missing = 0, first = -1;
  for (int64_t l = 0; l < c.num_layers; ++l)
    if (!layers_.count(l)) {
      ++missing;
      if (first < 0) first = l;
    }
  if (missing > 0)
    problem(
        format("{} of {} layers have no tensors, the first is {}", missing, c.num_layers, first));
  const auto drafts = std::distance(layers_.lower_bound(c.num_layers), layers_.end());
  out_["layers"].as_object()["mtp_present"] = drafts;
  if (drafts < c.num_mtp_layers)
    problem(
        format("config.json declares {} draft (MTP) layers, {} are there: no speculation with it",
               c.num_mtp_layers, drafts));
}

void Inspector::check_against_config() {
  const ModelConfig& c = *config_;
  check_layers();
  const TensorInfo* embedding = source_->find("model.embed_tokens.weight");
  if (!embedding)
    problem("model.embed_tokens.weight is missing");
  else if (embedding->shape != std::vector<int64_t>{c.vocab_size, c.hidden_size})
    problem(format(
        "model.embed_tokens.weight does not have the shape [{}, {}] of vocab_size and hidden_size",
        c.vocab_size, c.hidden_size));
  if (!c.tie_word_embeddings && !source_->has("lm_head.weight"))
    problem("lm_head.weight is missing, and tie_word_embeddings is false");
  if (c.num_experts > 0 && max_expert_ >= 0 && max_expert_ + 1 != c.num_experts)
    problem(format("the tensors are of {} experts, config.json says {}", max_expert_ + 1,
                   c.num_experts));
}

}  // namespace

json::object inspect_checkpoint(std::shared_ptr<const ModelFiles> files,
                                const json::object& overrides) {
  return Inspector(std::move(files), overrides).run();
}

}  // namespace moestro::checkpoint
