// What int8_w8a8, int8_block, fp8_w8a8 and fp8_block share: eight-bit codes [n, k] in X.weight and
// scales beside them. Called by those four files only.
#pragma once
#include "quant/quant_method.h"

namespace moestro::quant {

struct EightBit {
  DType dtype;              // of X.weight
  tensor::WeightType type;  // packed
  std::string_view word;    // "int8"
};
inline constexpr EightBit kInt8Codes{DType::kI8, tensor::WeightType::kInt8, "int8"};
inline constexpr EightBit kFp8Codes{DType::kF8E4M3, tensor::WeightType::kFp8, "fp8"};

// Is X.weight of these codes, with a scale a block (X.weight_scale_inv, or X.weight_scale that is
// neither [n, 1], [n], [1] nor [])? Without a block: any other X.weight_scale.
bool has_block_scales(const EightBit& codes, const ModuleFacts& facts);
bool has_channel_scales_of(const EightBit& codes, const ModuleFacts& facts);

Result<LoadedMatrix> read_codes(const EightBit& codes, const checkpoint::WeightSource& source,
                                const ModuleSpec& spec);

Status describe_blocks(const EightBit& codes, const ModuleFacts& facts, ModuleSpec& spec);
Result<LoadedMatrix> read_blocks(const EightBit& codes, const checkpoint::WeightSource& source,
                                 const ModuleSpec& spec);

}  // namespace moestro::quant
