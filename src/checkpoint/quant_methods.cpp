// The quant_methods with one fixed shape of config each: fp8, mxfp4, gptq, awq, modelopt,
// slimquant_w4a8, blockwise_int8, and Ascend's description file.
#include <utility>

#include "base/format.h"
#include "checkpoint/key_reader.h"
#include "checkpoint/quant_reader.h"

namespace moestro::checkpoint {
namespace {

constexpr int64_t kMaxGroup = int64_t{1} << 20;

QuantArgs make_args(int32_t num_bits, bool is_float, QuantStrategy strategy, int32_t group_size = 0,
                    bool dynamic = false) {
  QuantArgs a;
  a.num_bits = num_bits;
  a.is_float = is_float;
  a.strategy = strategy;
  a.group_size = group_size;
  a.dynamic = dynamic;
  return a;
}

void add_group(QuantConfig& q, std::string name, std::string tensor_format, QuantArgs weights,
               std::optional<QuantArgs> activations,
               std::vector<std::string> targets = {"Linear"}) {
  q.groups.push_back(
      {std::move(name), std::move(tensor_format), weights, activations, std::move(targets)});
}

Status read_exceptions(const json::object& config, std::initializer_list<std::string_view> keys,
                       QuantConfig& q) {
  for (const std::string_view key : keys) {
    MOESTRO_ASSIGN(std::vector<std::string> list, string_list(config, key));
    for (std::string& entry : list) q.ignore.push_back(std::move(entry));
  }
  return {};
}

Result<std::pair<int32_t, int32_t>> read_weight_block(const json::object& config) {
  const json::value* v = json::find(config, "weight_block_size");
  if (!v) return std::pair(0, 0);
  const json::array* list = v->if_array();
  const auto good = [](const json::value& n) {
    return n.is_int64() && n.get_int64() >= 1 && n.get_int64() <= kMaxGroup;
  };
  if (!list || list->size() != 2 || !good((*list)[0]) || !good((*list)[1]))
    return invalid_argument(
        format("weight_block_size is {}; it must be two sizes, [128, 128]", shown(*v)));
  return std::pair(static_cast<int32_t>((*list)[0].get_int64()),
                   static_cast<int32_t>((*list)[1].get_int64()));
}

// -1 stands for "one group a row".
QuantArgs grouped(int64_t num_bits, int64_t group_size, bool symmetric) {
  QuantArgs a = make_args(static_cast<int32_t>(num_bits), false,
                          group_size > 0 ? QuantStrategy::kGroup : QuantStrategy::kChannel,
                          group_size > 0 ? static_cast<int32_t>(group_size) : 0);
  a.symmetric = symmetric;
  return a;
}

}  // namespace

Status read_fp8(const json::object& config, QuantConfig& q) {
  KeyReader r(config);
  const std::string fmt = r.text("fmt", "e4m3");
  if (fmt != "e4m3" && fmt != "float8_e4m3fn")
    r.fail(
        unsupported(format("fmt {} is not supported; supported is e4m3", json::quote(fmt, true))));
  const std::string scheme = r.text("activation_scheme", "dynamic");
  if (scheme != "dynamic" && scheme != "static")
    r.fail(
        unsupported(format("activation_scheme {} is not supported; supported are dynamic, static",
                           json::quote(scheme, true))));
  q.scale_fmt = r.text("scale_fmt", "");
  if (!q.scale_fmt.empty() && q.scale_fmt != "ue8m0" && q.scale_fmt != "float")
    r.fail(unsupported(format("scale_fmt {} is not supported; supported are ue8m0, float",
                              json::quote(q.scale_fmt, true))));
  MOESTRO_TRY(r.status());
  MOESTRO_TRY(read_exceptions(config, {"modules_to_not_convert", "ignored_layers"}, q));
  MOESTRO_ASSIGN(const auto block, read_weight_block(config));
  const bool dynamic = scheme == "dynamic";
  if (block.first == 0) {
    add_group(
        q, "fp8", "float-quantized", make_args(8, true, QuantStrategy::kTensor),
        make_args(8, true, dynamic ? QuantStrategy::kToken : QuantStrategy::kTensor, 0, dynamic));
    return {};
  }
  if (!dynamic)
    return unsupported("activation_scheme static with weight_block_size is not supported");
  QuantArgs weights = make_args(8, true, QuantStrategy::kBlock);
  weights.block_n = block.first;
  weights.block_k = block.second;
  add_group(q, "fp8", "float-quantized", weights,
            make_args(8, true, QuantStrategy::kGroup, block.second, true));
  return {};
}

Status read_mxfp4(const json::object& config, QuantConfig& q) {
  MOESTRO_TRY(read_exceptions(config, {"modules_to_not_convert"}, q));
  add_group(q, "mxfp4", "mxfp4", make_args(4, true, QuantStrategy::kGroup, 32), {}, {"experts"});
  return {};
}

Status read_gptq(const json::object& config, QuantConfig& q) {
  KeyReader r(config);
  const int64_t num_bits = r.integer("bits", 4, 1, 16);
  const int64_t group_size = r.integer("group_size", -1, -1, kMaxGroup);
  const std::string layout = r.text("checkpoint_format", "gptq");
  const bool symmetric = r.boolean("sym", true);
  const bool desc_act = r.boolean("desc_act", false);
  MOESTRO_TRY(r.status());
  if (num_bits != 4 && num_bits != 8)
    return unsupported(format("bits {} is not supported; supported are 4, 8", num_bits));
  if (group_size == 0) return invalid_argument("group_size is 0; it must be -1 or at least 1");
  if (layout != "gptq" && layout != "gptq_v2")
    return unsupported(format("checkpoint_format {} is not supported; supported are gptq, gptq_v2",
                              json::quote(layout, true)));
  if (const json::value* dynamic = json::find(config, "dynamic"); dynamic && dynamic->is_object()) {
    for (const auto& [key, value] : dynamic->get_object()) {
      const std::string_view rule{key.data(), key.size()};
      if (!rule.starts_with("-:"))
        return unsupported(format(
            "dynamic: {} gives some modules other settings; only exceptions (\"-:\") are supported",
            json::quote(rule, true)));
      q.ignore.push_back("re:" + std::string(rule.substr(2)));
    }
  }
  MOESTRO_TRY(read_exceptions(config, {"modules_to_not_convert"}, q));
  QuantArgs weights = grouped(num_bits, group_size, symmetric);
  weights.actorder = desc_act;
  add_group(q, "gptq", layout, weights, {});
  return {};
}

Status read_awq(const json::object& config, QuantConfig& q) {
  KeyReader r(config);
  const int64_t num_bits = r.integer(r.first_of({"bits", "w_bit"}), 4, 1, 16);
  const int64_t group_size =
      r.integer(r.first_of({"group_size", "q_group_size"}), 128, -1, kMaxGroup);
  const std::string version = r.text("version", "gemm");
  const bool zero_point = r.boolean("zero_point", true);
  MOESTRO_TRY(r.status());
  if (num_bits != 4)
    return unsupported(format("bits {} is not supported; supported is 4", num_bits));
  if (group_size == 0) return invalid_argument("group_size is 0; it must be -1 or at least 1");
  if (version != "gemm" && version != "GEMM")
    return unsupported(
        format("version {} is not supported; supported is gemm", json::quote(version, true)));
  MOESTRO_TRY(read_exceptions(config, {"modules_to_not_convert"}, q));
  add_group(q, "awq", "awq", grouped(num_bits, group_size, !zero_point), {});
  return {};
}

Status read_modelopt(const json::object& config, QuantConfig& q) {
  KeyReader r(config);
  const std::string algorithm = r.text("quant_algo", "");
  const int64_t group_size = r.integer("group_size", 16, 1, kMaxGroup);
  MOESTRO_TRY(r.status());
  MOESTRO_TRY(read_exceptions(config, {"exclude_modules", "ignore"}, q));
  if (algorithm == "FP8") {
    add_group(q, "modelopt", "float-quantized", make_args(8, true, QuantStrategy::kTensor),
              make_args(8, true, QuantStrategy::kTensor));
  } else if (algorithm == "NVFP4") {
    if (group_size != 16)
      return unsupported(
          format("group_size {} is not supported with NVFP4; supported is 16", group_size));
    add_group(q, "modelopt", "nvfp4-modelopt", make_args(4, true, QuantStrategy::kTensorGroup, 16),
              make_args(4, true, QuantStrategy::kTensorGroup, 16, true));
  } else {
    return unsupported(format("quant_algo {} is not supported; supported are FP8, NVFP4",
                              json::quote(algorithm, true)));
  }
  return {};
}

Status read_slimquant_w4a8(const json::object& config, QuantConfig& q) {
  KeyReader r(config);
  const bool provider = r.boolean("w4_dir", false);
  const std::string scheme = r.text("activation_scheme", "dynamic");
  const int64_t num_bits = r.integer("weight_bits", 4, 1, 16);
  const int64_t group_size = r.integer("group_size", -1, -1, kMaxGroup);
  const bool symmetric = r.boolean("sym", true);
  const int64_t divisor = r.integer("int4_scale_divisor", 0, 0, 16);  // a key of ours
  MOESTRO_TRY(r.status());
  if (divisor != 0 && divisor != 1 && divisor != 16)
    return invalid_argument(
        format("int4_scale_divisor is {}; it must be 1 or 16, or left out", divisor));
  if (scheme != "dynamic")
    return unsupported(format("activation_scheme {} is not supported; supported is dynamic",
                              json::quote(scheme, true)));
  if (num_bits != 4 || group_size != -1 || !symmetric)
    return unsupported(format("weight_bits {}, group_size {}, sym {}: supported are 4, -1, true",
                              num_bits, group_size, symmetric));
  MOESTRO_TRY(read_exceptions(config, {"modules_to_not_convert"}, q));
  const QuantArgs activations = make_args(8, false, QuantStrategy::kToken, 0, true);
  add_group(q, "experts", provider ? "slimquant-int4-provider" : "slimquant-int4",
            make_args(4, false, QuantStrategy::kChannel), activations, {"experts"});
  if (divisor != 0) {
    q.groups.back().scale_divisor = static_cast<int32_t>(divisor);
    q.groups.back().scale_reading = "int4_scale_divisor says so";
  }
  add_group(q, "linear", "slimquant", make_args(8, false, QuantStrategy::kChannel), activations);
  return {};
}

// int8 in blocks, as DeepSeek's fp8 has them: X.weight I8, X.weight_scale_inv F32.
Status read_blockwise_int8(const json::object& config, QuantConfig& q) {
  KeyReader r(config);
  const std::string scheme = r.text("activation_scheme", "dynamic");
  MOESTRO_TRY(r.status());
  if (scheme != "dynamic")
    return unsupported(format("activation_scheme {} is not supported; supported is dynamic",
                              json::quote(scheme, true)));
  MOESTRO_ASSIGN(const auto block, read_weight_block(config));
  if (block.first == 0)
    return invalid_argument("weight_block_size is missing; it must be two sizes, [128, 128]");
  MOESTRO_TRY(read_exceptions(config, {"modules_to_not_convert", "ignored_layers"}, q));
  QuantArgs weights = make_args(8, false, QuantStrategy::kBlock);
  weights.block_n = block.first;
  weights.block_k = block.second;
  add_group(q, "blockwise_int8", "int-quantized", weights,
            make_args(8, false, QuantStrategy::kGroup, block.second, true));
  return {};
}

Status read_ascend(const json::object& description, QuantConfig& q) {
  QuantGroup g;
  g.name = "W8A8_DYNAMIC";
  g.format = "int-quantized";
  g.weights = make_args(8, false, QuantStrategy::kChannel);
  g.input_activations = make_args(8, false, QuantStrategy::kToken, 0, true);
  constexpr std::string_view kWeight = ".weight";
  for (const auto& [key, value] : description) {
    std::string_view tensor{key.data(), key.size()};
    if (!tensor.ends_with(kWeight) || !value.is_string())
      continue;  // also holds notes about the whole model
    const std::string_view type = json::view(value.get_string());
    if (type == "FLOAT") continue;
    if (type != "W8A8_DYNAMIC")
      return unsupported(format("tensor {} is {}; supported are FLOAT, W8A8_DYNAMIC",
                                json::quote(tensor, true), json::quote(type, true)));
    tensor.remove_suffix(kWeight.size());
    g.targets.emplace_back(tensor);
  }
  q.groups.push_back(std::move(g));
  return {};
}

}  // namespace moestro::checkpoint
