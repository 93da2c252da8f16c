// Embedding: token ids to rows of the table, read in place from the checkpoint's bytes (never
// repacked: a step reads a few rows).
#pragma once
#include <string>

#include "layers/step_context.h"
#include "quant/load.h"

namespace moestro::layers {

class Embedding {
 public:
  static Result<Embedding> load(quant::LoadContext& context, const std::string& tensor,
                                int32_t vocab, int32_t width) {
    Embedding e;
    e.width_ = width;
    MOESTRO_ASSIGN(e.table_, context.source.get(tensor, {vocab, width},
                                                {DType::kBF16, DType::kF32, DType::kF16}));
    if (context.progress) context.progress(e.table_.bytes.size());
    return e;
  }
  // out: [num_tokens, width].
  void forward(StepContext& c, float* out) const {
    c.ops.embedding({.table = table_.bytes.data(),
                     .dtype = table_.dtype,
                     .ids = c.step.token_ids,
                     .rows = c.step.num_tokens,
                     .width = width_,
                     .out = out},
                    c.worker);
  }

 private:
  checkpoint::TensorView table_;
  int32_t width_ = 0;
};

}  // namespace moestro::layers
