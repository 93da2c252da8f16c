// DType: element types as checkpoints and flags name them. Conversions live in tensor/numeric.h.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace moestro {

enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kI32,
  kU32,
  kI64,
  kU64,
  kF16,
  kBF16,
  kF32,
  kF64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kC64,
};

int bits(DType t);                           // per element, 4 and 6 for the sub-byte types
std::string_view safetensors_name(DType t);  // "BF16"
std::optional<DType> from_safetensors(std::string_view name);
std::string_view torch_name(DType t);                    // "bfloat16"
std::optional<DType> from_torch(std::string_view name);  // also vLLM's aliases "half" and "float"

}  // namespace moestro
