// int8 with a scale a block: X.weight I8 [n, k], X.weight_scale or X.weight_scale_inv
// [ceil(n / 128), ceil(k / 128)] (or the sizes that the config declares), a multiplier; activations
// int8 per token and as many values as a block is deep.
#include "quant/eight_bit.h"
#include "quant/methods.h"

namespace moestro::quant {
namespace {

class Int8Block final : public QuantMethod {
 public:
  std::string_view name() const override { return "int8_block"; }
  bool stored_as(const ModuleFacts& facts) const override {
    return has_block_scales(kInt8Codes, facts);
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    return describe_blocks(kInt8Codes, facts, spec);
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    return read_blocks(kInt8Codes, source, spec);
  }
};

}  // namespace

const QuantMethod& int8_block() {
  static const Int8Block method;
  return method;
}

}  // namespace moestro::quant
