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

// Weight q (int8) or value at [channel, i], channel in packed order.
inline double weight_at(const tensor::PackedMatrix& w, int32_t channel, int32_t i) {
  const int32_t per_step = tensor::values_per_step(w.format), per_unit = per_step / 16;
  const std::byte* p =
      w.panel(channel / tensor::kPanelChannels) + i / per_step * tensor::kKStepBytes +
      channel % tensor::kPanelChannels / tensor::kTileChannels * (tensor::kKStepBytes / 2) +
      i % per_step / per_unit * 64 + channel % tensor::kTileChannels * 4 +
      i % per_unit * (4 / per_unit);
  switch (w.format) {
    case tensor::PackedFormat::kF32: {
      float v;
      std::memcpy(&v, p, 4);
      return v;
    }
    case tensor::PackedFormat::kBf16: {
      Bf16 v;
      std::memcpy(&v.bits, p, 2);
      return to_float(v);
    }
    case tensor::PackedFormat::kInt8:
      break;
  }
  return static_cast<int8_t>(*p);
}

// An activation row as the weight's format wants it: values (int8: whole numbers in [-127, 127])
// and their scale. int8: a row that holds an infinity or a NaN gets q = 0 and the scale NaN, so
// that only its own outputs are NaN; a row so small that absmax / 127 is zero counts as all zero.
inline float round_row(tensor::PackedFormat format, const float* x, int32_t k, float* out) {
  if (format != tensor::PackedFormat::kInt8) {
    for (int32_t i = 0; i < k; ++i)
      out[i] = format == tensor::PackedFormat::kBf16 ? to_float(to_bf16(x[i])) : x[i];
    return 1.0f;
  }
  uint32_t largest = 0;  // as bits: orders finite < infinite < NaN
  for (int32_t i = 0; i < k; ++i)
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  const float scale = std::bit_cast<float>(largest) / 127.0f;
  const bool finite = largest < 0x7f800000u;
  for (int32_t i = 0; i < k; ++i)
    out[i] = finite && scale > 0 ? std::clamp(std::nearbyint(x[i] / scale), -127.0f, 127.0f) : 0.0f;
  return finite ? scale : std::numeric_limits<float>::quiet_NaN();
}

// One output, without bias. `row` and `scale` come from round_row.
inline float dot(const tensor::PackedMatrix& w, int32_t channel, const float* row, float scale) {
  double sum = 0;
  for (int32_t i = 0; i < w.k; ++i) sum += weight_at(w, channel, i) * static_cast<double>(row[i]);
  if (w.format != tensor::PackedFormat::kInt8) return static_cast<float>(sum);
  return static_cast<float>(sum) * (scale * w.scales[channel]);
}

inline float bias_at(const tensor::PackedMatrix& w, int32_t channel) {
  return w.bias ? w.bias[channel] : 0.0f;
}

constexpr int64_t round_up_64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace moestro::kernels::ref
