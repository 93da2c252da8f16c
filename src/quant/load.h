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

Result<ModuleSpec> make_module(const checkpoint::WeightSource& source,
                               const checkpoint::QuantConfig& config, std::string module, int32_t n,
                               int32_t k, DType compute);
// The module is multiplied in these floats whatever its storage says; for a quantised one that is a
// substitution. because: "it is absorbed into queries and outputs".
void force_floats(ModuleSpec& spec, tensor::PackedFormat floats, std::string_view because);

// The matrix as spec.format wants it: codes, or float values.
Result<LoadedMatrix> read_matrix(const checkpoint::WeightSource& source, const ModuleSpec& spec);
// What was read is packed: its pages may go, its bytes are progress.
void done_with(LoadContext& context, const LoadedMatrix& m);

// With the module's bias, where it has one.
Result<tensor::PackedMatrix> load_matrix(LoadContext& context, const ModuleSpec& module);
// gate and up, both [intermediate, hidden], as one interleaved matrix, and down [hidden,
// intermediate], with biases. Where down's columns are in activation order, so are gate's and up's
// channels, and down needs no k_order. kUnsupported: gate and up in different orders.
struct GatedMlp {
  tensor::PackedMatrix gate_up, down;
};
Result<GatedMlp> load_gated_mlp(LoadContext& context, const ModuleSpec& gate, const ModuleSpec& up,
                                const ModuleSpec& down);
// A float vector or matrix (norm weights, biases, router corrections) as float32 in the arena.
// transposed: not supported.
Result<const float*> load_floats(LoadContext& context, std::string_view tensor,
                                 std::initializer_list<int64_t> shape);

}  // namespace moestro::quant
