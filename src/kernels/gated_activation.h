// What a gated MLP does with the results of its gate and up projections. A value of ExpertMlpArgs.
#pragma once
#include <limits>

namespace moestro::kernels {

// h = (clamp(up, -limit, limit) + up_offset) * g * sigmoid(alpha * g), g = min(gate, limit). As it
// stands SwiGLU's silu(gate) * up (Shazeer, 2020).
struct GatedActivation {
  float alpha = 1, limit = std::numeric_limits<float>::infinity(), up_offset = 0;
  friend bool operator==(const GatedActivation&, const GatedActivation&) = default;
};
inline constexpr GatedActivation kSilu{};
// gpt_oss' clamped form; alpha as in its reference implementation.
constexpr GatedActivation clamped_swiglu(float limit) {
  return {.alpha = 1.702f, .limit = limit, .up_offset = 1};
}

}  // namespace moestro::kernels
