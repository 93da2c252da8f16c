// Norm: RMS norm, or layer norm when it has a bias, over rows shared out by worker.share(rows).
#pragma once
#include <string>

#include "layers/step_context.h"
#include "quant/load.h"

namespace moestro::layers {

struct NormSpec {
  std::string weight, bias;  // tensor names; bias "": RMS norm
  int32_t width = 0;
  float eps = 1e-6f;
};

class Norm {
 public:
  static Result<Norm> load(quant::LoadContext& context, const NormSpec& spec) {
    Norm norm;
    norm.width_ = spec.width;
    norm.eps_ = spec.eps;
    MOESTRO_ASSIGN(norm.weight_, quant::load_floats(context, spec.weight, {spec.width}));
    if (!spec.bias.empty()) {
      MOESTRO_ASSIGN(norm.bias_, quant::load_floats(context, spec.bias, {spec.width}));
    }
    return norm;
  }
  int32_t width() const { return width_; }
  // y may be x.
  void forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows, float* y,
               int64_t y_stride) const {
    c.ops.norm({.x = x,
                .x_stride = x_stride,
                .weight = weight_,
                .bias = bias_,
                .eps = eps_,
                .y = y,
                .y_stride = y_stride,
                .rows = rows,
                .width = width_},
               c.worker);
  }

 private:
  const float* weight_ = nullptr;
  const float* bias_ = nullptr;
  float eps_ = 0;
  int32_t width_ = 0;
};

}  // namespace moestro::layers
