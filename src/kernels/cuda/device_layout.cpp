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

void clear_int4(const DeviceMatrix& m, std::byte* dst) {
  constexpr std::byte kZeros{0x88};  // two codes of value 0
  std::memset(dst, 0, static_cast<size_t>(m.int4_bytes()));
  for (int64_t step = 0; step < int64_t{m.blocks()} * m.k_steps(); ++step)
    std::fill_n(dst + step * kInt4BlockStepBytes, kInt4CodeBytes, kZeros);
}

void place_int4_row(const DeviceMatrix& m, const int8_t* src, const uint16_t* scales, int32_t group,
                    int32_t packed_row, std::byte* dst) {
  for (int32_t k = 0; k < m.k; ++k) {
    const Int4Place at = int4_place(m, packed_row, k);
    uint32_t word;
    std::memcpy(&word, dst + at.word, 4);
    word = (word & ~(0xfu << at.bit)) | static_cast<uint32_t>(src[k] + 8) << at.bit;
    std::memcpy(dst + at.word, &word, 4);
    std::memcpy(dst + at.scale, scales + k / group, 2);
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

void pack_plain_int4(const DeviceMatrix& m, const int8_t* src, const uint16_t* scales,
                     int32_t group, void* dst) {
  auto* to = static_cast<std::byte*>(dst);
  clear_int4(m, to);
  for (int32_t c = 0; c < m.n; ++c)
    place_int4_row(m, src + int64_t{c} * m.k, scales + int64_t{c} * ceil_div(m.k, group), group,
                   plain_row(c), to);
}

void pack_gate_up_int4(const DeviceMatrix& m, int32_t intermediate, const int8_t* gate,
                       const int8_t* up, const uint16_t* gate_scales, const uint16_t* up_scales,
                       int32_t group, void* dst) {
  auto* to = static_cast<std::byte*>(dst);
  clear_int4(m, to);
  for (int32_t c = 0; c < intermediate; ++c)
    for (int32_t side = 0; side < 2; ++side)
      place_int4_row(m, (side == 0 ? gate : up) + int64_t{c} * m.k,
                     (side == 0 ? gate_scales : up_scales) + int64_t{c} * ceil_div(m.k, group),
                     group, gate_up_row(c, side), to);
}

void pack_plain_block_scales(const DeviceMatrix& m, const float* src, float* dst) {
  const int32_t steps = m.k_steps(), rows = ceil_div(m.n, kBlockRows / 2);
  for (int32_t b = 0; b < m.blocks(); ++b)
    for (int32_t k = 0; k < steps; ++k)
      for (int32_t w = 0; w < 2; ++w)
        for (int32_t h = 0; h < 2; ++h)
          *dst++ = 2 * b + w < rows ? src[int64_t{2 * b + w} * steps + k] : 0.0f;
}

void pack_gate_up_block_scales(const DeviceMatrix& m, int32_t intermediate, const float* gate,
                               const float* up, float* dst) {
  const int32_t steps = m.k_steps();
  for (int32_t b = 0; b < ceil_div(intermediate, kBlockRows / 2); ++b)
    for (int32_t k = 0; k < steps; ++k)
      for (int32_t w = 0; w < 2; ++w)
        for (const float* side : {gate, up}) *dst++ = side[int64_t{b} * steps + k];
}

}  // namespace moestro::kernels::cuda
