#include "quant/dequantise.h"

#include <algorithm>
#include <array>

#include "base/format.h"
#include "quant/scales.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> t{};
    for (size_t i = 0; i < t.size(); ++i) t[i] = e4m3_to_float(static_cast<uint8_t>(i));
    return t;
  }();
  return table;
}

// The codes of one row as numbers, before scales and zero points.
void decode_row(const kernels::SourceMatrix& m, const std::byte* row, float* out) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(row);
  const auto nibble = [&](int32_t i) {
    return static_cast<uint8_t>(i % 2 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15);
  };
  switch (m.dtype) {
    case DType::kI8:
      for (int32_t i = 0; i < m.k; ++i) out[i] = static_cast<int8_t>(bytes[i]);
      break;
    case DType::kF8E4M3: {
      const std::array<float, 256>& values = e4m3_values();
      for (int32_t i = 0; i < m.k; ++i) out[i] = values[bytes[i]];
      break;
    }
    case DType::kU8:
      for (int32_t i = 0; i < m.k; ++i) out[i] = static_cast<float>(nibble(i));
      break;
    default:
      for (int32_t i = 0; i < m.k; ++i) out[i] = e2m1_to_float(nibble(i));
  }
}

// s: one row with its scales.
void scale_row(const kernels::SourceMatrix& s, const tensor::PackedFormat& stored, float* out) {
  const int32_t groups = tensor::groups_of(stored, s.k);
  const int32_t group_k = groups ? stored.group_k : s.k;
  const float channel = s.scales ? *s.scales : 1.0f;
  const bool int4 = stored.weight == tensor::WeightType::kInt4;
  for (int32_t begin = 0, g = 0; begin < s.k; begin += group_k, ++g) {
    const float scale = groups ? float_at(s.group_scales, stored.group_scale, g) : 1.0f;
    const float zero = !int4 ? 0.0f : stored.zero_points ? s.zero_points[g] : 8.0f;
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

LoadedMatrix dequantised(LoadedMatrix stored) {
  if (!tensor::has_channel_scales(stored.stored)) return stored;
  const auto codes = std::make_shared<const LoadedMatrix>(std::move(stored));
  const int32_t k = codes->source.k;
  LoadedMatrix m;
  m.tensors = codes->tensors;
  m.source = {.data = nullptr,
              .dtype = DType::kF32,
              .n = codes->source.n,
              .k = k,
              .row_bytes = int64_t{k} * 4};
  m.make_rows = [codes, k](int32_t begin, int32_t end, std::byte* out) {
    std::vector<std::byte> made;
    kernels::SourceMatrix row = codes->rows(begin, end, made);
    const tensor::PackedFormat& f = codes->stored;
    const int32_t groups = tensor::groups_of(f, k);
    std::vector<float> packed;  // a row in the order of k_order
    for (int32_t c = begin; c < end; ++c, out += int64_t{k} * 4) {
      auto* values = reinterpret_cast<float*>(out);
      decode_row(row, row.data, values);
      scale_row(row, f, values);
      if (!codes->k_order.empty()) {
        packed.assign(values, values + k);
        for (int32_t i = 0; i < k; ++i)
          values[codes->k_order[static_cast<size_t>(i)]] = packed[static_cast<size_t>(i)];
      }
      row.data += row.row_bytes;
      if (row.scales) ++row.scales;
      if (row.group_scales) row.group_scales += groups * tensor::group_scale_bytes(f);
      if (row.zero_points) row.zero_points += groups;
    }
  };
  return m;
}

}  // namespace moestro::quant
