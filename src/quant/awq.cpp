// AWQ ("gemm"): X.qweight I32 [k, n / 8] packed along n, column 8 b + j in nibble
// [0, 4, 1, 5, 2, 6, 3, 7][j] of word b; X.qzeros I32 [k / g, n / 8] alike; X.scales [k / g, n].
// W[n, k] = (q - z) * scale; without zero points z is 8.
#include "base/format.h"
#include "quant/int4.h"
#include "quant/methods.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

using checkpoint::TensorView;

constexpr uint32_t kNibble[] = {0, 4, 1, 5, 2, 6, 3, 7};

uint8_t code_at(const TensorView& t, int64_t row, int32_t words, int32_t c) {
  uint32_t word;
  std::memcpy(&word, t.bytes.data() + (row * words + c / 8) * 4, sizeof word);
  return static_cast<uint8_t>(word >> (4 * kNibble[c % 8]) & 15);
}

Result<Grouping> grouping(const ModuleFacts& facts) {
  Grouping g;
  const checkpoint::TensorInfo* scale = facts.info(Part::kQscales);
  MOESTRO_TRY(set_groups(facts, scale && !scale->shape.empty() ? scale->shape[0] : 0, g));
  g.zero_points = facts.has(Part::kQzeros);
  g.scale = scale ? scale->dtype : *kGroupScaleTypes.begin();
  if (facts.n % 8 != 0 || facts.k % 2 != 0)
    return unsupported(
        format("{} [{}, {}]: AWQ packs eight channels a word and here two inputs a "
               "byte; other sizes are not read",
               facts.module, facts.n, facts.k));
  return g;
}

// [k, n / 8] words to rows of k codes, two a byte.
void transpose_codes(const TensorView& t, int32_t n, int32_t k, LoadedMatrix& m) {
  const int32_t words = n / 8, row_bytes = k / 2;
  m.source = {.data = nullptr, .dtype = DType::kU8, .n = n, .k = k, .row_bytes = row_bytes};
  m.make_rows = [t, words, row_bytes](int32_t begin, int32_t end, std::byte* out) {
    for (int32_t i = 0; i < row_bytes; ++i)
      for (int32_t c = begin; c < end; ++c)
        out[int64_t{c - begin} * row_bytes + i] = static_cast<std::byte>(
            code_at(t, 2 * i, words, c) | code_at(t, 2 * i + 1, words, c) << 4);
  };
}

class Awq final : public QuantMethod {
 public:
  std::string_view name() const override { return "awq"; }
  bool stored_as(const ModuleFacts& facts) const override {
    const bool declared = facts.declares("awq");
    if (!facts.is_type(Part::kQweight, {DType::kI32, DType::kU32}, declared)) return false;
    const checkpoint::TensorInfo* w = facts.info(Part::kQweight);
    return w && !facts.declared
               ? w->shape.size() == 2 && w->shape[0] == facts.k && w->shape[1] * 8 == facts.n
               : declared;
  }
  Status describe(const ModuleFacts& facts, ModuleSpec& spec) const override {
    MOESTRO_ASSIGN(const Grouping g, grouping(facts));
    describe_grouping(facts, g, spec);
    return {};
  }
  Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                            const ModuleSpec& spec) const override {
    MOESTRO_ASSIGN(const Grouping grouped, grouping(facts_of(source, spec)));
    const int32_t n = spec.n, k = spec.k, words = n / 8,
                  groups = (k + grouped.group_k - 1) / grouped.group_k;
    LoadedMatrix m;
    MOESTRO_ASSIGN(const TensorView weight, source.get(tensor_name(spec.module, Part::kQweight),
                                                       {k, words}, {DType::kI32, DType::kU32}));
    m.tensors.push_back(weight);
    transpose_codes(weight, n, k, m);
    m.stored = stored_format(grouped);
    MOESTRO_ASSIGN(const TensorView scale,
                   read_scale_tensor(source, tensor_name(spec.module, Part::kQscales), {groups, n},
                                     kGroupScaleTypes, m));
    if (!m.stored.group_k) {
      for (int32_t c = 0; c < n; ++c)
        m.scales.push_back(float_at(scale.bytes.data(), scale.dtype, c));
      m.source.scales = m.scales.data();
      return m;
    }
    const bool repeated = is_repeated(grouped);
    const int32_t made = tensor::groups_of(m.stored, k);
    gather_group_scales(
        scale, n, made, [&](int32_t c, int32_t g) { return int64_t{repeated ? 0 : g} * n + c; }, m);
    if (!grouped.zero_points) return m;
    MOESTRO_ASSIGN(const TensorView zeros, source.get(tensor_name(spec.module, Part::kQzeros),
                                                      {groups, words}, {DType::kI32, DType::kU32}));
    m.tensors.push_back(zeros);
    make_zero_points(
        n, made, [&](int32_t c, int32_t g) { return code_at(zeros, repeated ? 0 : g, words, c); },
        m);
    return m;
  }
};

}  // namespace

const QuantMethod& awq() {
  static const Awq method;
  return method;
}

}  // namespace moestro::quant
