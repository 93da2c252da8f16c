#include "quant/int4.h"

#include <algorithm>

#include "base/format.h"
#include "quant/activations.h"
#include "quant/dequantise.h"

namespace moestro::quant {

Status set_groups(const ModuleFacts& facts, int64_t groups_in_header, Grouping& g) {
  const checkpoint::QuantArgs* w = facts.weight_args();
  const int32_t declared = w ? std::max(w->group_size, 0) : 0;
  const int64_t groups = groups_in_header > 0 ? groups_in_header
                         : declared > 0       ? (facts.k + declared - 1) / declared
                                              : 1;
  if (groups == 1 && (declared == 0 || declared >= facts.k)) {
    g.group_k = declared ? declared : facts.k;
    g.per_channel = declared == 0;
    return {};
  }
  if (facts.k % groups != 0)
    return unsupported(
        format("{}: {} inputs in {} groups; groups that are not all of one size are not read",
               facts.module, facts.k, groups));
  g.group_k = static_cast<int32_t>(facts.k / groups);
  if (declared > 0 && declared != g.group_k)
    return data_loss(format("{}: its scales make groups of {}, the config declares {}",
                            facts.module, g.group_k, declared));
  return {};
}

tensor::PackedFormat stored_format(const Grouping& g) {
  tensor::PackedFormat f;
  f.weight = g.bits == 4 ? tensor::WeightType::kInt4 : tensor::WeightType::kInt8;
  f.zero_points = g.zero_points;
  f.group_k = is_repeated(g) ? kRepeatedGroup : g.per_channel ? 0 : g.group_k;
  f.group_scale = f.group_k ? g.scale : DType::kF32;
  return f;
}

void describe_grouping(const ModuleFacts& facts, const Grouping& g, ModuleSpec& spec) {
  std::string words = g.per_channel ? format("int{} per channel", g.bits)
                                    : format("int{}, groups of {}", g.bits, g.group_k);
  if (g.zero_points) words += ", zero points";
  spec.format = stored_format(g);
  choose_activations(facts, words, spec);
  const bool in_floats = !tensor::has_channel_scales(spec.format);
  if (g.permuted) spec.weights += ", columns in activation order";
  // (Of one group too, so that the matrices of an MLP stay of one format.)
  const checkpoint::QuantArgs* w = facts.weight_args();
  const bool has_index = facts.has(Part::kGroupIndex) || (w && w->actorder);
  if (has_index && g.bits == 4 && !in_floats && facts.actorder_in_floats) {
    run_in_floats(spec, facts.compute, "int4 weights in activation order",
                  "quantization_config has actorder_in_floats", 4);
  } else if (g.bits == 8 && !in_floats && (g.zero_points || spec.format.group_k)) {
    run_in_floats(spec, facts.compute, words + " weights",
                  "no kernel has groups or zero points for int8", 8);
  }
}

}  // namespace moestro::quant
