// GPTQ: X.qweight I32 [k * bits / 32, n] packed along k, least significant bits first; X.qzeros I32
// [k / g, n * bits / 32] packed along n; X.scales [k / g, n]; X.g_idx I32 [k]. W[n, k] = (q - (z +
// 1)) * scale in checkpoint_format "gptq" (zero points are stored less one), (q - z) * scale in
// "gptq_v2". desc_act: g_idx is arbitrary, and columns are put in order of their groups.
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

Result<Grouping> grouping(const ModuleFacts& facts) {
  const checkpoint::QuantArgs* w = facts.weight_args();
  Grouping g;
  g.bits = w ? w->num_bits : 4;
  const checkpoint::TensorInfo* scale = facts.info(Part::kQscales);
  MOESTRO_TRY(set_groups(facts, scale && !scale->shape.empty() ? scale->shape[0] : 0, g));
  g.zero_points = !(w && w->symmetric);
  g.permuted = w && w->actorder && g.group_k < facts.k;
  g.scale = scale ? scale->dtype : *kGroupScaleTypes.begin();
  if (facts.k * g.bits % 32 != 0 || facts.n * g.bits % 32 != 0)
    return unsupported(
        format("{} [{}, {}]: sizes that do not fill words of {}-bit codes are not "
               "read",
               facts.module, facts.n, facts.k, g.bits));
  return g;
}

// The tensors of a module and what their words say. Shared with the rows that are made later.
struct Stored {
  int32_t n = 0, bits = 4, groups = 1;
  bool less_one = true;  // zero points
  TensorView weight, zeros, scales;

  int32_t per_word() const { return 32 / bits; }
  int32_t code(uint32_t word, int32_t at) const {
    return static_cast<int32_t>(word >> (at * bits) & ((1u << bits) - 1));
  }
  int32_t code_at(int32_t c, int32_t i) const {
    return code(word_at(weight, int64_t{i / per_word()} * n + c), i % per_word());
  }
  int32_t zero_at(int32_t c, int32_t g) const {
    const uint32_t word = word_at(zeros, int64_t{g} * (n / per_word()) + c / per_word());
    return code(word, c % per_word()) + (less_one ? 1 : 0);
  }
  float scale_at(int32_t c, int32_t g) const {
    return float_at(scales.bytes.data(), scales.dtype, int64_t{g} * n + c);
  }
};

class Reader {
 public:
  Reader(const checkpoint::WeightSource& source, const ModuleSpec& spec, const Grouping& g)
      : source_(source), spec_(spec), g_(g), s_(std::make_shared<Stored>()) {
    s_->n = spec.n;
    s_->bits = g.bits;
    s_->groups = (spec.k + g.group_k - 1) / g.group_k;
    s_->less_one = !spec.declared || spec.declared->format != "gptq_v2";
  }

  Result<LoadedMatrix> read() {
    const int32_t per_word = s_->per_word();
    MOESTRO_ASSIGN(s_->weight,
                   source_.get(tensor_name(spec_.module, Part::kQweight),
                               {spec_.k / per_word, spec_.n}, {DType::kI32, DType::kU32}));
    MOESTRO_ASSIGN(s_->zeros,
                   source_.get(tensor_name(spec_.module, Part::kQzeros),
                               {s_->groups, spec_.n / per_word}, {DType::kI32, DType::kU32}));
    m_.tensors = {s_->weight, s_->zeros};
    MOESTRO_ASSIGN(s_->scales, read_scale_tensor(source_, tensor_name(spec_.module, Part::kQscales),
                                                 {s_->groups, spec_.n}, kGroupScaleTypes, m_));
    MOESTRO_TRY(read_index());
    if (g_.bits == 8) {
      set_values_in_order<Stored>(m_, spec_.n, spec_.k, s_, order_, g_.group_k);
      return std::move(m_);
    }
    MOESTRO_TRY(check_symmetry());
    transpose_words();
    set_groups();
    if (!order_.empty()) reorder_columns(m_, std::move(order_));
    return std::move(m_);
  }

 private:
  // The tensor decides, whatever desc_act says: only a missing one contradicts it.
  Status read_index() {
    const std::string name = tensor_name(spec_.module, Part::kGIdx);
    if (!source_.has(name)) {
      if (!g_.permuted) return {};
      return data_loss(format("tensor {} is missing, but the config declares desc_act", name));
    }
    MOESTRO_ASSIGN(order_, read_column_order(source_, name, spec_.k, g_.group_k, m_));
    return {};
  }

  // "sym" promises that every zero point is 8; the packed format then has none.
  Status check_symmetry() const {
    if (g_.zero_points) return {};
    for (int32_t g = 0; g < s_->groups; ++g)
      for (int32_t c = 0; c < spec_.n; ++c)
        if (const int32_t z = s_->zero_at(c, g); z != 8)
          return data_loss(
              format("tensor {}: zero point {} of channel {}, group {}, but the config "
                     "declares sym; it must be 8",
                     tensor_name(spec_.module, Part::kQzeros), z, c, g));
    return {};
  }

  // A word holds eight codes along k of one channel, and its bytes are a row's bytes in order.
  void transpose_words() {
    const int64_t words = spec_.k / 8, row_bytes = words * 4;
    m_.source = {
        .data = nullptr, .dtype = DType::kU8, .n = spec_.n, .k = spec_.k, .row_bytes = row_bytes};
    m_.make_rows = [s = s_, words, row_bytes](int32_t begin, int32_t end, std::byte* out) {
      for (int64_t w = 0; w < words; ++w)
        for (int32_t c = begin; c < end; ++c)
          std::memcpy(out + (c - begin) * row_bytes + w * 4,
                      s->weight.bytes.data() + (w * s->n + c) * 4, 4);
    };
  }

  void set_groups() {
    m_.stored = stored_format(g_);
    if (!m_.stored.group_k) {
      for (int32_t c = 0; c < spec_.n; ++c) m_.scales.push_back(s_->scale_at(c, 0));
      m_.source.scales = m_.scales.data();
      return;
    }
    const int32_t groups = tensor::groups_of(m_.stored, spec_.k);
    const bool repeated = is_repeated(g_);
    gather_group_scales(
        s_->scales, spec_.n, groups,
        [&](int32_t c, int32_t g) { return int64_t{repeated ? 0 : g} * spec_.n + c; }, m_);
    if (g_.zero_points)
      make_zero_points(
          spec_.n, groups, [&](int32_t c, int32_t g) { return s_->zero_at(c, repeated ? 0 : g); },
          m_);
  }

  const checkpoint::WeightSource& source_;
  const ModuleSpec& spec_;
  const Grouping& g_;
  std::shared_ptr<Stored> s_;
  std::vector<int32_t> order_;  // of columns; empty: as they lie
  LoadedMatrix m_;
};

class Gptq final : public QuantMethod {
 public:
  std::string_view name() const override { return "gptq"; }
  bool stored_as(const ModuleFacts& facts) const override {
    const bool declared = facts.declares("gptq") || facts.declares("gptq_v2");
    if (!facts.is_type(Part::kQweight, {DType::kI32, DType::kU32}, declared) ||
        !facts.has(Part::kQzeros))
      return false;
    // AWQ packs along n: its qweight has k rows.
    const checkpoint::TensorInfo* w = facts.info(Part::kQweight);
    return w && !facts.declared ? w->shape.size() == 2 && w->shape[1] == facts.n : declared;
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

const QuantMethod& gptq() {
  static const Gptq method;
  return method;
}

}  // namespace moestro::quant
