#include "layers/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/format.h"

namespace moestro::layers {
namespace {

using checkpoint::RopeConfig;
using checkpoint::RopeType;

void apply_llama3(const RopeConfig& c, double original, std::vector<double>& f) {
  const double low = original / c.low_freq_factor, high = original / c.high_freq_factor;
  for (double& v : f) {
    const double wavelength = 2 * std::numbers::pi / v;
    if (wavelength > low) {
      v /= c.factor;
    } else if (wavelength >= high) {
      const double t =
          (original / wavelength - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
      v *= (1 - t) / c.factor + t;
    }
  }
}

void apply_yarn(const RopeConfig& c, double factor, double original, int32_t dim,
                std::vector<double>& f) {
  const auto turns = [&](double n) {
    return dim * std::log(original / (n * 2 * std::numbers::pi)) / (2 * std::log(c.theta));
  };
  double lo = turns(c.beta_fast), hi = turns(c.beta_slow);
  if (c.truncate) lo = std::floor(lo), hi = std::ceil(hi);
  lo = std::max(lo, 0.0);
  hi = std::min(hi, dim - 1.0);
  if (lo == hi) hi += 0.001;
  for (size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - lo) / (hi - lo), 0.0, 1.0);
    f[i] = f[i] / factor * ramp + f[i] * (1 - ramp);
  }
}

double yarn_attention_factor(const RopeConfig& c, double factor) {
  if (c.attention_factor > 0) return c.attention_factor;
  if (c.mscale != 0 && c.mscale_all_dim != 0)
    return yarn_mscale(factor, c.mscale) / yarn_mscale(factor, c.mscale_all_dim);
  return yarn_mscale(factor, 1);
}

}  // namespace

double yarn_mscale(double scale, double k) {
  return scale <= 1 ? 1.0 : 0.1 * k * std::log(scale) + 1.0;
}

Result<Rope> Rope::make(const RopeConfig& c, int32_t dim, int64_t max_position_embeddings) {
  if (dim <= 0 || dim % 2 != 0)
    return invalid_argument(format("rotary dimension {} is not an even number above 0", dim));
  if (!(c.theta > 1)) return invalid_argument(format("rope_theta {} must be above 1", c.theta));
  Rope rope;
  rope.frequencies_.resize(static_cast<size_t>(dim / 2));
  for (int32_t i = 0; i < dim / 2; ++i)
    rope.frequencies_[static_cast<size_t>(i)] = std::pow(c.theta, -2.0 * i / dim);
  const double original = static_cast<double>(
      c.original_max_position > 0 ? c.original_max_position : max_position_embeddings);
  const double factor =
      c.factor > 0 ? c.factor : static_cast<double>(max_position_embeddings) / original;
  switch (c.type) {
    case RopeType::kDefault:
      break;
    case RopeType::kLinear:
      for (double& v : rope.frequencies_) v /= factor;
      break;
    case RopeType::kLlama3:
      apply_llama3(c, original, rope.frequencies_);
      break;
    case RopeType::kYarn:
      apply_yarn(c, factor, original, dim, rope.frequencies_);
      rope.attention_factor_ = yarn_attention_factor(c, factor);
      break;
    case RopeType::kDynamic:
      return unsupported(
          "rope_type \"dynamic\" changes frequencies with the length of a sequence, which no "
          "supported family needs");
  }
  return rope;
}

void Rope::fill(const kernels::StepInput& step, float* cos, float* sin,
                platform::Worker& worker) const {
  const auto [begin, end] = worker.share(step.num_tokens);
  const size_t half = frequencies_.size();
  for (int64_t t = begin; t < end; ++t) {
    for (size_t i = 0; i < half; ++i) {
      const double angle = step.positions[t] * frequencies_[i];
      cos[static_cast<size_t>(t) * half + i] =
          static_cast<float>(std::cos(angle) * attention_factor_);
      sin[static_cast<size_t>(t) * half + i] =
          static_cast<float>(std::sin(angle) * attention_factor_);
    }
  }
}

}  // namespace moestro::layers
