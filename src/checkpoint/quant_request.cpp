#include "checkpoint/quant_request.h"

#include <algorithm>
#include <vector>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::checkpoint {
namespace {

using enum QuantMethodName;

// What a group must be for the name's kernels; empty: it is.
using Demand = std::string (*)(const QuantConfig&);

// A name that means a method's tensors with kernels of its own. Ours are the plan's choice, so the
// name changes nothing but must fit.
struct Alias {
  std::string_view name;
  QuantMethodName method;
  Demand demand;
};

std::string nothing(const QuantConfig&) { return {}; }

std::string channel_by_token(const QuantConfig& quant) {
  for (const QuantGroup& g : quant.groups) {
    if (!g.weights) continue;
    const bool fits = g.weights->num_bits == 8 && g.weights->strategy == QuantStrategy::kChannel &&
                      g.input_activations && g.input_activations->dynamic &&
                      g.input_activations->strategy == QuantStrategy::kToken;
    if (!fits)
      return format(
          "it needs int8 or fp8 weights with a scale a channel and dynamic activations "
          "with a scale a token, and {} is {}",
          g.name, describe(g));
  }
  return {};
}

std::string fp4_groups(const QuantConfig& quant) {
  for (const QuantGroup& g : quant.groups)
    if (g.weights && g.weights->num_bits != 4) return format("{} is {}", g.name, describe(g));
  return {};
}

constexpr Alias kAliases[] = {
    {"slimquant_marlin", kCompressedTensors, channel_by_token},
    {"slimquant_compressed_tensors_marlin", kCompressedTensors, channel_by_token},
    {"slimquant_w4a8_marlin", kSlimquantW4a8, nothing},
    {"gptq_marlin", kGptq, nothing},
    {"auto_gptq", kGptq, nothing},
    {"awq_marlin", kAwq, nothing},
    {"auto_awq", kAwq, nothing},
    {"moe_wna16", kGptq, nothing},
    {"moe_wna16", kAwq, nothing},
    {"marlin", kGptq, nothing},
    {"gpt_oss_mxfp4", kMxfp4, nothing},
    {"modelopt_fp4", kModelOpt, fp4_groups},
};

// Names of ways to quantise while loading.
constexpr std::string_view kOnline[] = {"online",
                                        "experts_int8",
                                        "fp8_per_tensor",
                                        "fp8_per_block",
                                        "fp8_per_channel",
                                        "nvfp4_per_token",
                                        "mxfp8",
                                        "int8_per_channel_weight_only",
                                        "inc"};

// Names that vLLM knows and nobody here reads.
constexpr std::string_view kElsewhere[] = {
    "bitsandbytes",   "quark",   "torchao",        "fbgemm_fp8", "fp_quant",
    "modelopt_mxfp8", "humming", "modelopt_mixed", "gguf",       "deepseek_v4_fp8"};

constexpr std::string_view kMethods[] = {
    "compressed-tensors", "fp8",           "mxfp4", "gptq", "awq", "modelopt",
    "slimquant_w4a8",     "blockwise_int8"};

template <class List>
bool contains(const List& list, std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

std::string what_it_is(const QuantConfig& quant) {
  if (quant.method == kNone) return "the checkpoint is not quantised";
  std::string groups;
  for (const QuantGroup& g : quant.groups)
    if (g.weights) groups += (groups.empty() ? "" : "; ") + describe(g);
  return format("the checkpoint's {} says {}{}", quant.config_key, quant.method_text,
                groups.empty() ? "" : format(" ({})", groups));
}

Status unknown_name(std::string_view asked) {
  std::vector<std::string_view> names(std::begin(kMethods), std::end(kMethods));
  for (const Alias& a : kAliases)
    if (!contains(names, a.name)) names.push_back(a.name);
  std::string list;
  for (const std::string_view name : names) list += (list.empty() ? "" : ", ") + std::string(name);
  const auto near = nearest(asked, names);
  return invalid_argument(format("--quantization {}: no such method{}; there are {}", asked,
                                 near ? format(", did you mean {}?", *near) : "", list));
}

}  // namespace

Result<std::string> resolve_quantization(const std::optional<std::string>& asked,
                                         const QuantConfig& quant) {
  if (!asked) return std::string();
  if (quant.method != kNone &&
      (*asked == quant.method_text || *asked == quant_method_text(quant.method)))
    return format("-q {}: {}", *asked, what_it_is(quant));
  bool is_alias = false;
  for (const Alias& a : kAliases) {
    if (a.name != *asked) continue;
    is_alias = true;
    if (a.method != quant.method) continue;
    if (const std::string why = a.demand(quant); !why.empty())
      return invalid_argument(format("--quantization {}: {}; leave the flag out", *asked, why));
    return format(
        "-q {}: {}; that name stands for kernels of its own for such tensors, and here "
        "the plan chooses kernels",
        *asked, what_it_is(quant));
  }
  if (contains(kOnline, *asked))
    return invalid_argument(
        format("--quantization {}: weights are not quantised while loading, and {}; moestro "
               "quantize writes a quantised copy",
               *asked, what_it_is(quant)));
  if (contains(kElsewhere, *asked))
    return invalid_argument(format("--quantization {}: not read here, and {}; leave the flag out",
                                   *asked, what_it_is(quant)));
  if (!is_alias && !contains(kMethods, *asked)) return unknown_name(*asked);
  return invalid_argument(
      format("--quantization {}: {}; leave the flag out{}", *asked, what_it_is(quant),
             quant.method == kNone ? ", or write a quantised copy with moestro quantize" : ""));
}

}  // namespace moestro::checkpoint
