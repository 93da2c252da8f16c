// A checkpoint into a quantised checkpoint that other engines load too: what `moestro quantize`
// does. Streams: one matrix at a time is in memory. The result appears whole or not at all: files
// are written to a directory beside OUT that takes OUT's name at the end. Called on the main
// thread; the gang's workers quantise.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/model_files.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"
#include "platform/gang.h"
#include "quant/quantizer.h"

namespace moestro::quant {

struct ConvertRequest {
  const checkpoint::ModelFiles& files;
  const checkpoint::WeightSource& source;
  const checkpoint::QuantConfig& quant;  // of the source: eight-bit ones are dequantised first
  const QuantizeScheme& scheme;
  std::vector<std::string> ignore;  // beside default_ignore(): names or "re:" patterns
  std::string out;                  // not there yet, or an empty directory
  uint64_t max_shard_bytes = 5'000'000'000;
  platform::Gang& gang;
  std::function<void(uint64_t source_bytes)> progress;  // may be empty
};

struct ConvertResult {
  int64_t quantized = 0;                       // modules
  std::vector<std::string> left;               // Linear modules that stayed as they were
  std::vector<std::string> notes;              // why some of them did, against the scheme
  uint64_t bytes_read = 0, bytes_written = 0;  // of tensors
};

// OUT exists and is not empty: kInvalidArgument. A source of four-bit weights: kUnsupported. No
// space, no permission: the error names the file, and nothing is left behind.
Result<ConvertResult> convert_checkpoint(const ConvertRequest& request);

}  // namespace moestro::quant
