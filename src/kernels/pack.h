// Packing of weights into tensor/packed_matrix.h's layout, called by quant/ while loading, on any
// thread. Sources may be unaligned. dst holds packed_bytes(...) and is 64-byte aligned; the
// returned view points into it.
#pragma once
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "tensor/packed_matrix.h"

namespace moestro::kernels {

// A row-major source matrix [n, k].
struct SourceMatrix {
  const std::byte* data = nullptr;
  // kF32, kBF16, kF16 for float formats; kI8 for int8; kF8E4M3 for fp8; kF4 for fp4 and kU8 for
  // int4: two codes a byte, the even k in the low nibble (int4 code u is u - 8).
  DType dtype = DType::kBF16;
  int32_t n = 0, k = 0;
  int64_t row_bytes = 0;          // distance between rows
  const float* scales = nullptr;  // [n]; null: ones
  // [n, groups] of the format's group_scale type, where it has groups.
  const std::byte* group_scales = nullptr;
  const uint8_t* zero_points = nullptr;  // [n, groups], int4 codes, where the format has them
};
// The source dtype that a weight type is packed from without conversion.
DType source_dtype(tensor::WeightType type);

// Channel c of the packed matrix is row c of src.
tensor::PackedMatrix pack_matrix(const tensor::PackedFormat& format, const SourceMatrix& src,
                                 std::byte* dst);
// gate and up, both [intermediate, hidden], interleaved by tiles of 16 channels; each side is
// padded to a multiple of 16 first.
tensor::PackedMatrix pack_gate_up(const tensor::PackedFormat& format, const SourceMatrix& gate,
                                  const SourceMatrix& up, std::byte* dst);

}  // namespace moestro::kernels
