// slimquant_w4a8's int4 experts (the rest of such a checkpoint is int8_w8a8). Two dialects on disk:
// - the converter's: X.weight I8 [n, k / 2], the high nibble is the even k, two's complement;
//   X.weight_scale [n, 1] holds scale / 16, because the vendor's kernel leaves a code in the high
//   half of its byte, or the scale itself (checkpoint/slimquant_scales.h). W = q * 16 *
//   weight_scale, or without the 16.
// - the provider's ("w4_dir"): X.qweight U8 or I8 [n, k / 2], the low nibble is the even k, two's
//   complement; X.scales [n, 1] holds the scale.
// Activations int8 per token.
#include "base/format.h"
#include "quant/activations.h"
#include "quant/dequantise.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

class SlimquantW4A8 final : public QuantMethod {
 public:
  std::string_view name() const override { return "slimquant_w4a8"; }
  bool stored_as(const ModuleFacts& facts) const override {
    if (facts.is_type(Part::kQweight, {DType::kU8, DType::kI8},
                      facts.declares("slimquant-int4-provider")))
      return true;
    // Some experts of such a checkpoint are int8: their rows are twice as long.
    if (!facts.declares("slimquant-int4") || !facts.is_type(Part::kWeight, {DType::kI8}, true))
      return false;
    const checkpoint::TensorInfo* w = facts.info(Part::kWeight);
    return !w || (w->shape.size() == 2 && w->shape[1] * 2 == facts.k);
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    if (facts.k % 2 != 0)
      return unsupported(
          format("{}: {} inputs do not fill bytes of two codes", facts.module, facts.k));
    spec.format = {.weight = tensor::WeightType::kInt4};
    choose_activations(facts, "int4 per channel", spec);
    if (!facts.has(Part::kQweight) && facts.declared) describe_scales(*facts.declared, spec);
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    const bool provider = source.has(tensor_name(spec.module, Part::kQweight));
    LoadedMatrix m;
    MOESTRO_ASSIGN(const checkpoint::TensorView weight,
                   source.get(tensor_name(spec.module, provider ? Part::kQweight : Part::kWeight),
                              {spec.n, spec.k / 2}, {DType::kI8, DType::kU8}));
    m.tensors.push_back(weight);
    m.stored.weight = tensor::WeightType::kInt4;
    const int64_t row_bytes = spec.k / 2;
    m.source = {
        .data = nullptr, .dtype = DType::kU8, .n = spec.n, .k = spec.k, .row_bytes = row_bytes};
    m.make_rows = [=](int32_t begin, int32_t end, std::byte* out) {
      const std::byte* from = weight.bytes.data() + begin * row_bytes;
      for (int64_t i = 0; i < (end - begin) * row_bytes; ++i) {  // two's complement + 8, even k low
        const auto byte = std::to_integer<uint32_t>(from[i]);
        out[i] = static_cast<std::byte>((provider ? byte : byte >> 4 | byte << 4) ^ 0x88);
      }
    };
    MOESTRO_TRY(read_channel_scales(
        source, tensor_name(spec.module, provider ? Part::kQscales : Part::kScale), spec.n, m,
        provider ? 1.0f : divisor_of(spec.declared)));
    return m;
  }

 private:
  static float divisor_of(const checkpoint::QuantGroup* declared) {
    return declared && declared->scale_divisor ? static_cast<float>(declared->scale_divisor)
                                               : 16.0f;
  }
  // Which reading it is; a guess is one of the substitutions.
  static void describe_scales(const checkpoint::QuantGroup& declared, ModuleSpec& spec) {
    if (declared.scale_divisor)
      spec.weights += declared.scale_divisor == 16 ? ", stored scales are a sixteenth"
                                                   : ", stored scales are whole";
    if (!declared.scale_is_guess) return;
    spec.substitution =
        substitution("int4 experts whose scales may be whole or a sixteenth",
                     "read as a sixteenth, as the converter writes them", declared.scale_reading,
                     "none, or weights 16 times too large: then set "
                     "--hf-overrides.quantization_config.int4_scale_divisor 1 (16 confirms this)");
  }
};

}  // namespace

const QuantMethod& slimquant_w4a8() {
  static const SlimquantW4A8 method;
  return method;
}

}  // namespace moestro::quant
