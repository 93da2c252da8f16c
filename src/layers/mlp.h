// Mlp: the gated MLP of dense layers and of the shared expert: y = down(silu(gate x) * up x). Runs
// the expert kernel with one expert that all rows belong to.
#pragma once
#include <array>

#include "kernels/op_choice.h"
#include "layers/step_context.h"
#include "quant/load.h"

namespace moestro::layers {

struct MlpSpec {
  quant::ModuleSpec gate, up, down;
  kernels::ExpertMlpChoice op;

  static MlpSpec make(quant::ModuleSpec gate, quant::ModuleSpec up, quant::ModuleSpec down,
                      int32_t max_rows);
};

class Mlp {
 public:
  static Result<Mlp> load(quant::LoadContext& context, const MlpSpec& spec);
  // y = mlp(x), or y += mlp(x). x: [rows, hidden], y: [rows, hidden].
  void forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows, float* y,
               int64_t y_stride, bool accumulate) const;

 private:
  tensor::PackedMatrix gate_up_, down_;
  kernels::ExpertMlpChoice op_;
};

}  // namespace moestro::layers
