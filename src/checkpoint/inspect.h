// What `moestro inspect` says about a checkpoint, from config.json and the weights' headers alone:
// no weight is read. One thread. Never fails: what cannot be read is listed under "problems", and
// the rest is still told.
#pragma once
#include <memory>
#include <string>

#include "base/json.h"
#include "checkpoint/model_files.h"

namespace moestro::checkpoint {

// Keys: location, model_type, architecture, dtype, context, parameters {total, active, mtp}, sizes,
// layers, experts (null for dense models), weights {files, tensors, bytes, dtypes}, quantization
// {method, groups, quantized, unquantized}, tokenizer, problems. Parameters count logical elements:
// packed integers unpacked, scales and zero points left out; active ones are those that one token
// uses (embeddings included, the draft layers not). overrides: as for read_model_config.
json::object inspect_checkpoint(std::shared_ptr<const ModelFiles> files,
                                const json::object& overrides);
// The same as aligned text for a terminal, ending with a new line.
std::string inspection_text(const json::object& inspection);

}  // namespace moestro::checkpoint
