// What every family's spec is made of, whatever its attention: modules as the checkpoint stores
// them, norms, MLPs, experts with their tensor names, and the skeleton around the layers. Used by
// mla_family and gqa_family, before any weight is read.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "models/decoder_spec.h"
#include "models/model_spec.h"

namespace moestro::models {

// Names under "model.layers.<l>." of what follows attention in a layer with experts.
struct MoeNames {
  std::string_view block = "mlp.";
  std::string_view router = "gate";  // in the block
  bool router_bias = false;          // its linear layer has a bias, unlike the correction's
  std::string_view correction_bias = "gate.e_score_correction_bias";        // in the block
  std::string_view gate = "gate_proj", up = "up_proj", down = "down_proj";  // of an expert
  std::string_view shared = "shared_experts.";  // in the block; its MLP has the usual names
  std::string_view shared_gate = {};            // in the block; empty: ungated
};

struct FamilyBuilder {
  const SpecRequest& request;
  const checkpoint::ModelConfig& config = request.config;

  // biased: it has a bias "<name>.bias".
  Result<quant::ModuleSpec> module(std::string name, int32_t n, int32_t k,
                                   bool biased = false) const;
  // Weights that are multiplied in float32 whatever the compute type: those that decide discrete
  // choices.
  Result<quant::ModuleSpec> float32_module(std::string name, int32_t n, int32_t k,
                                           bool biased = false) const;
  tensor::PackedFormat compute_format() const;
  layers::NormSpec norm(std::string weight) const;  // over the hidden size, rms_norm_eps

  // Norms and MLP, or experts and shared expert, of a layer; attention and cache are the family's.
  Result<DecoderLayerSpec> layer_without_attention(int32_t layer, const MoeNames& names) const;
  // Embedding, layers, final norm, head. rotary_dim: values of a head that rotate.
  Result<std::unique_ptr<DecoderSpec>> decoder(
      int32_t rotary_dim, const std::function<Result<DecoderLayerSpec>(int32_t)>& layer) const;

 private:
  Result<layers::MlpSpec> mlp(const std::string& prefix, int32_t intermediate) const;
  Result<moe::MoeSpec> experts(const std::string& prefix, const MoeNames& names) const;
};

}  // namespace moestro::models
