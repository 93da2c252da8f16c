// Rotary position embedding: the table of one step, cos and sin of position * frequency for every
// token, in float32 from angles in float64. Formulas: RoFormer (Su et al., 2021); YaRN (Peng et
// al., 2023); Llama 3's frequency bands.
#pragma once
#include <vector>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "kernels/step_input.h"
#include "platform/gang.h"

namespace moestro::layers {

class Rope {
 public:
  Rope() = default;
  // dim: values of a head that rotate (even). Unknown or unusable parameters: kUnsupported.
  static Result<Rope> make(const checkpoint::RopeConfig& config, int32_t dim,
                           int64_t max_position_embeddings);
  int32_t dim() const { return static_cast<int32_t>(frequencies_.size()) * 2; }
  // cos, sin: [num_tokens, dim / 2]; this worker's share of the tokens.
  void fill(const kernels::StepInput& step, float* cos, float* sin, platform::Worker& worker) const;
  const std::vector<double>& frequencies() const {
    return frequencies_;
  }                                                              // radians a position, [dim / 2]
  double attention_factor() const { return attention_factor_; }  // multiplies cos and sin

 private:
  std::vector<double> frequencies_;
  double attention_factor_ = 1;
};

// YaRN's m(scale, k) = 1 for scale <= 1, else 0.1 k ln(scale) + 1.
double yarn_mscale(double scale, double k);

}  // namespace moestro::layers
