#include "checkpoint/quant_config.h"

#include <utility>

#include "base/format.h"
#include "base/log.h"
#include "checkpoint/key_reader.h"
#include "checkpoint/module_matcher.h"
#include "checkpoint/quant_reader.h"

namespace moestro::checkpoint {
namespace {

struct Method {
  std::string_view text;
  QuantMethodName name;
  Status (*read)(const json::object&, QuantConfig&);
};

constexpr Method kMethods[] = {
    {"compressed-tensors", QuantMethodName::kCompressedTensors, read_compressed_tensors},
    {"fp8", QuantMethodName::kFp8, read_fp8},
    {"mxfp4", QuantMethodName::kMxfp4, read_mxfp4},
    {"gptq", QuantMethodName::kGptq, read_gptq},
    {"awq", QuantMethodName::kAwq, read_awq},
    {"modelopt", QuantMethodName::kModelOpt, read_modelopt},
    {"slimquant_w4a8", QuantMethodName::kSlimquantW4a8, read_slimquant_w4a8},
    {"blockwise_int8", QuantMethodName::kBlockwiseInt8, read_blockwise_int8},
};

// Methods that people will meet, and why they are refused.
constexpr std::pair<std::string_view, std::string_view> kRefused[] = {
    {"bitsandbytes", "its nf4 and int8 tensors with nested statistics are not read"},
    {"quark", "its per-layer schemes are not read"},
    {"torchao", "its serialised tensor classes are not read"},
    {"hqq", "its tensors are not read"},
    {"aqlm", "its codebooks are not read"},
    {"fbgemm_fp8", "re-export it as compressed-tensors fp8"},
};

// Linear layers that stay in floating point although the method's config has no list of exceptions
// that says so.
const std::vector<std::string>& float_by_convention(QuantMethodName method) {
  static const std::vector<std::string> kNone;
  static const std::vector<std::string> kParts = {
      "lm_head",     "embed_tokens",       "mlp.gate", "block_sparse_moe.gate",
      "mlp.router",  "shared_expert_gate", "eh_proj",  "shared_head",
      "weights_proj"};
  return method == QuantMethodName::kCompressedTensors ? kNone : kParts;
}

// Where the object is: top level, in the language model's config, or one key inside the other.
const json::object* find_object(const json::object& config, std::string& key) {
  for (const std::string_view name : {"quantization_config", "compression_config"}) {
    const json::value* v = json::find(config, name);
    if (!v || !v->is_object()) continue;
    key = name;
    if (const json::value* inner = json::find(v->get_object(), "quantization_config");
        inner && inner->is_object())
      return &inner->get_object();
    return &v->get_object();
  }
  const json::value* text = json::find(config, "text_config");
  return text && text->is_object() && !json::find(text->get_object(), "text_config")
             ? find_object(text->get_object(), key)
             : nullptr;
}

Status compile_lists(QuantConfig& q) {
  const bool names = q.method == QuantMethodName::kCompressedTensors;
  std::vector<EntryList> groups, exceptions;
  for (QuantGroup& g : q.groups) {
    // slimquant's and mxfp4's targets are parts of names ("experts"); "Linear" means the same in
    // both rules.
    const EntryRule rule = !names && g.targets != std::vector<std::string>{"Linear"}
                               ? EntryRule::kParts
                               : EntryRule::kNames;
    MOESTRO_ASSIGN(
        EntryList list,
        EntryList::compile(g.weights ? g.targets : std::vector<std::string>(), rule).with(g.name));
    groups.push_back(std::move(list));
  }
  MOESTRO_ASSIGN(EntryList ignore,
                 EntryList::compile(q.ignore, names ? EntryRule::kNames : EntryRule::kParts)
                     .with("ignored layers"));
  exceptions.push_back(std::move(ignore));
  MOESTRO_ASSIGN(EntryList convention,
                 EntryList::compile(float_by_convention(q.method), EntryRule::kParts));
  exceptions.push_back(std::move(convention));
  q.matcher = std::make_shared<const ModuleMatcher>(std::move(groups), std::move(exceptions));
  return {};
}

Status read_method(const json::object& config, QuantConfig& q) {
  MOESTRO_ASSIGN(q.method_text, json::get_string(config, "quant_method", ""));
  if (q.method_text.empty()) {  // very old exports leave it out
    if (json::find(config, "config_groups"))
      q.method_text = "compressed-tensors";
    else if (json::find(config, "quant_algo"))
      q.method_text = "modelopt";
    else
      return invalid_argument("quant_method is missing");
  }
  for (const auto& [name, why] : kRefused)
    if (q.method_text == name)
      return unsupported(format("quant_method {} is not supported: {}", name, why));
  for (const Method& m : kMethods) {
    if (q.method_text != m.text &&
        !(m.name == QuantMethodName::kModelOpt && q.method_text == "modelopt_fp4"))
      continue;
    q.method = m.name;
    MOESTRO_ASSIGN(q.actorder_in_floats, json::get_bool(config, "actorder_in_floats", false));
    MOESTRO_TRY(m.read(config, q));
    return compile_lists(q);
  }
  std::string known;
  for (const Method& m : kMethods) known += (known.empty() ? "" : ", ") + std::string(m.text);
  return unsupported(format("quant_method {} is not supported; supported are {}",
                            json::quote(q.method_text, true), known));
}

Result<json::object> parse_file(const ModelFiles& files, std::string_view name) {
  MOESTRO_ASSIGN(const auto bytes, files.open(name));
  MOESTRO_ASSIGN(json::value v,
                 json::parse(bytes->text(), {.max_bytes = size_t{256} << 20, .max_depth = 16}));
  if (!v.is_object())
    return invalid_argument(format("must hold an object, not {}", json::kind_name(v)));
  return std::move(v.get_object());
}

Result<QuantConfig> read_modelopt_file(const ModelFiles& files, std::string_view name) {
  MOESTRO_ASSIGN(json::object root, parse_file(files, name));
  const json::value* inner = json::find(root, "quantization");
  if (!inner || !inner->is_object()) return invalid_argument("\"quantization\" must be an object");
  QuantConfig q;
  q.config_key = name;
  q.raw = inner->get_object();
  if (!json::find(q.raw, "quant_algo"))
    return QuantConfig();  // a record that nothing was quantised
  q.raw["quant_method"] = "modelopt";
  MOESTRO_TRY(read_method(q.raw, q));
  return q;
}

Result<QuantConfig> read_ascend_file(const ModelFiles& files, std::string_view name) {
  QuantConfig q;
  MOESTRO_ASSIGN(q.raw, parse_file(files, name));
  q.config_key = name;
  q.method_text = "ascend";
  q.method = QuantMethodName::kCompressedTensors;  // the tensors are those of int-quantized W8A8
  MOESTRO_TRY(read_ascend(q.raw, q));
  MOESTRO_TRY(compile_lists(q));
  return q;
}

std::string describe(const QuantArgs& a) {
  std::string out =
      format("{}{} {}", a.is_float ? "fp" : "int", a.num_bits, strategy_text(a.strategy));
  if (a.group_size > 0) out += format(" {}", a.group_size);
  if (a.strategy == QuantStrategy::kBlock) out += format(" {}x{}", a.block_n, a.block_k);
  if (!a.symmetric) out += " asymmetric";
  if (a.dynamic) out += " dynamic";
  if (a.actorder) out += " actorder";
  return out;
}

}  // namespace

const QuantGroup* QuantConfig::match(std::string_view module) const {
  if (!matcher) return nullptr;
  const int index = matcher->group_of(module);
  return index < 0 ? nullptr : &groups[static_cast<size_t>(index)];
}

Result<QuantConfig> parse_quant_config(const json::object& config_json) {
  QuantConfig q;
  const json::object* config = find_object(config_json, q.config_key);
  if (!config || config->empty()) return QuantConfig();
  q.raw = *config;
  MOESTRO_TRY(read_method(*config, q).with(q.config_key));
  return q;
}

Result<QuantConfig> read_quant_config(const ModelFiles& files, const json::object& config_json) {
  MOESTRO_ASSIGN(QuantConfig q, parse_quant_config(config_json).with(files.location()));
  if (q.method != QuantMethodName::kNone) return q;
  constexpr std::string_view kModelOptFile = "hf_quant_config.json",
                             kAscendFile = "quant_model_description.json";
  if (files.contains(kModelOptFile))
    return read_modelopt_file(files, kModelOptFile)
        .with(format("{}/{}", files.location(), kModelOptFile));
  if (files.contains(kAscendFile))
    return read_ascend_file(files, kAscendFile)
        .with(format("{}/{}", files.location(), kAscendFile));
  return q;
}

Result<std::vector<std::string>> string_list(const json::object& o, std::string_view key) {
  std::vector<std::string> out;
  const json::value* v = json::find(o, key);
  if (!v) return out;
  if (!v->is_array())
    return invalid_argument(
        format("{} must be a list of strings, not {}", key, json::kind_name(*v)));
  for (const json::value& item : v->get_array()) {
    if (!item.is_string())
      return invalid_argument(
          format("{} holds {}; it must be a list of strings", key, shown(item)));
    out.emplace_back(json::view(item.get_string()));
  }
  return out;
}

std::string_view quant_method_text(QuantMethodName method) {
  for (const Method& m : kMethods)
    if (m.name == method) return m.text;
  return "none";
}

std::string_view strategy_text(QuantStrategy strategy) {
  switch (strategy) {
    case QuantStrategy::kTensor:
      return "tensor";
    case QuantStrategy::kChannel:
      return "channel";
    case QuantStrategy::kGroup:
      return "group";
    case QuantStrategy::kBlock:
      return "block";
    case QuantStrategy::kToken:
      return "token";
    case QuantStrategy::kTensorGroup:
      return "tensor_group";
  }
  return "unknown";
}

std::string describe(const QuantGroup& group) {
  std::string out = group.weights ? describe(*group.weights) : "no weights";
  if (group.input_activations) out += ", activations " + describe(*group.input_activations);
  return out;
}

}  // namespace moestro::checkpoint
