// SharedExpert: the MLP that every token of an MoE layer passes, beside the chosen experts; in some
// families (qwen2_moe) scaled by a sigmoid gate of its own.
#pragma once
#include <optional>

#include "layers/linear.h"
#include "layers/mlp.h"

namespace moestro::layers {

struct SharedExpertSpec {
  MlpSpec mlp;
  std::optional<LinearSpec> gate;  // [1, hidden]
};

// Floats of workspace that forward() wants for max_tokens tokens.
int64_t shared_expert_workspace_floats(const SharedExpertSpec& spec, int32_t max_tokens);

class SharedExpert {
 public:
  static Result<SharedExpert> load(quant::LoadContext& context, const SharedExpertSpec& spec);
  // x += mlp(h), times sigmoid(gate h) where there is a gate. h, x: [tokens, hidden].
  void forward(StepContext& c, const float* h, float* x, float* workspace) const;

 private:
  void add_gated(StepContext& c, const float* h, float* x, float* workspace) const;

  int32_t hidden_ = 0;
  Mlp mlp_;
  std::optional<Linear> gate_;
};

}  // namespace moestro::layers
