// Reading and packing weights: what layers/ and moe/ call while they are built. One LoadContext a
// model load; functions may be called from several loader threads at once.
#pragma once
#include <atomic>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/weight_source.h"
#include "platform/gang.h"
#include "quant/quant_method.h"
#include "quant/weight_arena.h"
#include "tensor/packed_matrix.h"

namespace moestro::quant {

struct LoadContext {
  const checkpoint::WeightSource& source;
  WeightArena& arena;
  platform::Gang& gang;
  std::function<void(uint64_t source_bytes)>
      progress;  // bytes of the checkpoint read since the last call; any thread; may be empty

  // fn(i) for i in [0, n) on all workers, each i once; the first error (by index) is returned after
  // all are done.
  Status parallel(int64_t n, const std::function<Status(int64_t)>& fn);
};

// A linear module: where it is, how it is stored, what it is packed to. Made before load from the
// header.
struct ModuleSpec {
  std::string module;  // "model.layers.3.self_attn.q_a_proj"
  const QuantMethod* method = nullptr;
  tensor::PackedFormat format = tensor::PackedFormat::kF32;
  int32_t n = 0, k = 0;
  // In words, for explain: "int4, groups of 128"; "int8 per token, dynamic".
  std::string weights, activations;
  // Where it does not run as the checkpoint says: "asked -> got, because why; cost: what". The same
  // text for every module that this happens to for the same reason. Empty: it runs as stored.
  std::string substitution;
  int64_t packed_bytes() const { return tensor::packed_bytes(format, n, k); }
};
Result<ModuleSpec> make_module(const checkpoint::WeightSource& source,
                               const checkpoint::QuantConfig& config, std::string module, int32_t n,
                               int32_t k, DType compute);

Result<tensor::PackedMatrix> load_matrix(LoadContext& context, const ModuleSpec& module);
// gate and up, both [intermediate, hidden], as one interleaved matrix.
Result<tensor::PackedMatrix> load_gate_up(LoadContext& context, const ModuleSpec& gate,
                                          const ModuleSpec& up);
// A float vector or matrix (norm weights, biases, router corrections) as float32 in the arena.
// transposed: not supported.
Result<const float*> load_floats(LoadContext& context, std::string_view tensor,
                                 std::initializer_list<int64_t> shape);

}  // namespace moestro::quant
