// Decoder: the loaded form of a DecoderSpec. Owns weights and step memory.
#pragma once
#include <memory>
#include <vector>

#include "layers/embedding.h"
#include "models/decoder_spec.h"
#include "moe/dispatch/dispatch.h"
#include "platform/arena.h"

namespace moestro::models {

// Floats of a step's arrays beside the layers' workspaces; shared by planning and loading.
struct DecoderArrays {
  float *x, *h, *rope_cos, *rope_sin, *logits_rows, *workspace;
  int32_t *selected, *num_selected;
  // Lays the arrays out from base (may be null); returns their bytes.
  int64_t lay_out(std::byte* base, const DecoderSpec& spec, int64_t workspace_floats);
};

// The largest workspace that any layer needs for max_tokens.
int64_t decoder_workspace_floats(const DecoderSpec& spec);

Result<std::unique_ptr<Model>> load_decoder(const DecoderSpec& spec, const LoadRequest& request);

}  // namespace moestro::models
