// float8 e4m3 with a scale a channel or one in all: X.weight F8_E4M3 [n, k], X.weight_scale [n, 1],
// [1] or a scalar (compressed-tensors, quant_method fp8 without blocks, ModelOpt FP8). W = e4m3 *
// scale[n]. Activations e4m3 per token, scale absmax / 448; X.input_scale is not used.
#include "base/format.h"
#include "quant/activations.h"
#include "quant/eight_bit.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

class Fp8W8A8 final : public QuantMethod {
 public:
  std::string_view name() const override { return "fp8_w8a8"; }
  bool stored_as(const ModuleFacts& facts) const override {
    return has_channel_scales_of(kFp8Codes, facts);
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    spec.format = {.weight = tensor::WeightType::kFp8};
    const checkpoint::TensorInfo* scale = facts.info(Part::kScale);
    const bool one = scale && (scale->shape.empty() || scale->shape[0] == 1) && facts.n != 1;
    choose_activations(facts, one ? "fp8 per tensor" : "fp8 per channel", spec);
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    MOESTRO_ASSIGN(LoadedMatrix m, read_codes(kFp8Codes, source, spec));
    MOESTRO_TRY(read_channel_scales(source, tensor_name(spec.module, Part::kScale), spec.n, m));
    return m;
  }
};

}  // namespace

const QuantMethod& fp8_w8a8() {
  static const Fp8W8A8 method;
  return method;
}

}  // namespace moestro::quant
