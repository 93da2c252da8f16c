// Packing of weights into tensor/packed_matrix.h's layout, called by quant/ while loading, on any
// thread. Sources may be unaligned. dst holds packed_bytes(...) and is 64-byte aligned; the
// returned view points into it.
#pragma once
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "tensor/packed_matrix.h"

namespace moestro::kernels {

// Of the bytes that packing makes; whatever changes them changes this number, since packed weights
// are kept in files (quant/packed_cache.h). pack_test.cpp holds their digests.
inline constexpr uint32_t kPackingVersion = 1;

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

// What lies at data (packed_bytes(format, n, k), 64-byte aligned) as a matrix without bias. Null:
// sizes without bytes, for lists of what would be loaded.
tensor::PackedMatrix packed_view(const tensor::PackedFormat& format, int32_t n, int32_t k,
                                 const std::byte* data);

// Channel c of the packed matrix is row c of src.
tensor::PackedMatrix pack_matrix(const tensor::PackedFormat& format, const SourceMatrix& src,
                                 std::byte* dst);
// gate and up, both [intermediate, hidden], interleaved by tiles of 16 channels; each side is
// padded to a multiple of 16 first.
tensor::PackedMatrix pack_gate_up(const tensor::PackedFormat& format, const SourceMatrix& gate,
                                  const SourceMatrix& up, std::byte* dst);

// The same a band of channels at a time, so that workers share a matrix and hold one band of its
// source each. m: packed_view over dst, whose bytes were zero before the first band. first:
// of the band, a multiple of 16; bands may be packed at once and in any order.
void pack_channels(const tensor::PackedMatrix& m, const SourceMatrix& band, int32_t first,
                   std::byte* dst);
void pack_gate_up_channels(const tensor::PackedMatrix& m, const SourceMatrix& gate,
                           const SourceMatrix& up, int32_t first, std::byte* dst);

}  // namespace moestro::kernels
