#include "layers/attention/dsa.h"

#include <cmath>

namespace moestro::layers {

Result<DsaIndexer> DsaIndexer::load(quant::LoadContext& context, const DsaSpec& spec) {
  DsaIndexer indexer;
  indexer.spec_ = spec;
  MOESTRO_ASSIGN(indexer.key_norm_, Norm::load(context, spec.key_norm));
  return indexer;
}

void DsaIndexer::store_keys(StepContext& c, const kernels::LayerKv& kv, float* keys,
                            float* weights) const {
  const int32_t tokens = c.step.num_tokens;
  key_norm_.forward(c, keys, spec_.dim, tokens, keys, spec_.dim);
  c.ops.rope({.x = keys,
              .row_stride = spec_.dim,
              .head_stride = spec_.dim,
              .rows = tokens,
              .heads = 1,
              .rope_dim = spec_.rope,
              .cos = c.rope_cos,
              .sin = c.rope_sin,
              .interleaved = spec_.rope_interleaved},
             c.worker);
  c.ops.store_kv({.step = &c.step,
                  .x = keys,
                  .x_stride = spec_.dim,
                  .kv = kv.index,
                  .offset = 0,
                  .width = spec_.dim},
                 c.worker);
  // relu commutes with the positive factor dim^-0.5, so both factors go into the head weights.
  const float factor =
      1.0f / std::sqrt(static_cast<float>(spec_.heads) * static_cast<float>(spec_.dim));
  const auto [begin, end] = c.worker.share(tokens);
  for (int64_t i = begin * spec_.heads; i < end * spec_.heads; ++i) weights[i] *= factor;
}

void DsaIndexer::rotate_queries(StepContext& c, float* queries) const {
  c.ops.rope({.x = queries,
              .row_stride = int64_t{spec_.heads} * spec_.dim,
              .head_stride = spec_.dim,
              .rows = c.step.num_tokens,
              .heads = spec_.heads,
              .rope_dim = spec_.rope,
              .cos = c.rope_cos,
              .sin = c.rope_sin,
              .interleaved = spec_.rope_interleaved},
             c.worker);
}

void DsaIndexer::select(StepContext& c, const kernels::LayerKv& kv, const float* queries,
                        const float* weights, SparseSelection& selection) const {
  spec_.op.run({.step = &c.step,
                .q = queries,
                .weights = weights,
                .keys = kv.index,
                .heads = spec_.heads,
                .dim = spec_.dim,
                .topk = spec_.topk,
                .selected = selection.selected,
                .num_selected = selection.num_selected,
                .scratch = c.scratch},
               c.worker);
}

}  // namespace moestro::layers
