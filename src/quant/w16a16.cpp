// Unquantised weights: X.weight [n, k] in bfloat16, float16 or float32; or all experts of a layer
// in one tensor, in either layout (fused_experts.h).
#include "base/format.h"
#include "quant/fused_experts.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

constexpr std::initializer_list<DType> kTypes = {DType::kBF16, DType::kF16, DType::kF32};

// One expert's rows as they lie.
Result<LoadedMatrix> read_fused_rows(const checkpoint::WeightSource& source, const ModuleSpec& spec,
                                     const FusedExpert& x) {
  LoadedMatrix m;
  const int64_t rows = int64_t{spec.n} * x.row_step;
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 source.get_part(x.tensor, x.expert, {rows, spec.k}, kTypes));
  const int64_t row_bytes = spec.k * int64_t{bits(t.dtype) / 8};
  m.source = {.data = t.bytes.data() + x.row_first * spec.n * row_bytes,
              .dtype = t.dtype,
              .n = spec.n,
              .k = spec.k,
              .row_bytes = row_bytes};
  if (x.row_first + 1 == x.row_step)
    m.tensors = {t};  // gate and up share it
  else
    m.owner = t.owner;
  return m;
}

// One expert [k, columns], transposed.
Result<LoadedMatrix> read_fused(const checkpoint::WeightSource& source, const ModuleSpec& spec,
                                const FusedExpert& x) {
  LoadedMatrix m;
  const int64_t columns = int64_t{spec.n} * x.row_step;
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 source.get_part(x.tensor, x.expert, {spec.k, columns}, kTypes));
  const int64_t size = bits(t.dtype) / 8, k = spec.k, row_bytes = k * size;
  m.source = {.data = nullptr, .dtype = t.dtype, .n = spec.n, .k = spec.k, .row_bytes = row_bytes};
  m.make_rows = [=, first = x.row_first, step = x.row_step](int32_t begin, int32_t end,
                                                            std::byte* out) {
    for (int64_t i = 0; i < k; ++i)
      for (int64_t c = begin; c < end; ++c)
        std::memcpy(out + (c - begin) * row_bytes + i * size,
                    t.bytes.data() + (i * columns + c * step + first) * size,
                    static_cast<size_t>(size));
  };
  if (x.row_first + 1 == x.row_step) m.tensors = {t};  // gate and up share it
  return m;
}

class W16A16 final : public QuantMethod {
 public:
  std::string_view name() const override { return "w16a16"; }
  bool stored_as(const ModuleFacts& facts) const override {
    if (facts.has(Part::kScale) || facts.has(Part::kScaleInv)) return false;
    // Without headers too (made-up weights): no quantised form is a weight alone, and what a config
    // says of every Linear does not hold for routers, which are none in the reference.
    if (facts.has(Part::kWeight)) return facts.is_type(Part::kWeight, kTypes, true);
    const auto x = fused_expert(facts.module);
    return x && facts.source.has(x->tensor);
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    spec.format =
        facts.compute == DType::kF32 ? tensor::PackedFormat::kF32 : tensor::PackedFormat::kBf16;
    spec.weights = "float as stored";
    spec.activations = "compute type";
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    const std::string name = tensor_name(spec.module, Part::kWeight);
    if (!source.has(name))
      if (const auto x = fused_expert(spec.module)) {
        const auto shape = fused_shape(source, x->tensor.substr(0, x->tensor.rfind('.') + 1));
        return shape && shape->is_output_major ? read_fused_rows(source, spec, *x)
                                               : read_fused(source, spec, *x);
      }
    LoadedMatrix m;
    MOESTRO_ASSIGN(const checkpoint::TensorView t, source.get(name, {spec.n, spec.k}, kTypes));
    m.tensors.push_back(t);
    m.source = {.data = t.bytes.data(),
                .dtype = t.dtype,
                .n = spec.n,
                .k = spec.k,
                .row_bytes = spec.k * int64_t{bits(t.dtype) / 8}};
    return m;
  }
};

}  // namespace

const QuantMethod& w16a16() {
  static const W16A16 method;
  return method;
}

}  // namespace moestro::quant
