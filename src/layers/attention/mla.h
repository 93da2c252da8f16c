// Multi-head latent attention (DeepSeek-V2 report, section 2.1) in absorbed form: kv_b_proj is
// split into U (keys) and V (values) per head, queries are multiplied by U, attention runs on the
// cached latent, its result by V. With a DSA indexer (dsa.h) attention is restricted to the chosen
// positions. Cache: `key` holds [latent | rotated k_pe], `index` the indexer's keys.
#pragma once
#include <memory>
#include <optional>

#include "kernels/op_choice.h"
#include "layers/attention/attention.h"
#include "layers/attention/dsa.h"
#include "layers/linear.h"
#include "layers/norm.h"

namespace moestro::layers {

struct MlaSpec {
  int32_t hidden = 0, heads = 0, q_lora = 0 /* 0: no q_a */, latent = 0, nope = 0, rope = 0,
          v_dim = 0;
  bool rope_interleaved = true;
  float scale = 0;               // of the scores
  DType compute = DType::kBF16;  // of the absorbed matrices
  LinearGroups
      input;  // of h: q_a or q, kv_a, [indexer.wk, indexer.weights_proj]; places in this order
  NormSpec q_a_norm, kv_a_norm;
  LinearGroups query;      // of the normed q_a: q_b, [indexer.wq_b]; empty when q_lora == 0
  quant::ModuleSpec kv_b;  // [heads * (nope + v_dim), latent]
  kernels::HeadLinearChoice absorb_key, absorb_value;
  kernels::MlaChoice attention;
  LinearSpec output;               // o_proj
  std::optional<DsaSpec> indexer;  // a full indexer layer
  bool sparse = false;             // uses the selection, its own or an earlier layer's

  int64_t head_matrix_bytes() const;  // resident bytes of the absorbed matrices
};

// Floats of workspace that forward() wants for max_tokens tokens.
int64_t mla_workspace_floats(const MlaSpec& spec, int32_t max_tokens);

Result<std::unique_ptr<Attention>> load_mla(quant::LoadContext& context, const MlaSpec& spec);

}  // namespace moestro::layers
