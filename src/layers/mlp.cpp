#include "layers/mlp.h"

namespace moestro::layers {

MlpSpec MlpSpec::make(quant::ModuleSpec gate, quant::ModuleSpec up, quant::ModuleSpec down,
                      int32_t max_rows) {
  MlpSpec spec;
  spec.op.shape = {.format = gate.format,
                   .max_tokens = max_rows,
                   .max_rows = max_rows,
                   .experts = 1,
                   .hidden = gate.k,
                   .intermediate = gate.n};
  spec.gate = std::move(gate);
  spec.up = std::move(up);
  spec.down = std::move(down);
  return spec;
}

Result<Mlp> Mlp::load(quant::LoadContext& context, const MlpSpec& spec) {
  Mlp mlp;
  mlp.op_ = spec.op;
  MOESTRO_ASSIGN(const quant::GatedMlp loaded,
                 quant::load_gated_mlp(context, spec.gate, spec.up, spec.down));
  mlp.gate_up_ = loaded.gate_up;
  mlp.down_ = loaded.down;
  return mlp;
}

void Mlp::forward(StepContext& c, const float* x, int64_t x_stride, int32_t rows, float* y,
                  int64_t y_stride, bool accumulate) const {
  const std::array<int32_t, 2> row_offsets = {0, rows};
  op_.run({.x = x,
           .x_stride = x_stride,
           .tokens = rows,
           .row_offsets = row_offsets,
           .row_token = nullptr,
           .gate_up = std::span(&gate_up_, 1),
           .down = std::span(&down_, 1),
           .activation = kernels::kSilu,
           .y = y,
           .y_stride = y_stride,
           .accumulate = accumulate,
           .scratch = c.scratch},
          c.worker);
}

}  // namespace moestro::layers
