#include "quant/int4.h"

#include "base/format.h"
#include "quant/activations.h"
#include "quant/dequantise.h"

namespace moestro::quant {

Result<int32_t> group_size(const ModuleFacts& facts, int64_t groups_in_header) {
  const checkpoint::QuantArgs* w = facts.weight_args();
  const int32_t declared = w && w->group_size > 0 ? w->group_size : facts.k;
  if (groups_in_header <= 0) {
    if (facts.k % declared == 0) return declared;
    return unsupported(format("{}: {} inputs are not a multiple of the group size {}", facts.module,
                              facts.k, declared));
  }
  if (facts.k % groups_in_header != 0)
    return unsupported(
        format("{}: {} inputs in {} groups; groups that are not all of one size are not read",
               facts.module, facts.k, groups_in_header));
  const auto found = static_cast<int32_t>(facts.k / groups_in_header);
  if (w && w->group_size > 0 && declared != found && declared < facts.k)
    return data_loss(format("{}: its scales make groups of {}, the config declares {}",
                            facts.module, found, declared));
  return found;
}

tensor::PackedFormat stored_format(const Grouping& g, int32_t k) {
  tensor::PackedFormat f;
  f.weight = g.bits == 4 ? tensor::WeightType::kInt4 : tensor::WeightType::kInt8;
  f.zero_points = g.zero_points;
  f.group_k = is_repeated(g, k) ? kRepeatedGroup : g.group_k == k ? 0 : g.group_k;
  f.group_scale = f.group_k ? g.scale : DType::kF32;
  return f;
}

void describe_grouping(const ModuleFacts& facts, const Grouping& g, ModuleSpec& spec) {
  std::string words = g.group_k == facts.k ? format("int{} per channel", g.bits)
                                           : format("int{}, groups of {}", g.bits, g.group_k);
  if (g.zero_points) words += ", zero points";
  spec.format = stored_format(g, facts.k);
  choose_activations(facts, words, spec);
  const bool in_floats = !tensor::has_channel_scales(spec.format);
  if (g.permuted) {
    run_in_floats(spec, facts.compute, format("int{} weights with a group index", g.bits),
                  "their columns are not in runs of one group", g.bits);
  } else if (g.bits == 8 && !in_floats && (g.zero_points || spec.format.group_k)) {
    run_in_floats(spec, facts.compute, words + " weights",
                  "no kernel has groups or zero points for int8", 8);
  }
}

}  // namespace moestro::quant
