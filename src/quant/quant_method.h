// QuantMethod: one checkpoint scheme (how a linear module's weight is stored), one file each. A
// method recognises its tensors from the header alone, says which packed layout and activation
// format it runs in, and reads a matrix for packing. Stateless singletons; called by models/
// (recognition, before load) and quant/load.h (reading, on loader threads).
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"
#include "kernels/pack.h"
#include "tensor/packed_matrix.h"

namespace moestro::quant {

// A matrix [n, k] ready for kernels::pack_*; owns whatever `source` points into.
struct LoadedMatrix {
  kernels::SourceMatrix source;
  checkpoint::TensorView tensor;  // bytes as stored (source.data may point here)
  std::vector<float> scales;      // int8: [n]
  std::vector<float> values;      // dequantised values, when they had to be made
};

class QuantMethod {
 public:
  virtual ~QuantMethod() = default;
  virtual std::string_view name() const = 0;  // "w16a16", "int8_w8a8"
  virtual std::string_view weights()
      const = 0;  // "bf16/fp16/fp32", "int8 per channel", for explain
  virtual std::string_view activations() const = 0;  // "as computed", "int8 per token, dynamic"
  // Is module ("model.layers.3.mlp.gate_proj") stored this way? declared: what the config says of
  // it, or null.
  virtual bool stored_as(const checkpoint::WeightSource& source, std::string_view module,
                         const checkpoint::QuantGroup* declared) const = 0;
  // The layout it is packed to, for the compute type asked for (float32 or bfloat16).
  virtual tensor::PackedFormat packed_format(DType compute) const = 0;
  virtual Result<LoadedMatrix> read(const checkpoint::WeightSource& source, std::string_view module,
                                    int32_t n, int32_t k) const = 0;
  // The same, as float32 or bfloat16 values: for matrices that are multiplied in float whatever
  // their storage (MLA's absorbed kv_b_proj).
  virtual Result<LoadedMatrix> read_float(const checkpoint::WeightSource& source,
                                          std::string_view module, int32_t n, int32_t k) const = 0;
};

// Every method, asked in this order.
std::span<const QuantMethod* const> quant_methods();

// The method that module is stored in. None: kUnsupported that names the tensors found and what the
// config declares. A module that the config declares quantised but that is stored plain (or the
// other way round) is taken as stored: the tensors decide.
Result<const QuantMethod*> find_quant_method(const checkpoint::WeightSource& source,
                                             const checkpoint::QuantConfig& config,
                                             std::string_view module);

}  // namespace moestro::quant
