// int8 with a scale a channel or one in all: X.weight I8 [n, k], X.weight_scale [n, 1] or [1]
// (compressed-tensors "int-quantized", slimquant, Ascend's W8A8_DYNAMIC). W = (q - zero point) *
// scale[n]; activations int8 per token, dynamic. Zero points (X.weight_zero_point I8 [n, 1] or [1])
// count only where the config declares asymmetric weights or nothing.
#include "base/format.h"
#include "quant/activations.h"
#include "quant/dequantise.h"
#include "quant/eight_bit.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

bool is_asymmetric(const checkpoint::WeightSource& source, std::string_view module,
                   const checkpoint::QuantGroup* declared) {
  if (declared && declared->weights && declared->weights->symmetric) return false;
  return source.has(tensor_name(module, Part::kZeroPoint));
}

// Ascend writes X.weight_offset, zeros where the weights are symmetric.
Status check_offset(const checkpoint::WeightSource& source, const ModuleSpec& spec,
                    LoadedMatrix& m) {
  const std::string name = format("{}.weight_offset", spec.module);
  if (!source.has(name)) return {};
  MOESTRO_ASSIGN(const checkpoint::TensorView offset,
                 read_scale_tensor(source, name, {spec.n, 1}, kFloatTypes, m));
  for (int32_t c = 0; c < spec.n; ++c)
    if (float_at(offset.bytes.data(), offset.dtype, c) != 0)
      return unsupported(
          format("tensor {}: channel {} is not zero; only symmetric weights are read", name, c));
  return {};
}

Status subtract_zero_points(const checkpoint::WeightSource& source, const ModuleSpec& spec,
                            LoadedMatrix& m) {
  const std::string name = tensor_name(spec.module, Part::kZeroPoint);
  const checkpoint::TensorInfo* info = source.find(name);
  const bool one = info && info->shape.size() <= 1;
  const std::vector<int64_t> shape = one ? info->shape : std::vector<int64_t>{spec.n, 1};
  const std::initializer_list<DType> types = {DType::kI8};
  MOESTRO_ASSIGN(const checkpoint::TensorView zero, source.get(name, shape, types));
  if (zero.num_elements() != 1 && zero.num_elements() != spec.n)
    return data_loss(
        format("tensor {} has {} elements, wanted 1 or {}", name, zero.num_elements(), spec.n));
  const kernels::SourceMatrix q = m.source;
  const bool single = zero.num_elements() == 1;
  const checkpoint::TensorView weight = m.tensors.front();  // keeps made-up codes
  set_values(
      m, spec.n, spec.k,
      [q, weight](int32_t c, int32_t i) {
        return static_cast<int32_t>(std::to_integer<int8_t>(q.data[c * q.row_bytes + i]));
      },
      [zero, single](int32_t c, int32_t) {
        return static_cast<int32_t>(
            std::to_integer<int8_t>(zero.bytes[static_cast<size_t>(single ? 0 : c)]));
      },
      [q](int32_t c, int32_t) { return q.scales[c]; }, [](int32_t) { return 0; });
  return {};
}

class Int8W8A8 final : public QuantMethod {
 public:
  std::string_view name() const override { return "int8_w8a8"; }
  bool stored_as(const ModuleFacts& facts) const override {
    return has_channel_scales_of(kInt8Codes, facts);
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    spec.format = tensor::PackedFormat::kInt8;
    const checkpoint::TensorInfo* scale = facts.info(Part::kScale);
    const bool one = scale && (scale->shape.empty() || scale->shape[0] == 1) && facts.n != 1;
    choose_activations(facts, one ? "int8 per tensor" : "int8 per channel", spec);
    if (is_asymmetric(facts.source, facts.module, facts.declared)) {
      spec.weights += ", zero points";
      run_in_floats(spec, facts.compute, "asymmetric int8 weights",
                    "no kernel subtracts zero points from int8", 8);
    }
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    MOESTRO_ASSIGN(LoadedMatrix m, read_codes(kInt8Codes, source, spec));
    MOESTRO_TRY(read_channel_scales(source, tensor_name(spec.module, Part::kScale), spec.n, m));
    MOESTRO_TRY(check_offset(source, spec, m));
    if (is_asymmetric(source, spec.module, spec.declared))
      MOESTRO_TRY(subtract_zero_points(source, spec, m));
    return m;
  }
};

}  // namespace

const QuantMethod& int8_w8a8() {
  static const Int8W8A8 method;
  return method;
}

}  // namespace moestro::quant
