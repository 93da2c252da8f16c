// MXFP4: e2m1 codes, the low nibble is the even k, a power of two (E8M0, byte - 127) for 32 values.
// compressed-tensors: X.weight_packed U8 [n, k / 2], X.weight_scale U8 [n, k / 32]. gpt_oss: all
// experts of a layer in P.experts.gate_up_proj_blocks U8 [experts, 2 * intermediate, hidden / 32,
// 16] with rows gate 0, up 0, gate 1, … and _scales [experts, rows, groups]; down_proj alike.
// Activations declared as fp4 run in bfloat16.
#include "base/format.h"
#include "quant/activations.h"
#include "quant/fused_experts.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

constexpr int32_t kGroup = 32;
constexpr tensor::PackedFormat kStored = {
    .weight = tensor::WeightType::kFp4, .group_k = kGroup, .group_scale = DType::kF8E8M0};

Result<LoadedMatrix> read_fused(const checkpoint::WeightSource& source, const ModuleSpec& spec,
                                const FusedExpert& x) {
  LoadedMatrix m;
  m.stored = kStored;
  const int32_t groups = spec.k / kGroup;
  const int64_t rows = int64_t{spec.n} * x.row_step;
  MOESTRO_ASSIGN(
      const checkpoint::TensorView blocks,
      source.get_part(x.tensor + "_blocks", x.expert, {rows, groups, kGroup / 2}, {DType::kU8}));
  MOESTRO_ASSIGN(const checkpoint::TensorView scales,
                 source.get_part(x.tensor + "_scales", x.expert, {rows, groups}, kPow2Types));
  m.source = {.data = blocks.bytes.data() + int64_t{x.row_first} * (spec.k / 2),
              .dtype = DType::kF4,
              .n = spec.n,
              .k = spec.k,
              .row_bytes = int64_t{spec.k / 2} * x.row_step};
  for (int32_t c = 0; c < spec.n; ++c)
    for (int32_t g = 0; g < groups; ++g) {
      const std::byte s =
          scales.bytes[static_cast<size_t>((c * x.row_step + x.row_first) * groups + g)];
      if (s == std::byte{255})
        return data_loss(
            format("tensor {}_scales: the scale of expert {}, row {}, group {} is not "
                   "a number",
                   x.tensor, x.expert, c * x.row_step + x.row_first, g));
      m.group_scales.push_back(s);
    }
  m.source.group_scales = m.group_scales.data();
  m.owner = blocks.owner;
  // Gate and up share these bytes: whoever reads the last row is done with them.
  if (x.row_first + 1 == x.row_step) m.tensors = {blocks, scales};
  return m;
}

class Mxfp4 final : public QuantMethod {
 public:
  std::string_view name() const override { return "mxfp4"; }
  bool stored_as(const ModuleFacts& facts) const override {
    if (facts.is_type(Part::kPacked, {DType::kU8}, facts.declares("mxfp4-pack-quantized")))
      return !facts.has(Part::kGlobalScale);
    const auto x = fused_expert(facts.module);
    return x && facts.source.has(x->tensor + "_blocks");
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    if (facts.k % kGroup != 0)
      return unsupported(format("{}: {} inputs are not a multiple of the group of {}", facts.module,
                                facts.k, kGroup));
    spec.format = kStored;
    choose_activations(facts, "fp4, groups of 32 (powers of two)", spec);
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    const std::string packed = tensor_name(spec.module, Part::kPacked);
    if (!source.has(packed))
      if (const auto x = fused_expert(spec.module)) return read_fused(source, spec, *x);
    LoadedMatrix m;
    MOESTRO_ASSIGN(const checkpoint::TensorView weight,
                   source.get(packed, {spec.n, spec.k / 2}, {DType::kU8}));
    m.tensors.push_back(weight);
    m.stored = kStored;
    m.source = {.data = weight.bytes.data(),
                .dtype = DType::kF4,
                .n = spec.n,
                .k = spec.k,
                .row_bytes = spec.k / 2};
    MOESTRO_TRY(read_group_scales(source, tensor_name(spec.module, Part::kScale), spec.n,
                                  spec.k / kGroup, kPow2Types, m));
    return m;
  }
};

}  // namespace

const QuantMethod& mxfp4() {
  static const Mxfp4 method;
  return method;
}

}  // namespace moestro::quant
