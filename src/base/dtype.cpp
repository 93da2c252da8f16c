#include "base/dtype.h"

namespace moestro {
namespace {

struct Row {
  DType type;
  int bits;
  std::string_view safetensors;
  std::string_view torch;
};

constexpr Row kRows[] = {
    {DType::kBool, 8, "BOOL", "bool"},
    {DType::kU8, 8, "U8", "uint8"},
    {DType::kI8, 8, "I8", "int8"},
    {DType::kI16, 16, "I16", "int16"},
    {DType::kU16, 16, "U16", "uint16"},
    {DType::kI32, 32, "I32", "int32"},
    {DType::kU32, 32, "U32", "uint32"},
    {DType::kI64, 64, "I64", "int64"},
    {DType::kU64, 64, "U64", "uint64"},
    {DType::kF16, 16, "F16", "float16"},
    {DType::kBF16, 16, "BF16", "bfloat16"},
    {DType::kF32, 32, "F32", "float32"},
    {DType::kF64, 64, "F64", "float64"},
    {DType::kF8E4M3, 8, "F8_E4M3", "float8_e4m3fn"},
    {DType::kF8E5M2, 8, "F8_E5M2", "float8_e5m2"},
    {DType::kF8E8M0, 8, "F8_E8M0", "float8_e8m0fnu"},
    {DType::kF8E4M3Fnuz, 8, "F8_E4M3FNUZ", "float8_e4m3fnuz"},
    {DType::kF8E5M2Fnuz, 8, "F8_E5M2FNUZ", "float8_e5m2fnuz"},
    {DType::kF4, 4, "F4", "float4_e2m1fn_x2"},
    {DType::kF6E2M3, 6, "F6_E2M3", "float6_e2m3"},
    {DType::kF6E3M2, 6, "F6_E3M2", "float6_e3m2"},
    {DType::kC64, 64, "C64", "complex64"},
};

const Row& row(DType t) {
  for (const Row& r : kRows)
    if (r.type == t) return r;
  return kRows[0];
}

}  // namespace

int bits(DType t) { return row(t).bits; }
std::string_view safetensors_name(DType t) { return row(t).safetensors; }
std::string_view torch_name(DType t) { return row(t).torch; }

std::optional<DType> from_safetensors(std::string_view name) {
  for (const Row& r : kRows)
    if (r.safetensors == name) return r.type;
  return std::nullopt;
}

std::optional<DType> from_torch(std::string_view name) {
  if (name == "half") return DType::kF16;
  if (name == "float") return DType::kF32;
  for (const Row& r : kRows)
    if (r.torch == name) return r.type;
  return std::nullopt;
}

}  // namespace moestro
