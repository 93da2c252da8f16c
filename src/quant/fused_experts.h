// Checkpoints that keep all experts of a layer in one tensor (gpt_oss; models.md names and shapes):
// models/ asks for ".experts.7.gate_proj" as everywhere, and this finds its rows. Pure functions.
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
  // Channel c of the module is row (or column) row_first + c * row_step of the expert's matrix.
  int32_t row_first = 0, row_step = 1;
};
// module: "….experts.7.gate_proj", "….up_proj" or "….down_proj"; anything else: none.
std::optional<FusedExpert> fused_expert(std::string_view module);

bool has_fused_bias(const checkpoint::WeightSource& source, std::string_view module);
// The module's part of P.experts.gate_up_proj_bias [experts, 2 * intermediate] or down_proj_bias.
Result<std::vector<float>> read_fused_bias(const checkpoint::WeightSource& source,
                                           const ModuleSpec& spec);

}  // namespace moestro::quant
