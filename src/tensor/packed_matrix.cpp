#include "tensor/packed_matrix.h"

#include <string_view>

#include "base/format.h"

namespace moestro::tensor {
namespace {

std::string_view weight_name(WeightType t) {
  switch (t) {
    case WeightType::kF32:
      return "f32";
    case WeightType::kBf16:
      return "bf16";
    case WeightType::kInt8:
      return "int8";
    case WeightType::kFp8:
      return "fp8";
    case WeightType::kInt4:
      return "int4";
    case WeightType::kFp4:
      break;
  }
  return "fp4";
}

}  // namespace

std::string packed_format_name(const PackedFormat& f) {
  return format("panel32-{}{}{}", weight_name(f.weight),
                f.group_k ? format("-g{}", f.group_k) : std::string(), f.zero_points ? "-zp" : "");
}

std::string activation_name(const PackedFormat& f) {
  if (f.activation == ActivationType::kF32) return "f32";
  if (f.activation == ActivationType::kBf16) return "bf16";
  return format("{} per token{}{}", f.activation == ActivationType::kInt8 ? "int8" : "fp8",
                f.activation_group ? format(" and {} values", f.activation_group) : std::string(),
                f.activation_pow2 ? ", power-of-two scales" : "");
}

}  // namespace moestro::tensor
