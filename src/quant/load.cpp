#include "quant/load.h"

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
  if (!(*specs.begin())->has_bias()) return static_cast<const float*>(nullptr);
  MOESTRO_ASSIGN(std::byte * dst,
                 context.arena.allocate(static_cast<size_t>(padded_n) * sizeof(float)));
  auto* out = reinterpret_cast<float*>(dst);
  int32_t m = 0;
  for (const ModuleSpec* spec : specs) {
    MOESTRO_ASSIGN(const std::vector<float> bias, read_bias(context, *spec));
    for (int32_t c = 0; c < spec->n; ++c) out[position(m, c)] = bias[static_cast<size_t>(c)];
    ++m;
  }
  return static_cast<const float*>(out);
}

// In the arena, for PackedMatrix::k_order; null: none.
Result<const int32_t*> keep_order(LoadContext& context, const std::vector<int32_t>& order) {
  if (order.empty()) return static_cast<const int32_t*>(nullptr);
  MOESTRO_ASSIGN(std::byte * dst, context.arena.allocate(order.size() * sizeof(int32_t)));
  std::memcpy(dst, order.data(), order.size() * sizeof(int32_t));
  return reinterpret_cast<const int32_t*>(dst);
}

// A matrix without k_order, and the order that its input must come in.
Result<tensor::PackedMatrix> load_ordered(LoadContext& context, const ModuleSpec& m,
                                          std::vector<int32_t>& order) {
  MOESTRO_ASSIGN(LoadedMatrix loaded, read_matrix(context.source, m));
  MOESTRO_ASSIGN(
      std::byte * dst,
      context.arena.allocate(static_cast<size_t>(tensor::packed_bytes(m.format, m.n, m.k))));
  tensor::PackedMatrix packed = kernels::pack_matrix(m.format, loaded.source, dst);
  MOESTRO_ASSIGN(packed.bias,
                 load_bias(context, {&m}, packed.padded_n(), [](int32_t, int32_t c) { return c; }));
  done_with(context, loaded);
  order = std::move(loaded.k_order);
  return packed;
}

// channels: which of gate's and up's rows become the packed ones, in order; empty: as they lie.
Result<tensor::PackedMatrix> load_gate_up(LoadContext& context, const ModuleSpec& gate,
                                          const ModuleSpec& up,
                                          const std::vector<int32_t>& channels) {
  MOESTRO_ASSIGN(LoadedMatrix g, read_matrix(context.source, gate));
  MOESTRO_ASSIGN(LoadedMatrix u, read_matrix(context.source, up));
  if (g.k_order != u.k_order)
    return unsupported(format(
        "{} and {} have their columns in different activation orders; one gated MLP needs "
        "one: load them as floats, --hf-overrides.quantization_config.actorder_in_floats true",
        gate.module, up.module));
  std::vector<int32_t> place(channels.size());  // of each row among the packed ones
  if (!channels.empty()) {
    reorder_rows(g, channels);
    reorder_rows(u, channels);
    for (size_t i = 0; i < channels.size(); ++i)
      place[static_cast<size_t>(channels[i])] = static_cast<int32_t>(i);
  }
  const int32_t padded =
      (gate.n + tensor::kTileChannels - 1) / tensor::kTileChannels * tensor::kTileChannels;
  MOESTRO_ASSIGN(std::byte * dst, context.arena.allocate(static_cast<size_t>(
                                      tensor::packed_bytes(gate.format, 2 * padded, gate.k))));
  tensor::PackedMatrix packed = kernels::pack_gate_up(gate.format, g.source, u.source, dst);
  MOESTRO_ASSIGN(packed.bias,
                 load_bias(context, {&gate, &up}, packed.padded_n(), [&](int32_t m, int32_t row) {
                   const int32_t c = place.empty() ? row : place[static_cast<size_t>(row)];
                   return c / tensor::kTileChannels * tensor::kPanelChannels +
                          m * tensor::kTileChannels + c % tensor::kTileChannels;
                 }));
  MOESTRO_ASSIGN(packed.k_order, keep_order(context, g.k_order));
  done_with(context, g);
  done_with(context, u);
  return packed;
}

}  // namespace

Status LoadContext::parallel(int64_t n, const std::function<Status(int64_t)>& fn) {
  std::mutex mutex;
  std::map<int64_t, Status> errors;
  gang.run([&](platform::Worker& worker) {
    worker.start_tickets();
    for (int64_t i; (i = worker.take_ticket()) < n;) {
      Status s = fn(i);
      if (!s.ok()) {
        const std::scoped_lock lock(mutex);
        errors.emplace(i, std::move(s));
      }
    }
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
  uint64_t bytes = 0;
  for (const checkpoint::TensorView& t : m.tensors) {
    context.source.drop(t);
    bytes += t.bytes.size();
  }
  if (context.progress && bytes > 0) context.progress(bytes);
}

Result<tensor::PackedMatrix> load_matrix(LoadContext& context, const ModuleSpec& module) {
  std::vector<int32_t> order;
  MOESTRO_ASSIGN(tensor::PackedMatrix packed, load_ordered(context, module, order));
  MOESTRO_ASSIGN(packed.k_order, keep_order(context, order));
  return packed;
}

Result<GatedMlp> load_gated_mlp(LoadContext& context, const ModuleSpec& gate, const ModuleSpec& up,
                                const ModuleSpec& down) {
  if (gate.format != up.format)
    return unsupported(
        format("{} and {} are stored in different schemes ({}, {}); one gated MLP needs one",
               gate.module, up.module, gate.method->name(), up.method->name()));
  GatedMlp mlp;
  std::vector<int32_t> order;
  MOESTRO_ASSIGN(mlp.down, load_ordered(context, down, order));
  MOESTRO_ASSIGN(mlp.gate_up, load_gate_up(context, gate, up, order));
  return mlp;
}

Result<const float*> load_floats(LoadContext& context, std::string_view name,
                                 std::initializer_list<int64_t> shape) {
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 context.source.get(name, shape, {DType::kF32, DType::kBF16, DType::kF16}));
  const int64_t n = t.num_elements();
  MOESTRO_ASSIGN(std::byte * dst, context.arena.allocate(static_cast<size_t>(n) * sizeof(float)));
  auto* out = reinterpret_cast<float*>(dst);
  for (int64_t i = 0; i < n; ++i) out[i] = float_at(t.bytes.data(), t.dtype, i);
  if (context.progress) context.progress(t.bytes.size());
  return out;
}

}  // namespace moestro::quant
