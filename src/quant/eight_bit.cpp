#include "quant/eight_bit.h"

#include "base/format.h"
#include "quant/activations.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

using checkpoint::QuantStrategy;

struct Block {
  int32_t n = 128, k = 128;
};

// Sizes are declared, or those that everybody uses.
Block block_of(const checkpoint::QuantGroup* declared) {
  if (!declared || !declared->weights) return {};
  const checkpoint::QuantArgs& w = *declared->weights;
  if (w.strategy == QuantStrategy::kBlock) return {w.block_n, w.block_k};
  if (w.strategy == QuantStrategy::kGroup) return {1, w.group_size};
  return {};
}

bool is_eight_bit_weight(const EightBit& codes, const ModuleFacts& facts) {
  const checkpoint::QuantArgs* w = facts.weight_args();
  return facts.is_type(Part::kWeight, {codes.dtype},
                       w && w->num_bits == 8 && w->is_float == (codes.dtype == DType::kF8E4M3));
}

bool is_block_shape(const ModuleFacts& facts) {
  const checkpoint::TensorInfo* s = facts.info(Part::kScale);
  const checkpoint::QuantArgs* w = facts.weight_args();
  if (!s)
    return w && (w->strategy == QuantStrategy::kBlock || w->strategy == QuantStrategy::kGroup);
  if (s->shape.size() != 2) return false;
  if (s->shape[0] == 1 && s->shape[1] == 1)  // [1, 1] may be both
    return facts.n > 1 && w && w->strategy == QuantStrategy::kBlock;
  return s->shape[1] > 1 || s->shape[0] < facts.n;
}

Part scale_part(const checkpoint::WeightSource& source, const ModuleSpec& spec) {
  return source.has(tensor_name(spec.module, Part::kScaleInv)) ? Part::kScaleInv : Part::kScale;
}

}  // namespace

bool has_block_scales(const EightBit& codes, const ModuleFacts& facts) {
  return is_eight_bit_weight(codes, facts) &&
         (facts.has(Part::kScaleInv) || (facts.has(Part::kScale) && is_block_shape(facts)));
}

bool has_channel_scales_of(const EightBit& codes, const ModuleFacts& facts) {
  return is_eight_bit_weight(codes, facts) && facts.has(Part::kScale) && !is_block_shape(facts);
}

Result<LoadedMatrix> read_codes(const EightBit& codes, const checkpoint::WeightSource& source,
                                const ModuleSpec& spec) {
  LoadedMatrix m;
  MOESTRO_ASSIGN(
      const checkpoint::TensorView weight,
      source.get(tensor_name(spec.module, Part::kWeight), {spec.n, spec.k}, {codes.dtype}));
  m.tensors.push_back(weight);
  m.stored.weight = codes.type;
  m.source = {.data = weight.bytes.data(),
              .dtype = codes.dtype,
              .n = spec.n,
              .k = spec.k,
              .row_bytes = spec.k};
  return m;
}

Status describe_blocks(const EightBit& codes, const ModuleFacts& facts, ModuleSpec& spec) {
  const Block block = block_of(facts.declared);
  spec.format = {.weight = codes.type, .group_k = block.k, .group_scale = DType::kF32};
  choose_activations(facts,
                     block.n == 1 ? format("{}, groups of {}", codes.word, block.k)
                                  : format("{}, blocks of {}x{}", codes.word, block.n, block.k),
                     spec);
  return {};
}

Result<LoadedMatrix> read_blocks(const EightBit& codes, const checkpoint::WeightSource& source,
                                 const ModuleSpec& spec) {
  const Block block = block_of(spec.declared);
  MOESTRO_ASSIGN(LoadedMatrix m, read_codes(codes, source, spec));
  m.stored.group_k = block.k;
  m.stored.group_scale = DType::kF32;
  const int32_t rows = (spec.n + block.n - 1) / block.n,
                groups = tensor::groups_of(m.stored, spec.k);
  MOESTRO_ASSIGN(
      const checkpoint::TensorView scale,
      read_scale_tensor(source, tensor_name(spec.module, scale_part(source, spec)), {rows, groups},
                        {DType::kF32, DType::kBF16, DType::kF16, DType::kF8E8M0, DType::kU8}, m));
  m.group_scales.resize(static_cast<size_t>(spec.n) * static_cast<size_t>(groups) * sizeof(float));
  auto* out = reinterpret_cast<float*>(m.group_scales.data());
  for (int32_t c = 0; c < spec.n; ++c)
    for (int32_t g = 0; g < groups; ++g)
      *out++ = float_at(scale.bytes.data(), scale.dtype, int64_t{c / block.n} * groups + g);
  m.source.group_scales = m.group_scales.data();
  return m;
}

}  // namespace moestro::quant
