#include "kernels/cuda/device_layout.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace moestro::kernels::cuda {
namespace {

void clear(const DeviceMatrix& m, void* dst, float* dst_scales) {
  std::memset(dst, 0, static_cast<size_t>(m.bytes()));
  if (dst_scales) std::fill_n(dst_scales, m.padded_n(), 0.0f);
}

// One source row into its packed row, 16 bytes at a time.
void place_row(const DeviceMatrix& m, const std::byte* src, int32_t packed_row, std::byte* dst) {
  const int32_t bytes = m.k * m.value_bytes;
  for (int32_t b = 0; b < bytes; b += 16)
    std::memcpy(dst + packed_offset(m, packed_row, b), src + b,
                static_cast<size_t>(std::min(16, bytes - b)));
}

void place_side(const DeviceMatrix& m, int32_t intermediate, int32_t side, const void* src,
                const float* scales, void* dst, float* dst_scales) {
  const int64_t row_bytes = int64_t{m.k} * m.value_bytes;
  for (int32_t c = 0; c < intermediate; ++c) {
    const int32_t row = gate_up_row(c, side);
    place_row(m, static_cast<const std::byte*>(src) + c * row_bytes, row,
              static_cast<std::byte*>(dst));
    if (scales) dst_scales[row] = scales[c];
  }
}

}  // namespace

void pack_plain(const DeviceMatrix& m, const void* src, const float* scales, void* dst,
                float* dst_scales) {
  clear(m, dst, dst_scales);
  const int64_t row_bytes = int64_t{m.k} * m.value_bytes;
  for (int32_t c = 0; c < m.n; ++c) {
    const int32_t row = plain_row(c);
    place_row(m, static_cast<const std::byte*>(src) + c * row_bytes, row,
              static_cast<std::byte*>(dst));
    if (scales) dst_scales[row] = scales[c];
  }
}

void pack_gate_up(const DeviceMatrix& m, int32_t intermediate, const void* gate, const void* up,
                  const float* gate_scales, const float* up_scales, void* dst, float* dst_scales) {
  clear(m, dst, dst_scales);
  place_side(m, intermediate, 0, gate, gate_scales, dst, dst_scales);
  place_side(m, intermediate, 1, up, up_scales, dst, dst_scales);
}

}  // namespace moestro::kernels::cuda
