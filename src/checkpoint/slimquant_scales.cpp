#include "checkpoint/slimquant_scales.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "base/format.h"

namespace moestro::checkpoint {
namespace {

constexpr std::string_view kExperts = ".experts.";
constexpr float kInt8Codes = 127, kInt4Codes = 7;  // the largest code of a row

// The median over rows of the largest magnitude, codes * scale; none: no such float32 tensor.
Result<std::optional<float>> usual_magnitude(const WeightSource& source, const std::string& tensor,
                                             float largest_code) {
  const TensorInfo* info = source.find(tensor);
  if (!info || info->dtype != DType::kF32) return std::optional<float>();
  MOESTRO_ASSIGN(const TensorView t, source.get(tensor, info->shape, std::span(&info->dtype, 1)));
  std::vector<float> scales(static_cast<size_t>(t.num_elements()));
  if (scales.empty()) return std::optional<float>();
  std::memcpy(scales.data(), t.bytes.data(), t.bytes.size());
  const auto middle = scales.begin() + static_cast<int64_t>(scales.size() / 2);
  std::nth_element(scales.begin(), middle, scales.end());
  const float magnitude = *middle * largest_code;
  if (!std::isfinite(magnitude) || magnitude <= 0) return std::optional<float>();
  return std::optional<float>(magnitude);
}

// Stored magnitude of a routed expert over that of the shared one; none: no layer has both.
Result<std::optional<float>> magnitude_ratio(const WeightSource& source) {
  for (const std::string& name : source.names()) {
    const size_t at = name.find(kExperts), dot = name.rfind('.');
    if (at == std::string::npos || !name.ends_with(".weight")) continue;
    const std::string module = name.substr(0, dot);
    const std::string part = module.substr(module.rfind('.') + 1);
    const std::string shared = format("{}.shared_experts.{}", name.substr(0, at), part);
    const TensorInfo *routed_codes = source.find(name),
                     *shared_codes = source.find(shared + ".weight");
    const auto is_int8 = [](const TensorInfo* t) {
      return t && t->dtype == DType::kI8 && t->shape.size() == 2;
    };
    // Rows of int4 are half as long as those of the shared expert; down_proj may differ in width.
    if (part == "down_proj" || !is_int8(routed_codes) || !is_int8(shared_codes) ||
        routed_codes->shape[1] * 2 != shared_codes->shape[1])
      continue;
    MOESTRO_ASSIGN(const auto routed,
                   usual_magnitude(source, module + ".weight_scale", kInt4Codes));
    MOESTRO_ASSIGN(const auto whole, usual_magnitude(source, shared + ".weight_scale", kInt8Codes));
    if (routed && whole) return std::optional<float>(*routed / *whole);
  }
  return std::optional<float>();
}

}  // namespace

Status settle_slimquant_scales(const WeightSource& source, QuantConfig& quant) {
  for (QuantGroup& g : quant.groups) {
    if (g.format != "slimquant-int4" || g.scale_divisor != 0) continue;
    MOESTRO_ASSIGN(const auto ratio, magnitude_ratio(source));
    // Read plainly, experts that are as large as the shared one give 1; stored by the sixteenth
    // 1/16. Between is the middle of the two, with a factor of 1.5 on either side left open.
    constexpr float kMiddle = 0.25f, kOpen = 1.5f;
    if (ratio && (*ratio > kMiddle * kOpen || *ratio < kMiddle / kOpen)) {
      g.scale_divisor = *ratio > kMiddle ? 1 : 16;
      g.scale_reading =
          format("the stored scales make experts {:.3g} times the shared one", *ratio);
      continue;
    }
    g.scale_divisor = 16;
    g.scale_is_guess = true;
    g.scale_reading =
        ratio ? format(
                    "the stored scales make experts {:.3g} times the shared one, which could "
                    "be either",
                    *ratio)
              : "no layer has a shared expert in int8 to compare with";
  }
  return {};
}

}  // namespace moestro::checkpoint
