// DecoderSpec: the skeleton of every decoder-only family: embedding, layers of (norm, attention,
// norm, MLP or experts), final norm, head. An architecture file fills it with names and shapes;
// decoder.cpp loads and runs it.
#pragma once
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kernels/row_ops.h"
#include "layers/attention/gqa.h"
#include "layers/attention/mla.h"
#include "layers/linear.h"
#include "layers/mlp.h"
#include "layers/norm.h"
#include "layers/rope.h"
#include "layers/shared_expert.h"
#include "models/model_spec.h"
#include "moe/moe_layer.h"

namespace moestro::models {

struct DecoderLayerSpec {
  layers::NormSpec attention_norm, mlp_norm;
  std::variant<layers::MlaSpec, layers::GqaSpec> attention;
  std::optional<layers::MlpSpec> dense;                   // either a dense MLP …
  std::optional<moe::MoeSpec> experts;                    // … or experts,
  std::optional<layers::SharedExpertSpec> shared_expert;  // with this beside them
  LayerKvWidths kv;
};

class DecoderSpec final : public ModelSpec {
 public:
  void visit(OpVisitor& visitor) override;
  std::vector<LayerKvWidths> kv_widths() const override;
  const ModelLimits& limits() const override { return limits_; }
  int64_t activation_bytes() const override;
  Result<std::unique_ptr<Model>> load(const LoadRequest& request) const override;

  ModelLimits limits_;
  int32_t hidden = 0, vocab = 0;
  std::string embedding;  // tensor name
  std::vector<DecoderLayerSpec> layers;
  layers::NormSpec final_norm;
  layers::LinearSpec head;
  layers::Rope rope;
  int32_t index_topk = 0;  // of DSA; 0: none
  kernels::RowOpsChoice row_ops;

  int32_t moe_top_k() const;  // 0: no MoE layer
  int32_t num_experts() const;
};

}  // namespace moestro::models
