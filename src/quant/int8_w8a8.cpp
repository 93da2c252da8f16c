// compressed-tensors "int-quantized" W8A8: X.weight I8 [n, k] and X.weight_scale [n, 1] (per
// channel) or [1] (per tensor), symmetric; activations int8 per token, dynamic. W = q * scale[n].
#include <cmath>
#include <cstring>

#include "base/format.h"
#include "quant/methods.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

float scale_at(const checkpoint::TensorView& t, int64_t i) {
  const std::byte* p = t.bytes.data() + i * (bits(t.dtype) / 8);
  if (t.dtype == DType::kF32) {
    float v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return t.dtype == DType::kBF16 ? to_float(Bf16{half}) : to_float(F16{half});
}

class Int8W8A8 final : public QuantMethod {
 public:
  std::string_view name() const override { return "int8_w8a8"; }
  std::string_view weights() const override { return "int8 per channel"; }
  std::string_view activations() const override { return "int8 per token, dynamic"; }

  bool stored_as(const checkpoint::WeightSource& source, std::string_view module,
                 const checkpoint::QuantGroup* declared) const override {
    if (!source.has(format("{}.weight_scale", module))) return false;
    if (source.has(format("{}.weight_zero_point", module)) &&
        !(declared && declared->weights && declared->weights->symmetric))
      return false;
    if (const checkpoint::TensorInfo* info = source.find(format("{}.weight", module)))
      return info->dtype == DType::kI8;
    return declared && declared->weights && declared->weights->num_bits == 8 &&
           !declared->weights->is_float;
  }

  tensor::PackedFormat packed_format(DType) const override { return tensor::PackedFormat::kInt8; }

  Result<LoadedMatrix> read(const checkpoint::WeightSource& source, std::string_view module,
                            int32_t n, int32_t k) const override {
    LoadedMatrix m;
    MOESTRO_ASSIGN(m.tensor, source.get(format("{}.weight", module), {n, k}, {DType::kI8}));
    const std::string scale_name = format("{}.weight_scale", module);
    const checkpoint::TensorInfo* info = source.find(scale_name);
    const bool per_tensor =
        info && info->shape.size() <= 1 && (info->shape.empty() || info->shape[0] == 1) && n != 1;
    checkpoint::TensorView scale;
    if (per_tensor) {
      MOESTRO_ASSIGN(
          scale, source.get(scale_name, std::span<const int64_t>(info->shape),
                            std::initializer_list<DType>{DType::kF32, DType::kBF16, DType::kF16}));
    } else if (info && info->shape.size() == 1) {
      MOESTRO_ASSIGN(scale, source.get(scale_name, {n}, {DType::kF32, DType::kBF16, DType::kF16}));
    } else {
      MOESTRO_ASSIGN(scale,
                     source.get(scale_name, {n, 1}, {DType::kF32, DType::kBF16, DType::kF16}));
    }
    m.scales.resize(static_cast<size_t>(n));
    for (int32_t i = 0; i < n; ++i) {
      const float s = scale_at(scale, per_tensor ? 0 : i);
      if (!std::isfinite(s))
        return data_loss(
            format("tensor {}: scale {} of channel {} is not a finite number", scale_name, s, i));
      m.scales[static_cast<size_t>(i)] = s;
    }
    m.source = {.data = m.tensor.bytes.data(),
                .dtype = DType::kI8,
                .n = n,
                .k = k,
                .row_bytes = k,
                .scales = m.scales.data()};
    return m;
  }

  Result<LoadedMatrix> read_float(const checkpoint::WeightSource& source, std::string_view module,
                                  int32_t n, int32_t k) const override {
    MOESTRO_ASSIGN(LoadedMatrix m, read(source, module, n, k));
    m.values.resize(static_cast<size_t>(n) * static_cast<size_t>(k));
    const auto* q = reinterpret_cast<const int8_t*>(m.tensor.bytes.data());
    for (int64_t i = 0, at = 0; i < n; ++i)
      for (int32_t j = 0; j < k; ++j, ++at)
        m.values[static_cast<size_t>(at)] =
            static_cast<float>(q[at]) * m.scales[static_cast<size_t>(i)];
    m.source = {.data = reinterpret_cast<const std::byte*>(m.values.data()),
                .dtype = DType::kF32,
                .n = n,
                .k = k,
                .row_bytes = k * int64_t{4},
                .scales = nullptr};
    return m;
  }
};

}  // namespace

const QuantMethod& int8_w8a8() {
  static const Int8W8A8 method;
  return method;
}

}  // namespace moestro::quant
