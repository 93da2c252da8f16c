// --quantization against what the checkpoint says: match, another name for it, or refusal. Pure;
// called by app/ before anything is planned. Names: those that vLLM's registry has, and Hygon's.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/quant_config.h"

namespace moestro::checkpoint {

// What the flag comes to, for people: "-q slimquant_marlin: the checkpoint is compressed-tensors
// (int8 channel, …), which that name's kernels read too; it is read as such, and the plan chooses
// kernels". Empty: not asked. kInvalidArgument: the checkpoint is not what was asked for, with what
// it is; or no such name, with the known ones.
Result<std::string> resolve_quantization(const std::optional<std::string>& asked,
                                         const QuantConfig& quant);

}  // namespace moestro::checkpoint
