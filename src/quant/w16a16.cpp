// Unquantised weights: X.weight [n, k] in bfloat16, float16 or float32.
#include "base/format.h"
#include "quant/methods.h"

namespace moestro::quant {
namespace {

class W16A16 final : public QuantMethod {
 public:
  std::string_view name() const override { return "w16a16"; }
  std::string_view weights() const override { return "float as stored"; }
  std::string_view activations() const override { return "compute type"; }

  bool stored_as(const checkpoint::WeightSource& source, std::string_view module,
                 const checkpoint::QuantGroup* declared) const override {
    const std::string weight = format("{}.weight", module);
    if (source.has(format("{}.weight_scale", module)) ||
        source.has(format("{}.weight_scale_inv", module)))
      return false;
    if (const checkpoint::TensorInfo* info = source.find(weight))
      return info->dtype == DType::kBF16 || info->dtype == DType::kF16 ||
             info->dtype == DType::kF32;
    return declared == nullptr && source.has(weight);
  }

  tensor::PackedFormat packed_format(DType compute) const override {
    return compute == DType::kF32 ? tensor::PackedFormat::kF32 : tensor::PackedFormat::kBf16;
  }

  Result<LoadedMatrix> read(const checkpoint::WeightSource& source, std::string_view module,
                            int32_t n, int32_t k) const override {
    LoadedMatrix m;
    MOESTRO_ASSIGN(m.tensor, source.get(format("{}.weight", module), {n, k},
                                        {DType::kBF16, DType::kF16, DType::kF32}));
    m.source = {.data = m.tensor.bytes.data(),
                .dtype = m.tensor.dtype,
                .n = n,
                .k = k,
                .row_bytes = k * int64_t{bits(m.tensor.dtype) / 8},
                .scales = nullptr};
    return m;
  }

  Result<LoadedMatrix> read_float(const checkpoint::WeightSource& source, std::string_view module,
                                  int32_t n, int32_t k) const override {
    return read(source, module, n, k);
  }
};

}  // namespace

const QuantMethod& w16a16() {
  static const W16A16 method;
  return method;
}

}  // namespace moestro::quant
