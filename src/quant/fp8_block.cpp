// float8 e4m3 with a scale a block: compressed-tensors' X.weight_scale, DeepSeek's
// X.weight_scale_inv (a multiplier too, whatever its name) [ceil(n / 128), ceil(k / 128)], edge
// blocks partial; float32, bfloat16 or powers of two. Activations e4m3 per token and 128 values,
// scale absmax / 448, rounded up to a power of two where scale_fmt is ue8m0. MXFP8 is the same with
// blocks of 1x32.
#include "quant/eight_bit.h"
#include "quant/methods.h"

namespace moestro::quant {
namespace {

class Fp8Block final : public QuantMethod {
 public:
  std::string_view name() const override { return "fp8_block"; }
  bool stored_as(const ModuleFacts& facts) const override {
    return has_block_scales(kFp8Codes, facts);
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    MOESTRO_TRY(describe_blocks(kFp8Codes, facts, spec));
    if (facts.declares("mxfp8-quantized") && spec.format.activation_group)
      spec.format.activation_pow2 = true;
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    return read_blocks(kFp8Codes, source, spec);
  }
};

}  // namespace

const QuantMethod& fp8_block() {
  static const Fp8Block method;
  return method;
}

}  // namespace moestro::quant
