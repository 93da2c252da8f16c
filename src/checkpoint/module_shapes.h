// Which linear layers a model of a given config has, by the names on disk, and how wide they are.
// Made-up weights need this to answer "is it there?" and to choose scales; real checkpoints answer
// for themselves, so nothing else may depend on it. Names and shapes: reference facts "tensor names
// and shapes on disk". Pure functions.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "checkpoint/model_config.h"

namespace moestro::checkpoint {

struct LinearShape {
  int64_t rows = 0, width = 0;  // weight [rows, width]
  bool bias = false;
};

// module: "model.layers.3.mlp.experts.7.gate_proj"; none if a model like this has no such linear
// layer.
std::optional<LinearShape> linear_shape(const ModelConfig& config, std::string_view module);
// Parameters that belong to no linear layer: norms, embeddings, router biases, sinks, gpt_oss'
// fused experts.
bool has_plain_parameter(const ModelConfig& config, std::string_view tensor);

}  // namespace moestro::checkpoint
