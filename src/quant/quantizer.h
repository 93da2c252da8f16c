// Quantising a weight matrix to the tensors of a compressed-tensors checkpoint: what `moestro
// quantize` writes. Scales follow compressed-tensors: the largest magnitude over the largest code;
// int4 groups try smaller ranges too and keep the one with the least squared error (its observer
// "mse"). Rounding is to nearest, ties to even. Pure functions, any thread.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "checkpoint/safetensors_writer.h"

namespace moestro::quant {

enum class CodeKind : uint8_t { kInt8, kFp8, kInt4, kMxfp4, kNvfp4 };

struct QuantizeScheme {
  std::string_view name;  // "int4-g128"
  CodeKind codes;
  int32_t group_k;           // values of k that share a scale; 0: a row
  int32_t group_n;           // rows that share a scale
  bool int8_activations;     // declared: of int4, W4A8
  std::string_view summary;  // "int4 weights, one scale for 128 inputs; 16-bit activations"
};
std::span<const QuantizeScheme> quantize_schemes();
const QuantizeScheme* find_quantize_scheme(std::string_view name);  // null: no such

// Modules that stay as they are unless the user says otherwise: "re:" patterns of
// compressed-tensors. The head, routers and what decides discrete choices; with four bits the whole
// indexer.
std::vector<std::string> default_ignore(const QuantizeScheme& scheme);

// Why a matrix [n, k] cannot be stored so; empty: it can.
std::string why_not_quantized(const QuantizeScheme& scheme, int32_t n, int32_t k);
// The module's tensors, named "<module>.weight_packed" and so on, without values.
std::vector<checkpoint::OutputTensor> quantized_tensors(const QuantizeScheme& scheme,
                                                        const std::string& module, int32_t n,
                                                        int32_t k);
// Rows that may be quantised by themselves: ranges start at multiples of this.
inline constexpr int32_t kQuantizeRows = 128;
// Fills rows [begin, end) of the tensors above, given in that order; w: [n, k]. Tensors without
// rows (shapes, the global scale) are filled with row 0. largest: of all magnitudes of the matrix,
// and of those that run fused with it; used by nvfp4.
void quantize_rows(const QuantizeScheme& scheme, const float* w, int32_t n, int32_t k,
                   int32_t begin, int32_t end, float largest,
                   std::span<const std::span<std::byte>> tensors);

// quantization_config for config.json; left: Linear modules that stay.
json::object quantization_config(const QuantizeScheme& scheme,
                                 const std::vector<std::string>& left);

}  // namespace moestro::quant
