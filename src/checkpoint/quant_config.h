// quantization_config / compression_config as data: which method, which groups of modules, what is
// left alone. Says what the checkpoint declares; whether a tensor is quantised is decided per
// tensor by its scale (WeightSource::has), and this is the cross check. Plain data, read once.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "checkpoint/model_files.h"

namespace moestro::checkpoint {

enum class QuantMethodName : uint8_t {
  kNone,
  kCompressedTensors,
  kFp8,
  kMxfp4,
  kGptq,
  kAwq,
  kModelOpt,
  kSlimquantW4a8,
  kBlockwiseInt8
};
enum class QuantStrategy : uint8_t { kTensor, kChannel, kGroup, kBlock, kToken, kTensorGroup };

// One side (weights or input activations) of a compressed-tensors group; the same struct describes
// the other methods.
struct QuantArgs {
  int32_t num_bits = 8;
  bool is_float = false;
  bool symmetric = true;
  QuantStrategy strategy = QuantStrategy::kChannel;
  int32_t group_size = 0;            // kGroup, kTensorGroup
  int32_t block_n = 0, block_k = 0;  // kBlock
  bool dynamic = false;              // activations
  bool actorder = false;             // "group": weight_g_idx is there
};

class ModuleMatcher;  // exact names, class names, "re:" patterns

struct QuantGroup {
  std::string name;  // "group_0"
  // compressed-tensors' names ("int-quantized", …), inferred if the file leaves it out; for the
  // other methods "float-quantized" (fp8, modelopt), "nvfp4-modelopt", "mxfp4" (gpt_oss), "gptq",
  // "gptq_v2", "awq", "slimquant" (int8), "slimquant-int4" (high nibble first, scale_divisor) and
  // "slimquant-int4-provider" (low nibble first).
  std::string format;
  std::optional<QuantArgs> weights, input_activations;
  std::vector<std::string> targets;
  // slimquant-int4: stored scales are the scale / this; 0: not settled yet (slimquant_scales.h).
  int32_t scale_divisor = 0;
  bool scale_is_guess = false;
  std::string scale_reading;  // what settled it, in words
};

struct QuantConfig {
  QuantMethodName method = QuantMethodName::kNone;
  std::string method_text;  // as written
  std::string config_key;   // "quantization_config" or "compression_config"
  std::vector<QuantGroup> groups;
  std::vector<std::string> ignore;  // also modules_to_not_convert, ignored_layers
  std::string scale_fmt;            // "ue8m0"
  // A key of ours, for --hf-overrides: int4 with a group index is dequantised (quant/load.h says
  // when that is needed).
  bool actorder_in_floats = false;
  json::object raw;

  // The group that quantises module ("model.layers.3.mlp.experts.7.gate_proj"), null if none or
  // ignored. Linear modules only: never ask for norms or embeddings.
  const QuantGroup* match(std::string_view module) const;
  std::shared_ptr<const ModuleMatcher> matcher;  // compiled at parse
};

// No such key: method kNone. A scheme that nobody here reads (bitsandbytes, quark, marlin-24,
// sparsity, Hadamard transforms): kUnsupported with the reason.
Result<QuantConfig> parse_quant_config(const json::object& config_json);
// The same, and hf_quant_config.json (ModelOpt) or quant_model_description.json (Ascend) where
// config.json says nothing.
Result<QuantConfig> read_quant_config(const ModelFiles& files, const json::object& config_json);

std::string_view quant_method_text(QuantMethodName method);  // "compressed-tensors"; "none"
std::string_view strategy_text(QuantStrategy strategy);      // "channel"
// "int8 channel, activations int8 token dynamic": what inspect prints.
std::string describe(const QuantGroup& group);

}  // namespace moestro::checkpoint
