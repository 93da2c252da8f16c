#include "layers/shared_expert.h"

#include <cmath>

namespace moestro::layers {
namespace {
constexpr int64_t aligned(int64_t floats) { return (floats + 15) / 16 * 16; }
}  // namespace

int64_t shared_expert_workspace_floats(const SharedExpertSpec& spec, int32_t max_tokens) {
  if (!spec.gate) return 0;
  return 2 * aligned(max_tokens) + int64_t{max_tokens} * spec.mlp.gate.k;
}

Result<SharedExpert> SharedExpert::load(quant::LoadContext& context, const SharedExpertSpec& spec) {
  SharedExpert shared;
  shared.hidden_ = spec.mlp.gate.k;
  MOESTRO_ASSIGN(shared.mlp_, Mlp::load(context, spec.mlp));
  if (spec.gate) {
    MOESTRO_ASSIGN(shared.gate_, Linear::load(context, *spec.gate));
  }
  return shared;
}

void SharedExpert::forward(StepContext& c, const float* h, float* x, float* workspace) const {
  if (gate_) return add_gated(c, h, x, workspace);
  mlp_.forward(c, h, hidden_, c.step.num_tokens, x, hidden_, true);
}

// The gated sum is a combine of one row a token.
void SharedExpert::add_gated(StepContext& c, const float* h, float* x, float* workspace) const {
  const int32_t tokens = c.step.num_tokens;
  float* weights = workspace;
  auto* row_of = reinterpret_cast<int32_t*>(workspace + aligned(tokens));
  float* rows = workspace + 2 * aligned(tokens);
  gate_->forward(c, h, hidden_, tokens, {{weights, 1}});
  c.worker.barrier();
  const auto [begin, end] = c.worker.share(tokens);
  for (int64_t t = begin; t < end; ++t) {
    weights[t] = 1.0f / (1.0f + std::exp(-weights[t]));
    row_of[t] = static_cast<int32_t>(t);
  }
  mlp_.forward(c, h, hidden_, tokens, rows, hidden_, false);
  c.worker.barrier();
  c.ops.combine({.rows = rows,
                 .rows_stride = hidden_,
                 .row_of = row_of,
                 .weights = weights,
                 .tokens = tokens,
                 .top_k = 1,
                 .width = hidden_,
                 .out = x,
                 .out_stride = hidden_,
                 .accumulate = true},
                c.worker);
}

}  // namespace moestro::layers
