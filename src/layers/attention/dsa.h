// DeepSeek sparse attention's indexer (DeepSeek-V3.2 report, section 2): scores every visible
// position with a few small heads and keeps the best. The projections share calls with MLA's
// (MlaSpec::input, query); this part does norms, rotation, cache and selection.
#pragma once
#include "kernels/op_choice.h"
#include "layers/attention/attention.h"
#include "layers/norm.h"

namespace moestro::layers {

struct DsaSpec {
  int32_t heads = 0, dim = 0, topk = 0, rope = 0;
  bool rope_interleaved = false;
  NormSpec key_norm;  // layer norm, eps 1e-6
  kernels::SparseIndexChoice op;
};

class DsaIndexer {
 public:
  static Result<DsaIndexer> load(quant::LoadContext& context, const DsaSpec& spec);
  int32_t heads() const { return spec_.heads; }
  int32_t dim() const { return spec_.dim; }
  // Row phase, this worker's tokens: normalises, rotates and stores the keys [tokens, dim]; scales
  // the head weights [tokens, heads].
  void store_keys(StepContext& c, const kernels::LayerKv& kv, float* keys, float* weights) const;
  // Row phase: rotates the queries [tokens, heads, dim].
  void rotate_queries(StepContext& c, float* queries) const;
  // After a barrier: fills the selection.
  void select(StepContext& c, const kernels::LayerKv& kv, const float* queries,
              const float* weights, SparseSelection& selection) const;

 private:
  DsaSpec spec_;
  Norm key_norm_;
};

}  // namespace moestro::layers
