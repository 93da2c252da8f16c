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
  DType dtype = DType::kBF16;  // kF32, kBF16, kF16 for float formats; kI8 for int8
  int32_t n = 0, k = 0;
  int64_t row_bytes = 0;          // distance between rows
  const float* scales = nullptr;  // [n], int8 only
};

// Channel c of the packed matrix is row c of src.
tensor::PackedMatrix pack_matrix(tensor::PackedFormat format, const SourceMatrix& src,
                                 std::byte* dst);
// gate and up, both [intermediate, hidden], interleaved by tiles of 16 channels; each side is
// padded to a multiple of 16 first.
tensor::PackedMatrix pack_gate_up(tensor::PackedFormat format, const SourceMatrix& gate,
                                  const SourceMatrix& up, std::byte* dst);

}  // namespace moestro::kernels
