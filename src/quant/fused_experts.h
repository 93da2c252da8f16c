// Checkpoints that keep all experts of a layer in one tensor, P.experts.gate_up_proj and down_proj:
// models/ asks for ".experts.7.gate_proj" as everywhere, and this finds its rows. Pure functions.
// Two layouts:
// - gpt_oss: [experts, hidden, 2 * intermediate], columns gate 0, up 0, gate 1, …, and [experts,
//   intermediate, hidden]; its four-bit tensors are output-major with rows in that order;
// - transformers 5 in memory, and files that were saved so: [experts, 2 * intermediate, hidden],
// all
//   rows of gate before those of up, and [experts, hidden, intermediate].
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/weight_source.h"
#include "quant/quant_method.h"

namespace moestro::quant {

struct FusedExpert {
  std::string tensor;  // "model.layers.3.mlp.experts.gate_up_proj"
  int64_t expert = 0;
  // gpt_oss: channel c of the module is row (or column) row_first + c * row_step of the expert's
  // matrix.
  int32_t row_first = 0, row_step = 1;
};
// Sizes of such experts, from the shapes of the two tensors.
struct FusedShape {
  int64_t experts = 0;
  int32_t hidden = 0, intermediate = 0;
  bool is_output_major = false;  // transformers' layout
};
// experts: "….experts." None: the tensors are absent, made up, or of shapes that fit neither
// layout.
std::optional<FusedShape> fused_shape(const checkpoint::WeightSource& source,
                                      const std::string& experts);
// module: "….experts.7.gate_proj", "….up_proj" or "….down_proj"; anything else: none.
std::optional<FusedExpert> fused_expert(std::string_view module);

bool has_fused_bias(const checkpoint::WeightSource& source, std::string_view module);
// The module's part of P.experts.gate_up_proj_bias [experts, 2 * intermediate] or down_proj_bias.
Result<std::vector<float>> read_fused_bias(const checkpoint::WeightSource& source,
                                           const ModuleSpec& spec);

}  // namespace moestro::quant
