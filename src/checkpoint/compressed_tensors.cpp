// quant_method "compressed-tensors": groups of targets with arguments, presets, formats.
#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "checkpoint/key_reader.h"
#include "checkpoint/quant_reader.h"

namespace moestro::checkpoint {
namespace {

constexpr std::string_view kFormats[] = {
    "int-quantized",        "float-quantized",      "naive-quantized", "pack-quantized",
    "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized"};
constexpr size_t kMaxGroups = 1024;

struct Preset {
  std::string_view name;
  QuantArgs weights;
  std::optional<QuantArgs> activations;
};

constexpr QuantArgs args(int32_t num_bits, bool is_float, QuantStrategy strategy,
                         int32_t group_size = 0, bool dynamic = false) {
  QuantArgs a;
  a.num_bits = num_bits;
  a.is_float = is_float;
  a.strategy = strategy;
  a.group_size = group_size;
  a.dynamic = dynamic;
  if (strategy == QuantStrategy::kBlock) a.block_n = a.block_k = 128;
  return a;
}

constexpr QuantArgs asymmetric(QuantArgs a) {
  a.symmetric = false;
  return a;
}

std::span<const Preset> presets() {
  using enum QuantStrategy;
  static const Preset kPresets[] = {
      {"W8A8", args(8, false, kChannel), args(8, false, kToken, 0, true)},
      {"INT8", args(8, false, kChannel), args(8, false, kToken, 0, true)},
      {"W8A16", args(8, false, kChannel), {}},
      {"W4A16", args(4, false, kGroup, 128), {}},
      {"W4A16_ASYM", asymmetric(args(4, false, kGroup, 128)), {}},
      {"W4A8", args(4, false, kGroup, 128), args(8, false, kToken, 0, true)},
      {"W4AFP8", args(4, false, kGroup, 128), args(8, true, kToken, 0, true)},
      {"FP8", args(8, true, kTensor), args(8, true, kTensor)},
      {"FP8_DYNAMIC", args(8, true, kChannel), args(8, true, kToken, 0, true)},
      {"FP8_BLOCK", args(8, true, kBlock), args(8, true, kGroup, 128, true)},
      {"NVFP4", args(4, true, kTensorGroup, 16), args(4, true, kTensorGroup, 16, true)},
      {"NVFP4A16", args(4, true, kTensorGroup, 16), {}},
      {"MXFP4", args(4, true, kGroup, 32), args(4, true, kGroup, 32, true)},
      {"MXFP4A16", args(4, true, kGroup, 32), {}},
      {"MXFP8", args(8, true, kGroup, 32), args(8, true, kGroup, 32, true)},
      {"MXFP8A16", args(8, true, kGroup, 32), {}},
  };
  return kPresets;
}

Status read_strategy(KeyReader& r, QuantArgs& a) {
  const int64_t group = r.integer("group_size", 0, -1, int64_t{1} << 20);
  MOESTRO_TRY(r.status());
  a.group_size = group > 0 ? static_cast<int32_t>(group) : 0;
  const std::string name = r.text("strategy", group > 0   ? "group"
                                              : group < 0 ? "channel"
                                                          : "tensor");
  MOESTRO_TRY(r.status());
  using enum QuantStrategy;
  for (const QuantStrategy s : {kTensor, kChannel, kGroup, kBlock, kToken, kTensorGroup})
    if (strategy_text(s) == name) {
      a.strategy = s;
      if ((s == kGroup || s == kTensorGroup) && a.group_size == 0)
        return invalid_argument(format("strategy {} needs a group_size of at least 1", name));
      return {};
    }
  return unsupported(
      format("strategy {} is not supported; supported are tensor, channel, group, block, token, "
             "tensor_group",
             json::quote(name, true)));
}

// [128, 128] or the older "128x128".
Status read_block(KeyReader& r, QuantArgs& a) {
  if (a.strategy != QuantStrategy::kBlock) return {};
  const json::value* v = r.find("block_structure");
  if (!v) return invalid_argument("strategy block needs block_structure");
  std::optional<int64_t> n, k;
  if (v->is_array() && v->get_array().size() == 2 && v->get_array()[0].is_int64() &&
      v->get_array()[1].is_int64()) {
    n = v->get_array()[0].get_int64();
    k = v->get_array()[1].get_int64();
  } else if (v->is_string()) {
    const auto parts = split(json::view(v->get_string()), 'x');
    if (parts.size() == 2) n = parse_int(parts[0]), k = parse_int(parts[1]);
  }
  constexpr int64_t kMax = 1 << 20;
  if (!n || !k || *n < 1 || *k < 1 || *n > kMax || *k > kMax)
    return invalid_argument(
        format("block_structure is {}; it must be two sizes, [128, 128]", shown(*v)));
  a.block_n = static_cast<int32_t>(*n);
  a.block_k = static_cast<int32_t>(*k);
  return {};
}

Status read_actorder(KeyReader& r, QuantArgs& a) {
  const json::value* v = r.find("actorder");
  if (!v) return {};
  if (v->is_bool()) {
    a.actorder = v->get_bool();
    return {};
  }
  const std::string name = r.text("actorder", "");
  MOESTRO_TRY(r.status());
  if (name != "group" && name != "dynamic" && name != "weight" && name != "static")
    return unsupported(format(
        "actorder {} is not supported; supported are group, weight, dynamic, static", shown(*v)));
  a.actorder = name == "group" || name == "dynamic";
  return {};
}

Result<QuantArgs> read_args(const json::object& o) {
  KeyReader r(o);
  QuantArgs a;
  a.num_bits = static_cast<int32_t>(r.integer("num_bits", 8, 1, 16));
  const std::string type = r.text("type", "int");
  if (type != "int" && type != "float")
    r.fail(invalid_argument(format("type is {}, allowed are int, float", json::quote(type, true))));
  a.is_float = type == "float";
  a.symmetric = r.boolean("symmetric", true);
  if (const json::value* dynamic = r.find("dynamic");
      dynamic && dynamic->is_string() && dynamic->get_string() == "local")
    a.dynamic = true;
  else
    a.dynamic = r.boolean("dynamic", false);
  MOESTRO_TRY(r.status());
  MOESTRO_TRY(read_strategy(r, a));
  MOESTRO_TRY(read_block(r, a));
  MOESTRO_TRY(read_actorder(r, a));
  return a;
}

Status read_optional_args(const json::object& group, std::string_view key,
                          std::optional<QuantArgs>& out) {
  const json::value* v = json::find(group, key);
  if (!v) return {};
  if (!v->is_object())
    return invalid_argument(format("{} must be an object, not {}", key, json::kind_name(*v)));
  MOESTRO_ASSIGN(out, read_args(v->get_object()).with(key));
  return {};
}

Result<std::string> infer_format(const QuantGroup& g) {
  if (!g.weights) return std::string();
  const QuantArgs& w = *g.weights;
  if (w.is_float && w.num_bits == 8)
    return std::string(w.strategy == QuantStrategy::kGroup && w.group_size == 32
                           ? "mxfp8-quantized"
                           : "float-quantized");
  if (w.is_float && w.num_bits == 4 && w.group_size == 16)
    return std::string("nvfp4-pack-quantized");
  if (w.is_float && w.num_bits == 4 && w.group_size == 32)
    return std::string("mxfp4-pack-quantized");
  if (!w.is_float && w.num_bits == 8 && g.input_activations) return std::string("int-quantized");
  if (!w.is_float && w.num_bits <= 8) return std::string("pack-quantized");
  return unsupported(format("there is no \"format\", and weights of {} {} bits fit none",
                            w.num_bits, w.is_float ? "float" : "int"));
}

Status set_format(std::string_view given, QuantGroup& g) {
  if (given.empty() || given == "mixed-precision") {
    MOESTRO_ASSIGN(g.format, infer_format(g));
    return {};
  }
  if (std::find(std::begin(kFormats), std::end(kFormats), given) == std::end(kFormats)) {
    std::string known;
    for (const std::string_view f : kFormats) known += (known.empty() ? "" : ", ") + std::string(f);
    return unsupported(
        format("format {} is not supported; supported are {}", json::quote(given, true), known));
  }
  // Older writers said naive-quantized for what is now called by its type.
  g.format = given == "naive-quantized"
                 ? (g.weights && g.weights->is_float ? "float-quantized" : "int-quantized")
                 : given;
  return {};
}

Status read_group(std::string_view name, const json::value& v, std::string_view global_format,
                  QuantConfig& q) {
  QuantGroup g;
  g.name = name;
  if (v.is_array()) {  // a preset's name and its targets
    const auto all = presets();
    const auto preset =
        std::find_if(all.begin(), all.end(), [&](const Preset& p) { return p.name == name; });
    if (preset == all.end())
      return unsupported("a group that is a list must bear a preset's name, as W8A8");
    g.weights = preset->weights;
    g.input_activations = preset->activations;
    for (const json::value& target : v.get_array()) {
      if (!target.is_string())
        return invalid_argument(format("targets must be strings, not {}", json::kind_name(target)));
      g.targets.emplace_back(json::view(target.get_string()));
    }
    MOESTRO_TRY(set_format(global_format, g));
    q.groups.push_back(std::move(g));
    return {};
  }
  if (!v.is_object())
    return invalid_argument(format("must be an object or a list, not {}", json::kind_name(v)));
  const json::object& o = v.get_object();
  MOESTRO_TRY(read_optional_args(o, "weights", g.weights));
  MOESTRO_TRY(read_optional_args(o, "input_activations", g.input_activations));
  if (json::find(o, "output_activations"))
    return unsupported("output_activations are not supported");
  MOESTRO_ASSIGN(g.targets, string_list(o, "targets"));
  MOESTRO_ASSIGN(const std::string own, json::get_string(o, "format", ""));
  MOESTRO_TRY(set_format(own.empty() ? global_format : std::string_view(own), g));
  q.groups.push_back(std::move(g));
  return {};
}

Status refuse_what_nobody_reads(const json::object& config, std::string_view global_format) {
  if (global_format == "marlin-24")
    return unsupported("format marlin-24 (2:4 sparse weights) is not supported");
  const json::value* sparsity = json::find(config, "sparsity_config");
  if (sparsity && sparsity->is_object() && !sparsity->get_object().empty()) {
    MOESTRO_ASSIGN(const std::string name,
                   json::get_string(sparsity->get_object(), "format", "unnamed"));
    if (name != "dense")
      return unsupported(format("sparsity_config: sparse weights (format {}) are not supported",
                                json::quote(name, true)));
  }
  const json::value* transforms = json::find(config, "transform_config");
  if (transforms && transforms->is_object() && !transforms->get_object().empty())
    return unsupported(
        "transform_config: weights with Hadamard or other transforms are not supported");
  return {};
}

}  // namespace

Status read_compressed_tensors(const json::object& config, QuantConfig& q) {
  MOESTRO_ASSIGN(const std::string global_format, json::get_string(config, "format", ""));
  MOESTRO_TRY(refuse_what_nobody_reads(config, global_format));
  MOESTRO_ASSIGN(q.ignore, string_list(config, "ignore"));
  if (global_format == "dense") return {};  // the weights are stored as plain floats
  const json::value* groups = json::find(config, "config_groups");
  if (!groups || !groups->is_object())
    return invalid_argument("config_groups must be an object of groups");
  if (groups->get_object().size() > kMaxGroups)
    return invalid_argument(format("config_groups has {} groups, more than the limit of {}",
                                   groups->get_object().size(), kMaxGroups));
  for (const auto& [key, value] : groups->get_object()) {
    const std::string_view name{key.data(), key.size()};
    MOESTRO_TRY(read_group(name, value, global_format, q).with(format("config_groups.{}", name)));
  }
  return {};
}

}  // namespace moestro::checkpoint
