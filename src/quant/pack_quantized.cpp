// compressed-tensors "pack-quantized": X.weight_packed I32 [n, ceil(k * bits / 32)], code u = q +
// 2^(bits - 1), element i at bits [i * bits, (i + 1) * bits) of its row; X.weight_scale [n, k / g]
// or [n, 1]; X.weight_zero_point I32 [ceil(n * bits / 32), k / g], packed alike along n;
// X.weight_g_idx I32 [k]; X.weight_shape [2]. W = (u - u_zero) * scale. int4 is taken as it lies
// (the low nibble is the even k), its columns in order of their groups; int8 with one scale a
// channel and int8 activations runs as W8A8, any other int8 in floats.
#include <memory>

#include "base/format.h"
#include "quant/activation_order.h"
#include "quant/dequantise.h"
#include "quant/int4.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

using checkpoint::TensorView;

Result<int32_t> num_bits(const ModuleFacts& facts) {
  const checkpoint::QuantArgs* w = facts.weight_args();
  const checkpoint::TensorInfo* packed = facts.info(Part::kPacked);
  int64_t bits = w ? w->num_bits : 4;
  if (!w && packed && packed->shape.size() == 2 && facts.k > 0)
    bits = packed->shape[1] * 32 / facts.k;
  if (bits != 4 && bits != 8)
    return unsupported(
        format("{}: pack-quantized weights of {} bits; 4 and 8 are read", facts.module, bits));
  return static_cast<int32_t>(bits);
}

Result<Grouping> grouping(const ModuleFacts& facts) {
  Grouping g;
  MOESTRO_ASSIGN(g.bits, num_bits(facts));
  const checkpoint::TensorInfo* scale = facts.info(Part::kScale);
  const bool is_matrix = scale && scale->shape.size() == 2;
  MOESTRO_TRY(set_groups(facts, is_matrix ? scale->shape[1] : scale ? 1 : 0, g));
  const checkpoint::QuantArgs* w = facts.weight_args();
  g.zero_points = facts.has(Part::kZeroPoint) && !(w && w->symmetric);
  g.permuted = facts.has(Part::kGroupIndex) && g.group_k < facts.k;
  if (scale) g.scale = scale->dtype;
  return g;
}

// The declared shape, where the checkpoint carries one.
Status check_shape(const checkpoint::WeightSource& source, const ModuleSpec& spec) {
  const std::string name = format("{}.weight_shape", spec.module);
  if (!source.has(name)) return {};
  MOESTRO_ASSIGN(const TensorView t, source.get(name, {2}, {DType::kI64, DType::kI32}));
  int64_t shape[2];
  for (size_t i = 0; i < 2; ++i) {
    if (t.dtype == DType::kI64) {
      std::memcpy(&shape[i], t.bytes.data() + 8 * i, 8);
    } else {
      shape[i] = static_cast<int32_t>(word_at(t, static_cast<int64_t>(i)));
    }
  }
  if (shape[0] == spec.n && shape[1] == spec.k) return {};
  return data_loss(
      format("tensor {} says [{}, {}], wanted [{}, {}]", name, shape[0], shape[1], spec.n, spec.k));
}

// The tensors of a module and what their words say. Shared with the rows that are made later.
struct Stored {
  int32_t bits = 4, groups = 1;
  int64_t row_bytes = 0;
  TensorView packed, zeros, scales;
  bool has_zeros = false;

  int32_t code_at(int32_t c, int32_t i) const {
    const auto byte = std::to_integer<int32_t>(
        packed.bytes[static_cast<size_t>(c * row_bytes + int64_t{i} * bits / 8)]);
    return bits == 8 ? byte : i % 2 ? byte >> 4 : byte & 15;
  }
  int32_t zero_at(int32_t c, int32_t group) const {
    if (!has_zeros) return 1 << (bits - 1);
    const int32_t per_word = 32 / bits;
    const uint32_t word = word_at(zeros, int64_t{c / per_word} * groups + group);
    return static_cast<int32_t>(word >> (c % per_word * bits) & ((1u << bits) - 1));
  }
  float scale_at(int32_t c, int32_t group) const {
    return float_at(scales.bytes.data(), scales.dtype, int64_t{c} * groups + group);
  }
};

class Reader {
 public:
  Reader(const checkpoint::WeightSource& source, const ModuleSpec& spec, const Grouping& g)
      : source_(source), spec_(spec), g_(g), s_(std::make_shared<Stored>()) {
    s_->bits = g.bits;
    s_->groups = (spec.k + g.group_k - 1) / g.group_k;
    s_->has_zeros = g.zero_points;
  }

  Result<LoadedMatrix> read() {
    MOESTRO_TRY(check_shape(source_, spec_));
    const int32_t words = (spec_.k * g_.bits + 31) / 32;
    MOESTRO_ASSIGN(s_->packed, source_.get(tensor_name(spec_.module, Part::kPacked),
                                           {spec_.n, words}, {DType::kI32, DType::kU32}));
    m_.tensors.push_back(s_->packed);
    s_->row_bytes = int64_t{words} * 4;
    m_.stored = stored_format(g_);
    if (g_.zero_points) {
      const int32_t rows = (spec_.n * g_.bits + 31) / 32;
      MOESTRO_ASSIGN(s_->zeros, source_.get(tensor_name(spec_.module, Part::kZeroPoint),
                                            {rows, s_->groups}, {DType::kI32, DType::kU32}));
      m_.tensors.push_back(s_->zeros);
    }
    if (g_.permuted) {
      MOESTRO_ASSIGN(
          order_, read_column_order(source_, tensor_name(spec_.module, Part::kGroupIndex), spec_.k,
                                    g_.group_k, m_));
    }
    if (g_.bits == 8) return read_bytes();
    m_.source = {.data = s_->packed.bytes.data(),
                 .dtype = DType::kU8,
                 .n = spec_.n,
                 .k = spec_.k,
                 .row_bytes = s_->row_bytes};
    MOESTRO_TRY(set_scales());
    if (g_.zero_points)
      make_zero_points(
          spec_.n, tensor::groups_of(m_.stored, spec_.k),
          [&](int32_t c, int32_t group) { return s_->zero_at(c, is_repeated(g_) ? 0 : group); },
          m_);
    if (!order_.empty()) reorder_columns(m_, std::move(order_));
    return std::move(m_);
  }

 private:
  std::string scale_name() const { return tensor_name(spec_.module, Part::kScale); }

  Status set_scales() {
    if (!m_.stored.group_k) return read_channel_scales(source_, scale_name(), spec_.n, m_);
    if (!is_repeated(g_))
      return read_group_scales(source_, scale_name(), spec_.n, s_->groups, kGroupScaleTypes, m_);
    MOESTRO_ASSIGN(const TensorView t,
                   read_scale_tensor(source_, scale_name(), {spec_.n, 1}, kGroupScaleTypes, m_));
    gather_group_scales(
        t, spec_.n, tensor::groups_of(m_.stored, spec_.k),
        [](int32_t c, int32_t) { return int64_t{c}; }, m_);
    return {};
  }

  // Eight bits: int8 codes where they have no zero point and no groups, else values.
  Result<LoadedMatrix> read_bytes() {
    if (m_.stored == tensor::PackedFormat{.weight = tensor::WeightType::kInt8}) {
      m_.source = {
          .data = nullptr, .dtype = DType::kI8, .n = spec_.n, .k = spec_.k, .row_bytes = spec_.k};
      m_.make_rows = [s = s_, k = spec_.k](int32_t begin, int32_t end, std::byte* out) {
        for (int32_t c = begin; c < end; ++c)
          for (int32_t i = 0; i < k; ++i) *out++ = static_cast<std::byte>(s->code_at(c, i) ^ 0x80);
      };
      MOESTRO_TRY(read_channel_scales(source_, scale_name(), spec_.n, m_));
      return std::move(m_);
    }
    MOESTRO_ASSIGN(s_->scales, read_scale_tensor(source_, scale_name(), {spec_.n, s_->groups},
                                                 kGroupScaleTypes, m_));
    set_values_in_order<Stored>(m_, spec_.n, spec_.k, s_, order_, g_.group_k);
    return std::move(m_);
  }

  const checkpoint::WeightSource& source_;
  const ModuleSpec& spec_;
  const Grouping& g_;
  std::shared_ptr<Stored> s_;
  std::vector<int32_t> order_;  // of columns; empty: as they lie
  LoadedMatrix m_;
};

class PackQuantized final : public QuantMethod {
 public:
  std::string_view name() const override { return "pack_quantized"; }
  bool stored_as(const ModuleFacts& facts) const override {
    return facts.is_type(Part::kPacked, {DType::kI32, DType::kU32},
                         facts.declares("pack-quantized"));
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    MOESTRO_ASSIGN(const Grouping g, grouping(facts));
    describe_grouping(facts, g, spec);
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    MOESTRO_ASSIGN(const Grouping g, grouping(facts_of(source, spec)));
    return Reader(source, spec, g).read();
  }
};

}  // namespace

const QuantMethod& pack_quantized() {
  static const PackQuantized method;
  return method;
}

}  // namespace moestro::quant
