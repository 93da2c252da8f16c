// What linear and expert_mlp must give, from plain double loops over the source values, and how far
// a kernel may be off it. Used by the tests only.
//
// The bounds: `relative_bound` of the sum of absolute products (f32 and integer-group formats
// 1e-6, others, whose sums have one order per instruction set, 4e-6), a product counting
// |x| (|w| + 8 group scales) where four-bit codes meet float activations, as kernels multiply the
// unsigned code and subtract the zero point's share. Integer sums over all of k are exact up to the
// multiplication by their scales, 3e-7 of the result (and what the expectation's own sum is off).
// Where four-bit weights meet bfloat16 activations, values more than 128 times smaller than the
// largest of their stretch may be off by 2^-15 of it (linear.h).
// Below that: activations under 2^-100 may count as zero, float units may flush results under
// 1e-37, and a product of two scales is rounded to float, which matters where it is subnormal.
#pragma once
#include <cfloat>
#include <cmath>
#include <vector>

#include "kernels/matrix_for_test.h"

namespace moestro::kernels {

// Rows of activations as linear.h says that a kernel sees them. `error`: by how much the value that
// the kernel rounded may differ (an intermediate of an MLP), and what that does to the rounded one.
struct RoundedRow {
  std::vector<double> value, error;
  std::vector<float> scale;  // of value i; value / scale is what is multiplied
  std::vector<double>
      as_integer;  // by how much value i is off where kernels hold integers; or empty
};

inline double round_scaled(tensor::ActivationType type, double q) {
  if (type == tensor::ActivationType::kInt8) return std::clamp(std::nearbyint(q), -127.0, 127.0);
  return e4m3_to_float(to_e4m3(static_cast<float>(q)));
}

inline double round_to_bf16(double v) { return to_float(to_bf16(static_cast<float>(v))); }

inline void round_scaled_group(const tensor::PackedFormat& f, const float* x, const double* error,
                               size_t begin, size_t end, RoundedRow& out) {
  const float steps = f.activation == tensor::ActivationType::kInt8 ? 127.0f : 448.0f;
  float largest = 0;
  double largest_error = 0;
  for (size_t i = begin; i < end; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    if (error) largest_error = std::max(largest_error, error[i]);
  }
  float scale = largest / steps;
  const double scale_error = largest > 0 ? largest_error / largest : 0;  // relative
  bool unsure_power = false;
  if (f.activation_pow2 && scale > 0) {
    int exponent;  // scale = mantissa * 2^exponent, mantissa in [0.5, 1)
    const float mantissa = std::frexp(scale, &exponent);
    unsure_power = error && (std::fabs(mantissa - 0.5) < 2 * scale_error + 1e-6 ||
                             1 - mantissa < 2 * scale_error + 1e-6);
    scale = std::ldexp(1.0f, mantissa == 0.5f ? exponent - 1 : exponent);
  }
  for (size_t i = begin; i < end; ++i) {
    const double q = scale > 0 ? round_scaled(f.activation, x[i] / scale) : 0.0;
    out.value[i] = q * double{scale};
    out.scale[i] = scale;
    if (!error || scale == 0) continue;
    const double t = double{x[i]} / double{scale};
    const double away = error[i] / scale + std::fabs(t) * (scale_error + 1e-7);
    const double low = round_scaled(f.activation, t - away),
                 high = round_scaled(f.activation, t + away);
    out.error[i] = std::max(std::fabs(low - q), std::fabs(high - q)) * double{scale} +
                   std::fabs(out.value[i]) * scale_error +
                   (unsure_power ? std::fabs(x[i]) / 8 + double{scale} / 256 : 0);
  }
}

// Adds `as_integer` where linear.h allows it.
inline void allow_integers(const tensor::PackedFormat& f, RoundedRow& x) {
  if (tensor::bits_of(f.weight) != 4 || f.activation != tensor::ActivationType::kBf16) return;
  const size_t run = f.group_k > 0 && f.group_k < 128 ? static_cast<size_t>(f.group_k) : 128;
  for (size_t begin = 0; begin < x.value.size(); begin += run) {
    const size_t end = std::min(x.value.size(), begin + run);
    double largest = 0;
    for (size_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(x.value[i]));
    for (size_t i = begin; i < end; ++i)
      x.as_integer.push_back(std::fabs(x.value[i]) * 127 < largest ? largest * 0x1p-15 : 0);
  }
}

// error[i], if given: by how much the kernel's x[i] may differ from this one.
inline RoundedRow round_row(const tensor::PackedFormat& f, const float* x, int32_t k,
                            const double* error = nullptr) {
  const auto n = static_cast<size_t>(k);
  RoundedRow out{std::vector<double>(x, x + k), std::vector<double>(n, 0.0),
                 std::vector<float>(n, 1.0f)};
  if (f.activation == tensor::ActivationType::kF32 ||
      f.activation == tensor::ActivationType::kBf16) {
    const bool bf16 = f.activation == tensor::ActivationType::kBf16;
    for (size_t i = 0; i < n; ++i) {
      if (bf16) out.value[i] = round_to_bf16(x[i]);
      if (!error) continue;
      const double low = x[i] - error[i], high = x[i] + error[i];
      out.error[i] = bf16 ? std::max(std::fabs(round_to_bf16(low) - out.value[i]),
                                     std::fabs(round_to_bf16(high) - out.value[i]))
                          : error[i];
    }
    allow_integers(f, out);
    return out;
  }
  const size_t group = f.activation_group ? static_cast<size_t>(f.activation_group) : n;
  for (size_t i = 0; i < n; i += group)
    round_scaled_group(f, x, error, i, std::min(n, i + group), out);
  return out;
}

// Sums that fit into integers until one multiplication by both scales.
inline bool is_exact(const tensor::PackedFormat& f) {
  return f.activation == tensor::ActivationType::kInt8 && !f.group_k && !f.activation_group;
}

inline double relative_bound(const tensor::PackedFormat& f) {
  return f.weight == tensor::WeightType::kF32 || f.activation == tensor::ActivationType::kInt8
             ? 1e-6
             : 4e-6;
}

struct Expected {
  double value, bound;
};

// One output without bias. The weights are read at [channel] of w.
inline Expected expected_dot(const TestWeights& w, int32_t channel, const RoundedRow& x) {
  const bool unsigned_codes =
      tensor::bits_of(w.format.weight) == 4 && w.format.activation == tensor::ActivationType::kBf16;
  double sum = 0, magnitude = 0, weights = 0, products = 0, from_errors = 0;
  for (int32_t i = 0; i < w.k; ++i) {
    const auto at = static_cast<size_t>(i);
    const auto [stored, scale] = w.values()[w.at(channel, i)];
    const double weight = stored * scale;
    sum += x.value[at] * weight;
    magnitude += std::fabs(x.value[at]) * (std::fabs(weight) + (unsigned_codes ? 8 * scale : 0));
    weights += std::fabs(weight);
    if (x.scale[at] > 0) products += std::fabs(x.value[at] / x.scale[at] * stored);
    from_errors += x.error[at] * std::fabs(weight);
    if (!x.as_integer.empty()) from_errors += x.as_integer[at] * std::fabs(weight);
  }
  const bool floats = w.codes.empty();
  const double rest =
      (floats || w.format.activation == tensor::ActivationType::kBf16 ? weights * 0x1p-100 : 0) +
      products * 0x1p-148 + (floats ? 1e-37 : 1e-42);
  const double rounding = is_exact(w.format) ? 3e-7 * std::fabs(sum) + 1e-14 * magnitude
                                             : relative_bound(w.format) * magnitude;
  return {sum, rounding + rest + from_errors};
}

}  // namespace moestro::kernels
