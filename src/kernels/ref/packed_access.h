// Scalar access to packed weights and the rounding of activations, shared by the reference kernels
// and by tests. Pure functions, any thread. Sums are taken in double (int8: exactly) and rounded
// once, so this is the truth for fast kernels.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "tensor/numeric.h"
#include "tensor/packed_matrix.h"

namespace moestro::kernels::ref {

// The group scale of group g of a channel in packed order.
inline float group_scale_at(const tensor::PackedMatrix& w, int32_t channel, int32_t g) {
  const std::byte* p = w.panel_scales(channel / tensor::kPanelChannels, g) +
                       channel % tensor::kPanelChannels * tensor::group_scale_bytes(w.format);
  switch (w.format.group_scale) {
    case DType::kBF16: {
      Bf16 v;
      std::memcpy(&v.bits, p, 2);
      return to_float(v);
    }
    case DType::kF16: {
      F16 v;
      std::memcpy(&v.bits, p, 2);
      return to_float(v);
    }
    case DType::kF8E8M0:
      return e8m0_to_float(std::to_integer<uint8_t>(*p));
    case DType::kF8E4M3:
      return e4m3_to_float(std::to_integer<uint8_t>(*p));
    default: {
      float v;
      std::memcpy(&v, p, 4);
      return v;
    }
  }
}

// The weight at [channel, i] before any scale (int8 and fp8: q; four-bit: the code's value, less
// the zero point), channel in packed order.
inline double weight_at(const tensor::PackedMatrix& w, int32_t channel, int32_t i) {
  using tensor::WeightType;
  const int32_t per_step = tensor::values_per_step(w.format);
  const bool nibbles = tensor::bits_of(w.format.weight) == 4;
  const int32_t in_step = nibbles ? i % per_step % 64 : i % per_step;
  const int32_t per_unit = nibbles ? 4 : per_step / 16;
  const std::byte* p =
      w.panel(channel / tensor::kPanelChannels) + i / per_step * tensor::kKStepBytes +
      channel % tensor::kPanelChannels / tensor::kTileChannels * (tensor::kKStepBytes / 2) +
      in_step / per_unit * 64 + channel % tensor::kTileChannels * 4 +
      in_step % per_unit * (4 / per_unit);
  const auto byte = std::to_integer<uint8_t>(*p);
  const auto code = static_cast<uint8_t>(i % per_step < 64 ? byte & 15 : byte >> 4);
  switch (w.format.weight) {
    case WeightType::kF32: {
      float v;
      std::memcpy(&v, p, 4);
      return v;
    }
    case WeightType::kBf16: {
      Bf16 v;
      std::memcpy(&v.bits, p, 2);
      return to_float(v);
    }
    case WeightType::kFp8:
      return e4m3_to_float(byte);
    case WeightType::kFp4:
      return e2m1_to_float(code);
    case WeightType::kInt4: {
      const int32_t zero =
          w.format.zero_points
              ? w.panel_zeros(channel / tensor::kPanelChannels,
                              i / w.format.group_k)[channel % tensor::kPanelChannels]
              : 8;
      return code - zero;
    }
    case WeightType::kInt8:
      break;
  }
  return static_cast<int8_t>(byte);
}

// Scales that round_row writes for a row of k values.
inline int32_t row_scales(const tensor::PackedFormat& f, int32_t k) {
  return f.activation_group == 0 ? 1 : (k + f.activation_group - 1) / f.activation_group;
}

// One group of an activation row: values (int8: whole numbers in [-127, 127]; fp8: e4m3 values);
// returns their scale. A group that holds an infinity or a NaN gets q = 0 and the scale NaN, so
// that only its own row is NaN; one so small that absmax / 127 is zero counts as all zero.
inline float round_group(const tensor::PackedFormat& f, const float* x, int32_t k, float* out) {
  const bool int8 = f.activation == tensor::ActivationType::kInt8;
  uint32_t largest = 0;  // as bits: orders finite < infinite < NaN
  for (int32_t i = 0; i < k; ++i)
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  float scale = std::bit_cast<float>(largest) / (int8 ? 127.0f : 448.0f);
  const bool finite = largest < 0x7f800000u;
  if (f.activation_pow2 && finite && scale > 0) scale = std::exp2(std::ceil(std::log2(scale)));
  for (int32_t i = 0; i < k; ++i) {
    const float q = finite && scale > 0 ? x[i] / scale : 0.0f;
    out[i] = int8 ? std::clamp(std::nearbyint(q), -127.0f, 127.0f) : e4m3_to_float(to_e4m3(q));
  }
  return finite ? scale : std::numeric_limits<float>::quiet_NaN();
}

// An activation row as w's format and order want it, and its scales [row_scales].
inline void round_row(const tensor::PackedMatrix& w, const float* x, float* out, float* scales) {
  const tensor::PackedFormat& f = w.format;
  const int32_t k = w.k;
  if (w.k_order) {
    for (int32_t i = 0; i < k; ++i) out[i] = x[w.k_order[i]];
    x = out;  // rounded where it lies
  }
  if (f.activation == tensor::ActivationType::kF32 ||
      f.activation == tensor::ActivationType::kBf16) {
    for (int32_t i = 0; i < k; ++i)
      out[i] = f.activation == tensor::ActivationType::kBf16 ? to_float(to_bf16(x[i])) : x[i];
    scales[0] = 1.0f;
    return;
  }
  const int32_t group = f.activation_group ? f.activation_group : k;
  for (int32_t i = 0; i < k; i += group)
    scales[i / group] = round_group(f, x + i, std::min(group, k - i), out + i);
}

// One output, without bias. `row` and `scales` come from round_row.
inline float dot(const tensor::PackedMatrix& w, int32_t channel, const float* row,
                 const float* scales) {
  const tensor::PackedFormat& f = w.format;
  const float channel_scale = w.scales ? w.scales[channel] : 1.0f;
  double sum = 0;
  if (!f.group_k && !f.activation_group) {
    for (int32_t i = 0; i < w.k; ++i) sum += weight_at(w, channel, i) * static_cast<double>(row[i]);
    return w.scales ? static_cast<float>(sum) * (scales[0] * channel_scale)
                    : static_cast<float>(sum);
  }
  for (int32_t i = 0; i < w.k; ++i) {
    const double group = f.group_k ? group_scale_at(w, channel, i / f.group_k) : 1.0;
    const double scale = scales[f.activation_group ? i / f.activation_group : 0];
    sum += weight_at(w, channel, i) * group * scale * static_cast<double>(row[i]);
  }
  return static_cast<float>(sum * channel_scale);
}

inline float bias_at(const tensor::PackedMatrix& w, int32_t channel) {
  return w.bias ? w.bias[channel] : 0.0f;
}

constexpr int64_t round_up_64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace moestro::kernels::ref
