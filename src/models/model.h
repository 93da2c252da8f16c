// A model as the engine sees it: sizes, what its KV cache needs, and forward(). The engine never
// sees a layer; a model never sees an instruction set, a device, a rank count or a flag. Built by
// models::load from the specs that plan/ filled.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kv_view.h"
#include "kernels/step_input.h"
#include "platform/gang.h"

namespace moestro::models {

// Values a token keeps in each of a layer's caches; 0: none.
struct LayerKvWidths {
  int32_t key = 0, value = 0, index = 0;
};

struct ModelLimits {
  int32_t max_tokens = 0;       // tokens in one step
  int32_t max_logits_rows = 0;  // rows of logits in one step
  int32_t max_context = 0;      // tokens in one sequence
};

class Model {
 public:
  virtual ~Model() = default;
  virtual int32_t vocab_size() const = 0;  // columns of the logits
  virtual std::vector<LayerKvWidths> kv_widths() const = 0;
  virtual const ModelLimits& limits() const = 0;
  // Runs one step and writes logits [num_logits_rows, vocab_size]. Called by every worker of the
  // gang inside one Gang::run; step.num_tokens may be 0 (an idle rank still joins). Allocates
  // nothing, throws nothing. On return of Gang::run all is written.
  virtual void forward(const kernels::StepInput& step, const kernels::KvView& kv, float* logits,
                       platform::Worker& worker) noexcept = 0;
};

}  // namespace moestro::models
