#include "kernels/pack.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "tensor/numeric.h"

namespace moestro::kernels {
namespace {

using tensor::kKStepBytes;
using tensor::kPanelChannels;
using tensor::kTileChannels;
using tensor::PackedFormat;
using tensor::PackedMatrix;

constexpr int64_t kTileBytes = kKStepBytes / 2;
constexpr int64_t kRowBytes = 64;
constexpr int32_t kRowsOfTile = 16;

float read_float(const std::byte* p, DType dtype) {
  if (dtype == DType::kF32) {
    float v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return dtype == DType::kBF16 ? to_float(Bf16{bits}) : to_float(F16{bits});
}

// The four bytes of packed k that start at value i of a source row; past the end of the row they
// are zero.
uint32_t packed_unit(PackedFormat format, const SourceMatrix& src, const std::byte* row,
                     int32_t i) {
  const int32_t per_unit = tensor::values_per_step(format) / kRowsOfTile;
  const int32_t values = std::clamp(src.k - i, 0, per_unit);
  uint32_t unit = 0;
  if (format == PackedFormat::kInt8) {
    if (values > 0) std::memcpy(&unit, row + i, static_cast<size_t>(values));
    return unit;
  }
  const int64_t width = bits(src.dtype) / 8;
  for (int32_t j = 0; j < values; ++j) {
    const float v = read_float(row + (i + j) * width, src.dtype);
    unit |= format == PackedFormat::kF32 ? std::bit_cast<uint32_t>(v)
                                         : static_cast<uint32_t>(to_bf16(v).bits) << (16 * j);
  }
  return unit;
}

bool same_bits(PackedFormat format, DType dtype) {
  return format == PackedFormat::kInt8 || (format == PackedFormat::kF32 && dtype == DType::kF32) ||
         (format == PackedFormat::kBf16 && dtype == DType::kBF16);
}

// Writes one channel of one tile column (16 channels of one panel): its four bytes of every row of
// every k-step.
void pack_channel(PackedFormat format, const SourceMatrix& src, const std::byte* row, int32_t steps,
                  std::byte* dst) {
  const int32_t per_unit = tensor::values_per_step(format) / kRowsOfTile;
  const int32_t whole =
      same_bits(format, src.dtype) ? src.k / per_unit : 0;  // units copied as they are
  for (int32_t s = 0; s < steps; ++s)
    for (int32_t r = 0; r < kRowsOfTile; ++r) {
      const int32_t unit_idx = s * kRowsOfTile + r;
      uint32_t unit;
      if (unit_idx < whole)
        std::memcpy(&unit, row + int64_t{4} * unit_idx, 4);
      else
        unit = packed_unit(format, src, row, unit_idx * per_unit);
      std::memcpy(dst + s * kKStepBytes + r * kRowBytes, &unit, 4);
    }
}

int32_t sum_of_row(const SourceMatrix& src, const std::byte* row) {
  int32_t sum = 0;
  for (int32_t i = 0; i < src.k; ++i) sum += static_cast<int8_t>(row[i]);
  return sum;
}

// A view over dst with room for [n, k]; every byte is zero afterwards, which is what padding holds.
PackedMatrix view_over(PackedFormat format, int32_t n, int32_t k, std::byte* dst) {
  DCHECK(reinterpret_cast<uintptr_t>(dst) % 64 == 0, "packed matrices are 64-byte aligned");
  PackedMatrix m;
  m.format = format;
  m.n = n;
  m.k = k;
  m.data = dst;
  const int64_t weight_bytes = m.num_panels() * m.panel_bytes();
  std::memset(dst, 0, static_cast<size_t>(tensor::packed_bytes(format, n, k)));
  if (format == PackedFormat::kInt8) {
    m.scales = reinterpret_cast<const float*>(dst + weight_bytes);
    m.compensation =
        reinterpret_cast<const int32_t*>(dst + weight_bytes + int64_t{4} * m.padded_n());
  }
  return m;
}

// Channel c of src becomes packed channel position(c) of m, whose bytes start at dst.
template <class Position>
void pack_into(const PackedMatrix& m, const SourceMatrix& src, std::byte* dst, Position position) {
  const bool int8 = m.format == PackedFormat::kInt8;
  CHECK(int8 == (src.dtype == DType::kI8),
        "int8 sources are packed as int8, float sources as f32 or bf16");
  const int64_t weight_bytes = m.num_panels() * m.panel_bytes();
  auto* scales = reinterpret_cast<float*>(dst + weight_bytes);
  auto* compensation = reinterpret_cast<int32_t*>(dst + weight_bytes + int64_t{4} * m.padded_n());
  for (int32_t c = 0; c < src.n; ++c) {
    const int32_t p = position(c);
    const std::byte* row = src.data + c * src.row_bytes;
    std::byte* at = dst + p / kPanelChannels * m.panel_bytes() +
                    p % kPanelChannels / kTileChannels * kTileBytes + p % kTileChannels * 4;
    pack_channel(m.format, src, row, m.k_steps(), at);
    if (!int8) continue;
    scales[p] = src.scales[c];
    compensation[p] = 128 * sum_of_row(src, row);
  }
}

}  // namespace

PackedMatrix pack_matrix(PackedFormat format, const SourceMatrix& src, std::byte* dst) {
  const PackedMatrix m = view_over(format, src.n, src.k, dst);
  pack_into(m, src, dst, [](int32_t c) { return c; });
  return m;
}

PackedMatrix pack_gate_up(PackedFormat format, const SourceMatrix& gate, const SourceMatrix& up,
                          std::byte* dst) {
  CHECK(gate.n == up.n && gate.k == up.k, "gate and up have one shape");
  const PackedMatrix m = view_over(format, 2 * gate.n, gate.k, dst);
  const auto in_panel = [](int32_t c) {
    return c / kTileChannels * kPanelChannels + c % kTileChannels;
  };
  pack_into(m, gate, dst, in_panel);
  pack_into(m, up, dst, [&](int32_t c) { return in_panel(c) + kTileChannels; });
  return m;
}

}  // namespace moestro::kernels
