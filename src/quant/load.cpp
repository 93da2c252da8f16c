#include "quant/load.h"

#include <cstring>
#include <map>
#include <mutex>

#include "base/format.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

void done_with(LoadContext& context, const LoadedMatrix& m) {
  context.source.drop(m.tensor);
  if (context.progress) context.progress(m.tensor.bytes.size());
}

// Storage that pack_matrix does not take for this format is turned into float32 first (int8 weights
// computed in float).
Result<LoadedMatrix> read_for(LoadContext& context, const ModuleSpec& m) {
  if (m.format == tensor::PackedFormat::kInt8)
    return m.method->read(context.source, m.module, m.n, m.k);
  return m.method->read_float(context.source, m.module, m.n, m.k);
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
  MOESTRO_ASSIGN(const QuantMethod* method, find_quant_method(source, config, module));
  return ModuleSpec{.module = std::move(module),
                    .method = method,
                    .format = method->packed_format(compute),
                    .n = n,
                    .k = k,
                    .weights = std::string(method->weights()),
                    .activations = std::string(method->activations()),
                    .substitution = {}};
}

Result<tensor::PackedMatrix> load_matrix(LoadContext& context, const ModuleSpec& m) {
  MOESTRO_ASSIGN(const LoadedMatrix loaded, read_for(context, m));
  MOESTRO_ASSIGN(
      std::byte * dst,
      context.arena.allocate(static_cast<size_t>(tensor::packed_bytes(m.format, m.n, m.k))));
  const tensor::PackedMatrix packed = kernels::pack_matrix(m.format, loaded.source, dst);
  done_with(context, loaded);
  return packed;
}

Result<tensor::PackedMatrix> load_gate_up(LoadContext& context, const ModuleSpec& gate,
                                          const ModuleSpec& up) {
  if (gate.format != up.format)
    return unsupported(
        format("{} and {} are stored in different schemes ({}, {}); one gated MLP needs one",
               gate.module, up.module, gate.method->name(), up.method->name()));
  MOESTRO_ASSIGN(const LoadedMatrix g, read_for(context, gate));
  MOESTRO_ASSIGN(const LoadedMatrix u, read_for(context, up));
  const int32_t padded =
      (gate.n + tensor::kTileChannels - 1) / tensor::kTileChannels * tensor::kTileChannels;
  MOESTRO_ASSIGN(std::byte * dst, context.arena.allocate(static_cast<size_t>(
                                      tensor::packed_bytes(gate.format, 2 * padded, gate.k))));
  const tensor::PackedMatrix packed = kernels::pack_gate_up(gate.format, g.source, u.source, dst);
  done_with(context, g);
  done_with(context, u);
  return packed;
}

Result<const float*> load_floats(LoadContext& context, std::string_view name,
                                 std::initializer_list<int64_t> shape) {
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 context.source.get(name, shape, {DType::kF32, DType::kBF16, DType::kF16}));
  const int64_t n = t.num_elements();
  MOESTRO_ASSIGN(std::byte * dst, context.arena.allocate(static_cast<size_t>(n) * sizeof(float)));
  auto* out = reinterpret_cast<float*>(dst);
  const std::byte* p = t.bytes.data();
  if (t.dtype == DType::kF32) {
    std::memcpy(out, p, static_cast<size_t>(n) * sizeof(float));
  } else {
    for (int64_t i = 0; i < n; ++i) {
      uint16_t half;
      std::memcpy(&half, p + i * 2, sizeof half);
      out[i] = t.dtype == DType::kBF16 ? to_float(Bf16{half}) : to_float(F16{half});
    }
  }
  if (context.progress) context.progress(t.bytes.size());
  return out;
}

}  // namespace moestro::quant
