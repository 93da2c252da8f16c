#include "quant/activations.h"

#include "base/format.h"
#include "quant/dequantise.h"

namespace moestro::quant {
namespace {

using checkpoint::QuantArgs;
using checkpoint::QuantStrategy;
using tensor::ActivationType;
using tensor::WeightType;

std::string kind_of(const QuantArgs& a) {
  return format("{}{}", a.is_float ? "fp" : "int", a.num_bits);
}

// What the rounding while running does otherwise than declared; empty: nothing.
std::string departure(const QuantArgs& a, const tensor::PackedFormat& f) {
  const std::string got = format("{}, dynamic", tensor::activation_name(f));
  if (!a.dynamic)
    return substitution(format("{} activations with a static scale", kind_of(a)), got,
                        "activations here are rounded by what they hold, not by recorded scales",
                        "one more pass over them; finer, not coarser");
  if (!a.symmetric)
    return substitution(format("asymmetric {} activations", kind_of(a)), got,
                        "activations here have no zero point", "up to one bit of their precision");
  const bool grouped = a.strategy == QuantStrategy::kGroup;
  if (a.strategy == QuantStrategy::kTensor || (grouped ? a.group_size : 0) != f.activation_group)
    return substitution(format("{} activations, a scale a {}", kind_of(a),
                               grouped ? format("group of {}", a.group_size)
                                       : std::string(checkpoint::strategy_text(a.strategy))),
                        got, "kernels here scale them by token and by the weights' groups",
                        f.activation_group || a.strategy == QuantStrategy::kTensor
                            ? "none, it is finer"
                            : "coarser scales");
  return {};
}

// The activation type that kernels pair with the weight for declared args; kF32: none.
ActivationType paired(WeightType weight, const QuantArgs& a) {
  if (a.num_bits != 8) return ActivationType::kF32;
  if (!a.is_float && (weight == WeightType::kInt8 || weight == WeightType::kInt4))
    return ActivationType::kInt8;
  return a.is_float && weight == WeightType::kFp8 ? ActivationType::kFp8 : ActivationType::kF32;
}

}  // namespace

void choose_activations(const ModuleFacts& facts, std::string_view weights, ModuleSpec& spec) {
  const QuantArgs* a = facts.activation_args();
  tensor::PackedFormat& f = spec.format;
  spec.weights = weights;
  // Eight-bit weights that no config describes are those of W8A8.
  static const QuantArgs kInt8Token{.strategy = QuantStrategy::kToken, .dynamic = true};
  static const QuantArgs kFp8Token{
      .is_float = true, .strategy = QuantStrategy::kToken, .dynamic = true};
  const bool undescribed = !facts.declared && tensor::bits_of(f.weight) == 8;
  if (undescribed) a = f.weight == WeightType::kFp8 ? &kFp8Token : &kInt8Token;
  const ActivationType type = a ? paired(f.weight, *a) : ActivationType::kF32;
  if (type != ActivationType::kF32) {
    f.activation = type;
    const bool eight_bit_groups = f.group_k && tensor::bits_of(f.weight) == 8;
    f.activation_group = eight_bit_groups ? f.group_k : 0;
    f.activation_pow2 = f.activation_group && facts.pow2_scales;
    spec.activations = format("{}, dynamic", tensor::activation_name(f));
    if (!undescribed) spec.substitution = departure(*a, f);
    return;
  }
  const std::string asked =
      format("{} x {}", weights, a ? kind_of(*a) : std::string(torch_name(facts.compute)));
  if (f.weight == WeightType::kInt8)
    return run_in_floats(spec, facts.compute, asked, "no kernel multiplies that pair", 8);
  if (facts.compute == DType::kF32)
    return run_in_floats(spec, facts.compute, asked,
                         "no kernel multiplies codes by float32 activations",
                         tensor::bits_of(f.weight));
  f.activation = ActivationType::kBf16;
  spec.activations = torch_name(facts.compute);
  if (a)
    spec.substitution =
        substitution(asked, "bfloat16 activations", "no kernel multiplies that pair",
                     "none of the speed of narrow activations; accuracy is better");
}

}  // namespace moestro::quant
