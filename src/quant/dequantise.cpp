#include "quant/dequantise.h"

#include <array>

#include "base/format.h"
#include "quant/scales.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

using Row = float*;

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> t{};
    for (size_t i = 0; i < t.size(); ++i) t[i] = e4m3_to_float(static_cast<uint8_t>(i));
    return t;
  }();
  return table;
}

// The codes of one row as numbers, before scales and zero points.
void decode_row(const kernels::SourceMatrix& m, const std::byte* row, Row out) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(row);
  const auto nibble = [&](int32_t i) {
    return static_cast<uint8_t>(i % 2 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15);
  };
  for (int32_t i = 0; i < m.k; ++i) {
    switch (m.dtype) {
      case DType::kI8:
        out[i] = static_cast<int8_t>(bytes[i]);
        break;
      case DType::kF8E4M3:
        out[i] = e4m3_values()[bytes[i]];
        break;
      case DType::kU8:
        out[i] = static_cast<float>(nibble(i));
        break;
      default:
        out[i] = e2m1_to_float(nibble(i));
    }
  }
}

void scale_row(const LoadedMatrix& m, int32_t c, Row out) {
  const kernels::SourceMatrix& s = m.source;
  const int32_t groups = tensor::groups_of(m.stored, s.k);
  const int32_t group_k = groups ? m.stored.group_k : s.k;
  const float channel = s.scales ? s.scales[c] : 1.0f;
  const bool int4 = m.stored.weight == tensor::WeightType::kInt4;
  for (int32_t begin = 0, g = 0; begin < s.k; begin += group_k, ++g) {
    const int64_t cell = int64_t{c} * groups + g;
    const float scale = groups ? float_at(s.group_scales, m.stored.group_scale, cell) : 1.0f;
    const float zero = !int4 ? 0.0f : m.stored.zero_points ? s.zero_points[cell] : 8.0f;
    for (int32_t i = begin; i < std::min(begin + group_k, s.k); ++i)
      out[i] = (out[i] - zero) * scale * channel;
  }
}

}  // namespace

std::string substitution(std::string_view asked, std::string_view got, std::string_view because,
                         std::string_view cost) {
  return format("{} -> {}, because {}; cost: {}", asked, got, because, cost);
}

void run_in_floats(ModuleSpec& spec, DType compute, std::string_view asked,
                   std::string_view because, int32_t stored_bits) {
  spec.format = compute == DType::kF32 ? tensor::PackedFormat::kF32 : tensor::PackedFormat::kBf16;
  spec.activations = std::string(torch_name(compute));
  spec.substitution = substitution(
      asked, format("weights and activations in {}", torch_name(compute)), because,
      format("{} times the memory of the stored weights", bits(compute) / stored_bits));
}

LoadedMatrix dequantised(LoadedMatrix m) {
  if (!tensor::has_channel_scales(m.stored)) return m;
  const kernels::SourceMatrix stored = m.source;
  m.values.resize(static_cast<size_t>(stored.n) * static_cast<size_t>(stored.k));
  std::vector<float> reordered;
  for (int32_t c = 0; c < stored.n; ++c) {
    Row out = m.values.data() + int64_t{c} * stored.k;
    decode_row(stored, stored.data + c * stored.row_bytes, out);
    scale_row(m, c, out);
    if (m.k_order.empty()) continue;
    reordered.assign(out, out + stored.k);
    for (int32_t i = 0; i < stored.k; ++i)
      out[m.k_order[static_cast<size_t>(i)]] = reordered[static_cast<size_t>(i)];
  }
  m.k_order.clear();
  m.stored = tensor::PackedFormat::kF32;
  m.source = {.data = reinterpret_cast<const std::byte*>(m.values.data()),
              .dtype = DType::kF32,
              .n = stored.n,
              .k = stored.k,
              .row_bytes = int64_t{stored.k} * 4};
  return m;
}

}  // namespace moestro::quant
