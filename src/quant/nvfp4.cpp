// NVFP4: e2m1 codes, the low nibble is the even k, a float8 e4m3 scale for 16 values and one
// float32 for the matrix. compressed-tensors: X.weight_packed U8 [n, k / 2], X.weight_scale
// [n, k / 16], X.weight_global_scale [1], a divisor. ModelOpt: X.weight, X.weight_scale and
// X.weight_scale_2, a multiplier. Activations declared as fp4 run in bfloat16.
#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "quant/activations.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

constexpr int32_t kGroup = 16;

class Nvfp4 final : public QuantMethod {
 public:
  std::string_view name() const override { return "nvfp4"; }
  bool stored_as(const ModuleFacts& facts) const override {
    if (facts.has(Part::kGlobalScale))
      return facts.is_type(Part::kPacked, {DType::kU8}, facts.declares("nvfp4-pack-quantized"));
    return facts.has(Part::kScale2) &&
           facts.is_type(Part::kWeight, {DType::kU8}, facts.declares("nvfp4-modelopt"));
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    if (facts.k % kGroup != 0)
      return unsupported(format("{}: {} inputs are not a multiple of the group of {}", facts.module,
                                facts.k, kGroup));
    spec.format = {
        .weight = tensor::WeightType::kFp4, .group_k = kGroup, .group_scale = DType::kF8E4M3};
    choose_activations(facts, "fp4, groups of 16 (e4m3)", spec);
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    const std::string divisor = tensor_name(spec.module, Part::kGlobalScale);
    const bool modelopt = !source.has(divisor);
    const std::string global_name = modelopt ? tensor_name(spec.module, Part::kScale2) : divisor;
    LoadedMatrix m;
    MOESTRO_ASSIGN(const checkpoint::TensorView weight,
                   source.get(tensor_name(spec.module, modelopt ? Part::kWeight : Part::kPacked),
                              {spec.n, spec.k / 2}, {DType::kU8}));
    m.tensors.push_back(weight);
    m.stored = {.weight = tensor::WeightType::kFp4, .group_k = kGroup};
    m.source = {.data = weight.bytes.data(),
                .dtype = DType::kF4,
                .n = spec.n,
                .k = spec.k,
                .row_bytes = spec.k / 2};
    MOESTRO_TRY(read_group_scales(source, tensor_name(spec.module, Part::kScale), spec.n,
                                  spec.k / kGroup, {DType::kF8E4M3}, m));
    MOESTRO_ASSIGN(const float global, read_scalar(source, global_name, m));
    const float factor = modelopt ? global : 1.0f / global;
    if (!std::isfinite(factor))
      return data_loss(
          format("tensor {}: a global scale of {} has no inverse", global_name, global));
    m.scales.assign(static_cast<size_t>(spec.n), factor);
    m.source.scales = m.scales.data();
    return m;
  }
};

}  // namespace

const QuantMethod& nvfp4() {
  static const Nvfp4 method;
  return method;
}

}  // namespace moestro::quant
