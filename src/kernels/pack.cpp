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
using tensor::WeightType;

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

// The four bytes of packed k that start at value i of a float row; past its end they are zero.
uint32_t float_unit(WeightType type, const SourceMatrix& src, const std::byte* row, int32_t i) {
  const int32_t per_unit = tensor::values_per_step(type) / kRowsOfTile;
  const int32_t values = std::clamp(src.k - i, 0, per_unit);
  const int64_t width = bits(src.dtype) / 8;
  uint32_t unit = 0;
  for (int32_t j = 0; j < values; ++j) {
    const float v = read_float(row + (i + j) * width, src.dtype);
    unit |= type == WeightType::kF32 ? std::bit_cast<uint32_t>(v)
                                     : static_cast<uint32_t>(to_bf16(v).bits) << (16 * j);
  }
  return unit;
}

// The same of values that are stored as they are.
uint32_t stored_unit(const std::byte* row, int64_t row_bytes, int64_t at) {
  uint32_t unit = 0;
  const int64_t bytes = std::clamp<int64_t>(row_bytes - at, 0, 4);
  if (bytes > 0) std::memcpy(&unit, row + at, static_cast<size_t>(bytes));
  return unit;
}

void put(std::byte* dst, int32_t unit_idx, uint32_t unit) {
  std::memcpy(dst + unit_idx / kRowsOfTile * kKStepBytes + unit_idx % kRowsOfTile * kRowBytes,
              &unit, 4);
}

// Writes one channel of one tile column (16 channels of one panel): its four bytes of every row of
// every k-step.
void pack_channel(WeightType type, const SourceMatrix& src, const std::byte* row, int32_t steps,
                  std::byte* dst) {
  const int32_t per_unit = tensor::values_per_step(type) / kRowsOfTile;
  const bool stored = src.dtype == source_dtype(type);
  const int64_t bytes = int64_t{src.k} * tensor::bits_of(type) / 8;
  for (int32_t u = 0; u < steps * kRowsOfTile; ++u)
    put(dst, u,
        stored ? stored_unit(row, bytes, int64_t{4} * u)
               : float_unit(type, src, row, u * per_unit));
}

// The eight bits 0000dcba of each nibble pair: byte j of the result is nibble j of `codes`.
uint32_t spread_nibbles(uint32_t codes16) {
  return (codes16 & 0xf) | (codes16 & 0xf0) << 4 | (codes16 & 0xf00) << 8 |
         (codes16 & 0xf000) << 12;
}

// As pack_channel for four-bit codes: value j and value 64 + j of a k-step share a byte. Past k
// stands the code of zero.
void pack_codes(const SourceMatrix& src, const std::byte* row, int32_t steps, std::byte* dst,
                uint8_t zero) {
  const auto codes_at = [&](int32_t i) {  // sixteen bits: the codes of k = i .. i + 3
    uint32_t codes = 0;
    const int32_t values = std::clamp(src.k - i, 0, 4);
    for (int32_t j = 0; j < 4; ++j) {
      uint32_t code = zero;
      if (j < values) {
        const auto byte = std::to_integer<uint32_t>(row[(i + j) / 2]);
        code = (i + j) % 2 ? byte >> 4 : byte & 15;
      }
      codes |= code << (4 * j);
    }
    return codes;
  };
  const auto whole_at = [&](int32_t i) {
    uint16_t codes;
    std::memcpy(&codes, row + i / 2, 2);
    return static_cast<uint32_t>(codes);
  };
  for (int32_t s = 0; s < steps; ++s)
    for (int32_t r = 0; r < kRowsOfTile; ++r) {
      const int32_t i = s * 128 + r * 4;
      const bool whole = i + 64 + 4 <= src.k;
      const uint32_t low = whole ? whole_at(i) : codes_at(i);
      const uint32_t high = whole ? whole_at(i + 64) : codes_at(i + 64);
      put(dst, s * kRowsOfTile + r, spread_nibbles(low) | spread_nibbles(high) << 4);
    }
}

int32_t sum_of_row(const SourceMatrix& src, const std::byte* row) {
  int32_t sum = 0;
  for (int32_t i = 0; i < src.k; ++i) sum += static_cast<int8_t>(row[i]);
  return sum;
}

// A view over dst with room for [n, k]; every byte is zero afterwards, which is what padding holds.
PackedMatrix view_over(const PackedFormat& format, int32_t n, int32_t k, std::byte* dst) {
  DCHECK(reinterpret_cast<uintptr_t>(dst) % 64 == 0, "packed matrices are 64-byte aligned");
  const tensor::PackedLayout layout = tensor::packed_layout(format, n, k);
  std::memset(dst, 0, static_cast<size_t>(layout.end));
  PackedMatrix m;
  m.format = format;
  m.n = n;
  m.k = k;
  m.data = dst;
  if (tensor::has_channel_scales(format))
    m.scales = reinterpret_cast<const float*>(dst + layout.scales);
  if (tensor::has_compensation(format))
    m.compensation = reinterpret_cast<const int32_t*>(dst + layout.compensation);
  if (format.group_k) m.group_scales = dst + layout.group_scales;
  if (format.zero_points)
    m.zero_points = reinterpret_cast<const uint8_t*>(dst + layout.zero_points);
  return m;
}

// The parts of dst that packing writes.
struct Target {
  std::byte* data;
  float* scales;
  int32_t* compensation;
  std::byte* group_scales;
  uint8_t* zero_points;
  Target(const PackedMatrix& m, std::byte* dst) : data(dst) {
    const tensor::PackedLayout layout = tensor::packed_layout(m.format, m.n, m.k);
    scales = reinterpret_cast<float*>(dst + layout.scales);
    compensation = reinterpret_cast<int32_t*>(dst + layout.compensation);
    group_scales = dst + layout.group_scales;
    zero_points = reinterpret_cast<uint8_t*>(dst + layout.zero_points);
  }
};

// Group scales and zero points of source channel c to packed channel p.
void pack_groups(const PackedMatrix& m, const SourceMatrix& src, const Target& to, int32_t c,
                 int32_t p) {
  const int32_t groups = m.groups(), width = tensor::group_scale_bytes(m.format);
  for (int32_t g = 0; g < groups; ++g) {
    const int64_t cell =
        (int64_t{p / kPanelChannels} * groups + g) * kPanelChannels + p % kPanelChannels;
    const int64_t from = int64_t{c} * groups + g;
    std::memcpy(to.group_scales + cell * width, src.group_scales + from * width,
                static_cast<size_t>(width));
    if (m.format.zero_points) to.zero_points[cell] = src.zero_points[from];
  }
}

// Channel c of src becomes packed channel position(c) of m, whose bytes start at dst.
template <class Position>
void pack_into(const PackedMatrix& m, const SourceMatrix& src, std::byte* dst, Position position) {
  const WeightType type = m.format.weight;
  CHECK(src.dtype == source_dtype(type) ||
            (!tensor::has_channel_scales(m.format) &&
             (src.dtype == DType::kF32 || src.dtype == DType::kBF16 || src.dtype == DType::kF16)),
        "quantised sources are packed as they are, float sources as f32 or bf16");
  const Target to(m, dst);
  for (int32_t c = 0; c < src.n; ++c) {
    const int32_t p = position(c);
    const std::byte* row = src.data + c * src.row_bytes;
    std::byte* at = to.data + p / kPanelChannels * m.panel_bytes() +
                    p % kPanelChannels / kTileChannels * kTileBytes + p % kTileChannels * 4;
    if (tensor::bits_of(type) == 4)
      pack_codes(src, row, m.k_steps(), at, type == WeightType::kInt4 ? 8 : 0);
    else
      pack_channel(type, src, row, m.k_steps(), at);
    if (m.scales) to.scales[p] = src.scales ? src.scales[c] : 1.0f;
    if (m.compensation) to.compensation[p] = 128 * sum_of_row(src, row);
    pack_groups(m, src, to, c, p);
  }
}

}  // namespace

DType source_dtype(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return DType::kF32;
    case WeightType::kBf16:
      return DType::kBF16;
    case WeightType::kInt8:
      return DType::kI8;
    case WeightType::kFp8:
      return DType::kF8E4M3;
    case WeightType::kInt4:
      return DType::kU8;
    case WeightType::kFp4:
      break;
  }
  return DType::kF4;
}

PackedMatrix pack_matrix(const PackedFormat& format, const SourceMatrix& src, std::byte* dst) {
  const PackedMatrix m = view_over(format, src.n, src.k, dst);
  pack_into(m, src, dst, [](int32_t c) { return c; });
  return m;
}

PackedMatrix pack_gate_up(const PackedFormat& format, const SourceMatrix& gate,
                          const SourceMatrix& up, std::byte* dst) {
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
