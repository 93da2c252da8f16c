// Attention: what a decoder layer calls between its two norms. One object a layer; forward() runs
// on all workers.
#pragma once
#include "layers/step_context.h"

namespace moestro::layers {

// The positions that DSA chose for each token of the step, shared by the layers that follow a full
// indexer layer.
struct SparseSelection {
  int32_t* selected = nullptr;      // [max_tokens, max_selected]
  int32_t* num_selected = nullptr;  // [max_tokens]; -1: dense
  int32_t max_selected = 0;         // 0: the model has no sparse attention
};

class Attention {
 public:
  virtual ~Attention() = default;
  // x += attention(h). h: [tokens, hidden], the normed input; x: [tokens, hidden]. workspace: as
  // sized by the kind of attention (mla_workspace_floats, …).
  virtual void forward(StepContext& c, const kernels::LayerKv& kv, const float* h, float* x,
                       float* workspace, SparseSelection& selection) const = 0;
};

}  // namespace moestro::layers
