// Reading and packing weights: what layers/ and moe/ call while they are built. One LoadContext a
// model load; functions may be called from several loader threads at once. Weights that the store
// has already (a packed cache) are neither read nor packed.
#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "checkpoint/weight_source.h"
#include "platform/gang.h"
#include "quant/quant_method.h"
#include "quant/weight_store.h"
#include "tensor/packed_matrix.h"

namespace moestro::quant {

struct LoadContext {
  const checkpoint::WeightSource& source;
  WeightStore& store;
  platform::Gang& gang;
  std::function<void(uint64_t source_bytes)>
      progress;  // bytes of the checkpoint read since the last call; any thread; may be empty

  // fn(i) for i in [0, n) on all workers, each i once; the first error (by index) is returned after
  // all are done. Called by fn itself it runs on that worker alone: a model's matrices are shared
  // out whole where there are many, else by bands of channels.
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

// Where the packed matrix of that name and size goes; its view has no bias.
struct PlacedMatrix {
  tensor::PackedMatrix matrix;
  std::byte* fill = nullptr;  // null: nothing to pack
};
Result<PlacedMatrix> place_matrix(LoadContext& context, std::string_view name,
                                  const tensor::PackedFormat& format, int32_t n, int32_t k);

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
// A float vector or matrix (norm weights, biases, router corrections) as float32.
Result<const float*> load_floats(LoadContext& context, std::string_view tensor,
                                 std::initializer_list<int64_t> shape);

}  // namespace moestro::quant
