// compressed-tensors "pack-quantized": X.weight_packed I32 [n, ceil(k * bits / 32)], code u = q +
// 2^(bits - 1), element i at bits [i * bits, (i + 1) * bits) of its row; X.weight_scale [n, k / g]
// or [n, 1]; X.weight_zero_point I32 [ceil(n * bits / 32), k / g], packed alike along n;
// X.weight_g_idx I32 [k]; X.weight_shape [2]. W = (u - u_zero) * scale. int4 is taken as it lies
// (the low nibble is the even k), its columns in order of their groups; int8 with one scale a
// channel and int8 activations runs as W8A8, any other int8 in floats.
#include "base/format.h"
#include "quant/activation_order.h"
#include "quant/dequantise.h"
#include "quant/int4.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

using checkpoint::TensorView;

uint32_t word_at(const TensorView& t, int64_t i) {
  uint32_t w;
  std::memcpy(&w, t.bytes.data() + i * 4, sizeof w);
  return w;
}

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

class Reader {
 public:
  Reader(const checkpoint::WeightSource& source, const ModuleSpec& spec, const Grouping& g)
      : source_(source), spec_(spec), g_(g), groups_((spec.k + g.group_k - 1) / g.group_k) {}

  Result<LoadedMatrix> read() {
    MOESTRO_TRY(check_shape(source_, spec_));
    const int32_t words = (spec_.k * g_.bits + 31) / 32;
    MOESTRO_ASSIGN(packed_, source_.get(tensor_name(spec_.module, Part::kPacked), {spec_.n, words},
                                        {DType::kI32, DType::kU32}));
    m_.tensors.push_back(packed_);
    row_bytes_ = int64_t{words} * 4;
    m_.stored = stored_format(g_);
    if (g_.zero_points) {
      const int32_t rows = (spec_.n * g_.bits + 31) / 32;
      MOESTRO_ASSIGN(zeros_, source_.get(tensor_name(spec_.module, Part::kZeroPoint),
                                         {rows, groups_}, {DType::kI32, DType::kU32}));
      m_.tensors.push_back(zeros_);
    }
    if (g_.permuted) MOESTRO_TRY(read_index());
    if (g_.bits == 8) return read_bytes();
    m_.source = {.data = packed_.bytes.data(),
                 .dtype = DType::kU8,
                 .n = spec_.n,
                 .k = spec_.k,
                 .row_bytes = row_bytes_};
    MOESTRO_TRY(set_scales());
    if (g_.zero_points)
      make_zero_points(
          spec_.n, tensor::groups_of(m_.stored, spec_.k),
          [&](int32_t c, int32_t group) { return zero_at(c, is_repeated(g_) ? 0 : group); }, m_);
    if (!order_.empty()) reorder_columns(m_, std::move(order_));
    return std::move(m_);
  }

 private:
  std::string scale_name() const { return tensor_name(spec_.module, Part::kScale); }
  int32_t code_at(int32_t c, int32_t i) const {
    const auto byte = std::to_integer<int32_t>(
        packed_.bytes[static_cast<size_t>(c * row_bytes_ + i * g_.bits / 8)]);
    return g_.bits == 8 ? byte : i % 2 ? byte >> 4 : byte & 15;
  }
  int32_t zero_at(int32_t c, int32_t group) const {
    if (!g_.zero_points) return 1 << (g_.bits - 1);
    const int32_t per_word = 32 / g_.bits;
    const uint32_t word = word_at(zeros_, int64_t{c / per_word} * groups_ + group);
    return static_cast<int32_t>(word >> (c % per_word * g_.bits) & ((1u << g_.bits) - 1));
  }

  Status set_scales() {
    if (!m_.stored.group_k) return read_channel_scales(source_, scale_name(), spec_.n, m_);
    if (!is_repeated(g_))
      return read_group_scales(source_, scale_name(), spec_.n, groups_, kGroupScaleTypes, m_);
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
      m_.codes.resize(static_cast<size_t>(spec_.n) * static_cast<size_t>(spec_.k));
      for (int32_t c = 0, at = 0; c < spec_.n; ++c)
        for (int32_t i = 0; i < spec_.k; ++i, ++at)
          m_.codes[static_cast<size_t>(at)] = static_cast<std::byte>(code_at(c, i) ^ 0x80);
      m_.source = {.data = m_.codes.data(),
                   .dtype = DType::kI8,
                   .n = spec_.n,
                   .k = spec_.k,
                   .row_bytes = spec_.k};
      MOESTRO_TRY(read_channel_scales(source_, scale_name(), spec_.n, m_));
      return std::move(m_);
    }
    const std::vector<int32_t> group_of = groups_of_columns(order_, spec_.k, g_.group_k);
    return read_values([&](int32_t i) { return group_of[static_cast<size_t>(i)]; });
  }

  Status read_index() {
    const std::string name = tensor_name(spec_.module, Part::kGroupIndex);
    MOESTRO_ASSIGN(const TensorView t, source_.get(name, {spec_.k}, {DType::kI32}));
    m_.tensors.push_back(t);
    std::vector<int32_t> index(static_cast<size_t>(spec_.k));
    std::memcpy(index.data(), t.bytes.data(), t.bytes.size());
    MOESTRO_ASSIGN(order_, column_order(name, index, g_.group_k));
    return {};
  }

  template <class Group>
  Result<LoadedMatrix> read_values(Group group) {
    MOESTRO_ASSIGN(
        const TensorView scale,
        read_scale_tensor(source_, scale_name(), {spec_.n, groups_}, kGroupScaleTypes, m_));
    set_values(
        m_, spec_.n, spec_.k, [&](int32_t c, int32_t i) { return code_at(c, i); },
        [&](int32_t c, int32_t g) { return zero_at(c, g); },
        [&](int32_t c, int32_t g) {
          return float_at(scale.bytes.data(), scale.dtype, int64_t{c} * groups_ + g);
        },
        group);
    return std::move(m_);
  }

  const checkpoint::WeightSource& source_;
  const ModuleSpec& spec_;
  const Grouping& g_;
  const int32_t groups_;
  int64_t row_bytes_ = 0;
  TensorView packed_, zeros_;
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
