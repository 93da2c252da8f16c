#include "quant/load.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>

#include "base/format.h"
#include "quant/activation_order.h"
#include "quant/dequantise.h"
#include "quant/fused_experts.h"
#include "quant/scales.h"

namespace moestro::quant {
namespace {

// Of what one worker reads before it drops the pages: few calls, and few pages held.
constexpr int64_t kBandBytes = int64_t{1} << 20;

thread_local bool in_parallel = false;

Result<std::vector<float>> read_bias(LoadContext& context, const ModuleSpec& spec) {
  if (spec.bias.empty()) return read_fused_bias(context.source, spec);
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 context.source.get(spec.bias, {spec.n}, {DType::kF32, DType::kBF16, DType::kF16}));
  std::vector<float> bias(static_cast<size_t>(spec.n));
  for (int32_t c = 0; c < spec.n; ++c)
    bias[static_cast<size_t>(c)] = float_at(t.bytes.data(), t.dtype, c);
  if (context.progress) context.progress(t.bytes.size());
  return bias;
}

// Bias of the modules as the packed matrix has its channels; null where they have none.
// position(m, c): packed channel of channel c of module m.
template <class Position>
Result<const float*> load_bias(LoadContext& context, std::initializer_list<const ModuleSpec*> specs,
                               int32_t padded_n, Position position) {
  const ModuleSpec& first = **specs.begin();
  if (!first.has_bias()) return static_cast<const float*>(nullptr);
  MOESTRO_ASSIGN(const WeightStore::Place place,
                 context.store.place(first.module + ".bias", format("f32 [{}]", padded_n),
                                     static_cast<size_t>(padded_n) * sizeof(float)));
  if (place.fill == nullptr) return reinterpret_cast<const float*>(place.data);
  auto* out = reinterpret_cast<float*>(place.fill);
  int32_t m = 0;
  for (const ModuleSpec* spec : specs) {
    MOESTRO_ASSIGN(const std::vector<float> bias, read_bias(context, *spec));
    for (int32_t c = 0; c < spec->n; ++c) out[position(m, c)] = bias[static_cast<size_t>(c)];
    ++m;
  }
  return static_cast<const float*>(out);
}

uint64_t source_bytes(const LoadedMatrix& m) {
  uint64_t bytes = 0;
  for (const checkpoint::TensorView& t : m.tensors) bytes += t.bytes.size();
  return bytes;
}

// Rows [begin, end) are packed: the pages that hold them may go, and their part is progress.
void rows_done(LoadContext& context, const LoadedMatrix& m, int32_t begin, int32_t end) {
  if (context.progress) {
    const uint64_t bytes = source_bytes(m), n = static_cast<uint64_t>(m.source.n);
    context.progress(bytes * static_cast<uint64_t>(end) / n -
                     bytes * static_cast<uint64_t>(begin) / n);
  }
  if (m.make_rows || m.tensors.empty()) return;
  checkpoint::TensorView rows = m.tensors.front();
  const std::byte* tensor_end = rows.bytes.data() + rows.bytes.size();
  const std::byte* from = m.source.data + begin * m.source.row_bytes;
  if (from < rows.bytes.data() || from >= tensor_end) return;
  const int64_t size = std::min((end - begin) * m.source.row_bytes, tensor_end - from);
  rows.bytes = {from, static_cast<size_t>(size)};
  context.source.drop(rows);
}

// Whole panels, and few where rows have to be made: a worker holds one band of them.
int32_t band_channels(const LoadedMatrix& m) {
  const int64_t panel = tensor::kPanelChannels * std::max<int64_t>(m.source.row_bytes, 1);
  const int64_t panels = m.make_rows ? 1 : std::max<int64_t>(kBandBytes / panel, 1);
  return static_cast<int32_t>(std::min<int64_t>(panels * tensor::kPanelChannels, INT32_MAX / 2));
}

// pack(begin, rows of each matrix) for bands of channels on all workers; the matrices are of one
// shape.
template <size_t kParts, class Pack>
Status pack_bands(LoadContext& context, const std::array<const LoadedMatrix*, kParts>& parts,
                  Pack pack) {
  const int32_t n = parts.front()->source.n;
  int32_t band = n;
  for (const LoadedMatrix* m : parts) band = std::min(band, band_channels(*m));
  band = std::max(band, tensor::kPanelChannels);
  MOESTRO_TRY(context.parallel((n + band - 1) / band, [&](int64_t i) -> Status {
    const auto begin = static_cast<int32_t>(i) * band, end = std::min(begin + band, n);
    std::array<std::vector<std::byte>, kParts> made;
    std::array<kernels::SourceMatrix, kParts> rows;
    for (size_t p = 0; p < kParts; ++p) rows[p] = parts[p]->rows(begin, end, made[p]);
    pack(begin, rows);
    for (const LoadedMatrix* m : parts) rows_done(context, *m, begin, end);
    return {};
  }));
  for (const LoadedMatrix* m : parts)
    for (const checkpoint::TensorView& t : m->tensors) context.source.drop(t);
  return {};
}

std::string contents_of(const tensor::PackedFormat& f, int32_t n, int32_t k) {
  return format("{}{} [{}, {}]", tensor::packed_format_name(f),
                f.group_k ? format(" {} scales", torch_name(f.group_scale)) : std::string(), n, k);
}

// Where a matrix' k_order goes, if its header has an index of groups; only the values say whether
// there is one. None: -1 in the first place.
Result<WeightStore::Place> place_order(LoadContext& context, const ModuleSpec& m) {
  bool has_index = false;
  for (const Part part : {Part::kGroupIndex, Part::kGIdx})
    has_index = has_index || context.source.has(tensor_name(m.module, part));
  if (!has_index || !tensor::may_reorder(m.format)) return WeightStore::Place{};
  return context.store.place(m.module + ".k_order", format("i32 [{}]", m.k),
                             static_cast<size_t>(m.k) * sizeof(int32_t));
}
Result<const int32_t*> keep_order(const ModuleSpec& m, const WeightStore::Place& place,
                                  const std::vector<int32_t>& order) {
  if (place.data == nullptr && !order.empty())
    return internal_error(format("{} has an order, but no index of groups", m.module));
  if (place.fill != nullptr) {
    constexpr int32_t kNone = -1;
    std::memcpy(place.fill, &kNone, sizeof kNone);
    if (!order.empty()) std::memcpy(place.fill, order.data(), order.size() * sizeof(int32_t));
  }
  const auto* kept = reinterpret_cast<const int32_t*>(place.data);
  return kept != nullptr && *kept >= 0 ? kept : nullptr;
}

// Reads and packs m; order: that its input must come in, empty: as it lies.
Status fill_matrix(LoadContext& context, const ModuleSpec& m, const PlacedMatrix& placed,
                   std::vector<int32_t>& order) {
  if (placed.fill == nullptr) return {};
  MOESTRO_ASSIGN(LoadedMatrix loaded, read_matrix(context.source, m));
  MOESTRO_TRY(pack_bands<1>(context, {&loaded}, [&](int32_t begin, const auto& rows) {
    kernels::pack_channels(placed.matrix, rows[0], begin, placed.fill);
  }));
  order = std::move(loaded.k_order);
  return {};
}

// The same for gate and up. channels: which of their rows become the packed ones, in order; empty:
// as they lie.
Status fill_gate_up(LoadContext& context, const ModuleSpec& gate, const ModuleSpec& up,
                    const std::vector<int32_t>& channels, const PlacedMatrix& placed,
                    std::vector<int32_t>& order) {
  if (placed.fill == nullptr) return {};
  MOESTRO_ASSIGN(LoadedMatrix g, read_matrix(context.source, gate));
  MOESTRO_ASSIGN(LoadedMatrix u, read_matrix(context.source, up));
  if (g.k_order != u.k_order)
    return unsupported(format(
        "{} and {} have their columns in different activation orders; one gated MLP needs "
        "one: load them as floats, --hf-overrides.quantization_config.actorder_in_floats true",
        gate.module, up.module));
  if (!channels.empty()) {
    reorder_rows(g, channels);
    reorder_rows(u, channels);
  }
  MOESTRO_TRY(pack_bands<2>(context, {&g, &u}, [&](int32_t begin, const auto& rows) {
    kernels::pack_gate_up_channels(placed.matrix, rows[0], rows[1], begin, placed.fill);
  }));
  order = std::move(g.k_order);
  return {};
}

}  // namespace

Status LoadContext::parallel(int64_t n, const std::function<Status(int64_t)>& fn) {
  if (in_parallel || n == 1) {
    for (int64_t i = 0; i < n; ++i) MOESTRO_TRY(fn(i));
    return {};
  }
  std::mutex mutex;
  std::map<int64_t, Status> errors;
  gang.run([&](platform::Worker& worker) {
    in_parallel = true;
    worker.start_tickets();
    for (int64_t i; (i = worker.take_ticket()) < n;) {
      Status s = fn(i);
      if (!s.ok()) {
        const std::scoped_lock lock(mutex);
        errors.emplace(i, std::move(s));
      }
    }
    in_parallel = false;
  });
  return errors.empty() ? Status() : errors.begin()->second;
}

Result<ModuleSpec> make_module(const checkpoint::WeightSource& source,
                               const checkpoint::QuantConfig& config, std::string module, int32_t n,
                               int32_t k, DType compute) {
  const ModuleFacts facts = module_facts(source, config, module, n, k, compute);
  ModuleSpec spec;
  MOESTRO_ASSIGN(spec.method, find_quant_method(facts));
  spec.declared = facts.declared;
  spec.n = n;
  spec.k = k;
  spec.has_fused_bias = has_fused_bias(source, module);
  MOESTRO_TRY(spec.method->describe(facts, spec));
  spec.module = std::move(module);
  return spec;
}

void force_floats(ModuleSpec& spec, tensor::PackedFormat floats, std::string_view because) {
  if (tensor::has_channel_scales(spec.format)) {
    const auto compute = floats.weight == tensor::WeightType::kF32 ? DType::kF32 : DType::kBF16;
    run_in_floats(spec, compute, format("{} x {}", spec.weights, spec.activations), because,
                  tensor::bits_of(spec.format.weight));
  }
  spec.format = floats;
}

Result<LoadedMatrix> read_matrix(const checkpoint::WeightSource& source, const ModuleSpec& spec) {
  MOESTRO_ASSIGN(LoadedMatrix m, spec.method->read(source, spec));
  if (!tensor::has_channel_scales(spec.format)) return dequantised(std::move(m));
  tensor::PackedFormat wanted = spec.format;
  wanted.activation = m.stored.activation;
  wanted.activation_group = m.stored.activation_group;
  wanted.activation_pow2 = m.stored.activation_pow2;
  if (m.stored == wanted) return m;
  return data_loss(format("{} is stored as {} with {} scales, but its header and config say {}",
                          spec.module, tensor::packed_format_name(m.stored),
                          torch_name(m.stored.group_scale),
                          tensor::packed_format_name(spec.format)));
}

void done_with(LoadContext& context, const LoadedMatrix& m) {
  for (const checkpoint::TensorView& t : m.tensors) context.source.drop(t);
  const uint64_t bytes = source_bytes(m);
  if (context.progress && bytes > 0) context.progress(bytes);
}

Result<PlacedMatrix> place_matrix(LoadContext& context, std::string_view name,
                                  const tensor::PackedFormat& f, int32_t n, int32_t k) {
  MOESTRO_ASSIGN(const WeightStore::Place place,
                 context.store.place(name, contents_of(f, n, k),
                                     static_cast<size_t>(tensor::packed_bytes(f, n, k))));
  return PlacedMatrix{kernels::packed_view(f, n, k, place.data), place.fill};
}

Result<tensor::PackedMatrix> load_matrix(LoadContext& context, const ModuleSpec& m) {
  MOESTRO_ASSIGN(PlacedMatrix placed, place_matrix(context, m.module, m.format, m.n, m.k));
  MOESTRO_ASSIGN(const WeightStore::Place order_place, place_order(context, m));
  std::vector<int32_t> order;
  MOESTRO_TRY(fill_matrix(context, m, placed, order));
  MOESTRO_ASSIGN(placed.matrix.k_order, keep_order(m, order_place, order));
  MOESTRO_ASSIGN(placed.matrix.bias, load_bias(context, {&m}, placed.matrix.padded_n(),
                                               [](int32_t, int32_t c) { return c; }));
  return placed.matrix;
}

Result<GatedMlp> load_gated_mlp(LoadContext& context, const ModuleSpec& gate, const ModuleSpec& up,
                                const ModuleSpec& down) {
  if (gate.format != up.format)
    return unsupported(
        format("{} and {} are stored in different schemes ({}, {}); one gated MLP needs one",
               gate.module, up.module, gate.method->name(), up.method->name()));
  MOESTRO_ASSIGN(PlacedMatrix d, place_matrix(context, down.module, down.format, down.n, down.k));
  MOESTRO_ASSIGN(PlacedMatrix gu,
                 place_matrix(context, gate.module + " and up", gate.format, 2 * gate.n, gate.k));
  MOESTRO_ASSIGN(const WeightStore::Place order_place, place_order(context, gate));
  std::vector<int32_t> channels, order;
  MOESTRO_TRY(fill_matrix(context, down, d, channels));
  MOESTRO_TRY(fill_gate_up(context, gate, up, channels, gu, order));
  MOESTRO_ASSIGN(gu.matrix.k_order, keep_order(gate, order_place, order));
  MOESTRO_ASSIGN(d.matrix.bias, load_bias(context, {&down}, d.matrix.padded_n(),
                                          [](int32_t, int32_t c) { return c; }));
  std::vector<int32_t> place(channels.size());  // of each row among the packed ones
  for (size_t i = 0; i < channels.size(); ++i)
    place[static_cast<size_t>(channels[i])] = static_cast<int32_t>(i);
  MOESTRO_ASSIGN(
      gu.matrix.bias,
      load_bias(context, {&gate, &up}, gu.matrix.padded_n(), [&](int32_t m, int32_t row) {
        const int32_t c = place.empty() ? row : place[static_cast<size_t>(row)];
        return c / tensor::kTileChannels * tensor::kPanelChannels + m * tensor::kTileChannels +
               c % tensor::kTileChannels;
      }));
  return GatedMlp{gu.matrix, d.matrix};
}

Result<const float*> load_floats(LoadContext& context, std::string_view name,
                                 std::initializer_list<int64_t> shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  MOESTRO_ASSIGN(
      const WeightStore::Place place,
      context.store.place(name, format("f32 [{}]", n), static_cast<size_t>(n) * sizeof(float)));
  if (place.fill == nullptr) return reinterpret_cast<const float*>(place.data);
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 context.source.get(name, shape, {DType::kF32, DType::kBF16, DType::kF16}));
  auto* out = reinterpret_cast<float*>(place.fill);
  for (int64_t i = 0; i < n; ++i) out[i] = float_at(t.bytes.data(), t.dtype, i);
  if (context.progress) context.progress(t.bytes.size());
  return static_cast<const float*>(out);
}

}  // namespace moestro::quant
