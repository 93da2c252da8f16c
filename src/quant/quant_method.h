// QuantMethod: one checkpoint scheme (how a linear module's weight is stored), one file each. A
// method recognises its tensors from the header alone, says which packed layout and activation
// format they run in and what that departs from, and reads a matrix for packing. Stateless
// singletons; called by quant/load.h (recognition before load, reading on loader threads). Formats:
// reference facts "Quantized checkpoints".
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"
#include "kernels/pack.h"
#include "quant/module_facts.h"
#include "tensor/packed_matrix.h"

namespace moestro::quant {

class QuantMethod;

// A linear module: where it is, how it is stored, what it is packed to. Made before load from the
// header.
struct ModuleSpec {
  std::string module;  // "model.layers.3.self_attn.q_a_proj"
  const QuantMethod* method = nullptr;
  // What the config says of it, or null; the QuantConfig outlives loading.
  const checkpoint::QuantGroup* declared = nullptr;
  tensor::PackedFormat format = tensor::PackedFormat::kF32;
  int32_t n = 0, k = 0;
  bool has_fused_bias = false;  // it is a part of a tensor of all experts' biases
  std::string bias;             // tensor of one of its own, [n]; "": none
  bool has_bias() const { return has_fused_bias || !bias.empty(); }
  // In words, for explain: "int4, groups of 128"; "int8 per token, dynamic".
  std::string weights, activations;
  // Where it does not run as the checkpoint says: "asked -> got, because why; cost: what". The same
  // text for every module that this happens to for the same reason. Empty: it runs as stored.
  std::string substitution;
  int64_t packed_bytes() const { return tensor::packed_bytes(format, n, k); }
};

// Writes rows [begin, end) to out, row_bytes of the matrix's source each. Any thread, several at
// once; what it reads lives as long as it.
using MakeRows = std::function<void(int32_t begin, int32_t end, std::byte* out)>;

// A matrix [n, k] ready for kernels::pack_*; owns whatever `source` points into. Rows that are not
// in the checkpoint as they are packed are made when they are wanted, so that nobody holds a whole
// matrix twice.
struct LoadedMatrix {
  LoadedMatrix() = default;
  LoadedMatrix(LoadedMatrix&&) = default;  // a copy would point into the original
  LoadedMatrix& operator=(LoadedMatrix&&) = default;

  // Rows [begin, end) with their scales. `made` holds those that had to be made.
  kernels::SourceMatrix rows(int32_t begin, int32_t end, std::vector<std::byte>& made) const;

  kernels::SourceMatrix source;  // data null: make_rows makes them
  MakeRows make_rows;
  // How `source` is to be understood: weight type, groups, zero points. A float weight type: plain
  // values.
  tensor::PackedFormat stored;
  // What was read, for progress; its pages may go once the matrix is packed.
  std::vector<checkpoint::TensorView> tensors;
  // Bytes that had to be made; `source` may point into them.
  std::vector<float> scales;  // [n]
  std::vector<std::byte> group_scales;
  std::vector<uint8_t> zero_points;  // [n, groups]
  // [k] or empty: column i of `source` is the module's column k_order[i] (activation_order.h).
  std::vector<int32_t> k_order;
  std::shared_ptr<const void> owner;  // of bytes that are not in `tensors`
};

class QuantMethod {
 public:
  virtual ~QuantMethod() = default;
  virtual std::string_view name() const = 0;  // "w16a16", "int8_w8a8"
  virtual bool stored_as(const ModuleFacts& facts) const = 0;
  // Fills in format, words and substitution of a module that it stores. kUnsupported, kDataLoss:
  // the header shows what nobody can read.
  virtual Status describe(const ModuleFacts& facts, ModuleSpec& spec) const = 0;
  // The matrix as it is stored, or as float values where codes cannot be packed. Missing tensors,
  // wrong shapes, scales that are not numbers: kDataLoss naming the tensor.
  virtual Result<LoadedMatrix> read(const checkpoint::WeightSource& source,
                                    const ModuleSpec& spec) const = 0;
};

ModuleFacts facts_of(const checkpoint::WeightSource& source, const ModuleSpec& spec);

// Every method, asked in this order.
std::span<const QuantMethod* const> quant_methods();

// The method that the module is stored in. None: kUnsupported that names the tensors found and what
// the config declares. A module that the config declares quantised but that is stored plain (or the
// other way round) is taken as stored: the tensors decide.
Result<const QuantMethod*> find_quant_method(const ModuleFacts& facts);

}  // namespace moestro::quant
