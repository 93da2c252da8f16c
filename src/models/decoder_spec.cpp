#include "models/decoder_spec.h"

#include <algorithm>

#include "base/format.h"

namespace moestro::models {
namespace {

// The last part of "model.layers.3.self_attn.q_a_proj" after the layer's own prefix.
std::string_view short_name(std::string_view module) {
  const size_t dot = module.rfind('.');
  return dot == std::string_view::npos ? module : module.substr(dot + 1);
}

void add_substitution(OpSite& site, const quant::ModuleSpec& m) {
  auto& list = site.substitutions;
  if (!m.substitution.empty() && std::find(list.begin(), list.end(), m.substitution) == list.end())
    list.push_back(m.substitution);
}

// module: stands for the scheme of all.
OpSite site_of(std::string part, int32_t layer, std::string name, const quant::ModuleSpec& module,
               int64_t bytes) {
  OpSite site{.part = std::move(part),
              .name = std::move(name),
              .layer = layer,
              .scheme = std::string(module.method->name()),
              .weights = module.weights,
              .activations = module.activations,
              .weight_bytes = bytes};
  add_substitution(site, module);
  return site;
}

OpSite site_of(std::string part, int32_t layer, const layers::LinearSpec& spec) {
  OpSite site = site_of(std::move(part), layer, "", spec.parts.front(), 0);
  for (const quant::ModuleSpec& p : spec.parts) {
    site.name += format("{}{}", site.name.empty() ? "" : " + ", short_name(p.module));
    site.weight_bytes += p.packed_bytes();
    site.modules.push_back({std::string(short_name(p.module)), p.n, p.packed_bytes()});
    add_substitution(site, p);
  }
  return site;
}

OpSite site_of(std::string part, int32_t layer, std::string name) {
  return {.part = std::move(part),
          .name = std::move(name),
          .layer = layer,
          .scheme = {},
          .weights = {},
          .activations = {}};
}

void visit_mlp(OpVisitor& v, std::string part, int32_t layer, layers::MlpSpec& mlp) {
  const int64_t bytes = mlp.gate.packed_bytes() + mlp.up.packed_bytes() + mlp.down.packed_bytes();
  OpSite site = site_of(std::move(part), layer, "gate + up, down", mlp.gate, bytes);
  add_substitution(site, mlp.up);
  add_substitution(site, mlp.down);
  v.visit(site, mlp.op);
}

void visit_shared_expert(OpVisitor& v, int32_t layer, layers::SharedExpertSpec& shared) {
  if (shared.gate) {
    OpSite gate = site_of("shared expert", layer, *shared.gate);
    gate.activations = "float32";
    v.visit(gate, shared.gate->op);
  }
  visit_mlp(v, "shared expert", layer, shared.mlp);
}

void visit_attention(OpVisitor& v, int32_t layer, layers::GqaSpec& a) {
  for (layers::LinearSpec& s : a.input.groups) v.visit(site_of("attention", layer, s), s.op);
  v.visit(site_of("attention", layer,
                  a.window > 0 ? format("GQA, window {}", a.window) : "GQA, causal"),
          a.attention);
  v.visit(site_of("attention", layer, a.output), a.output.op);
}

void visit_attention(OpVisitor& v, int32_t layer, layers::MlaSpec& a) {
  for (layers::LinearSpec& s : a.input.groups) v.visit(site_of("attention", layer, s), s.op);
  for (layers::LinearSpec& s : a.query.groups) v.visit(site_of("attention", layer, s), s.op);
  OpSite absorbed = site_of("attention", layer, "kv_b_proj (absorbed into queries)", a.kv_b,
                            a.head_matrix_bytes() / 2);
  absorbed.activations = "compute type";  // multiplied in float whatever its storage
  v.visit(absorbed, a.absorb_key);
  if (a.indexer) v.visit(site_of("attention", layer, "DSA selection"), a.indexer->op);
  v.visit(site_of("attention", layer, a.sparse ? "MLA, chosen positions" : "MLA, all positions"),
          a.attention);
  absorbed.name = "kv_b_proj (absorbed into outputs)";
  v.visit(absorbed, a.absorb_value);
  v.visit(site_of("attention", layer, a.output), a.output.op);
}

}  // namespace

void DecoderSpec::visit(OpVisitor& v) {
  v.visit(site_of("rows", -1, "norms, rotary embedding, cache writes, combine"), row_ops);
  for (size_t i = 0; i < layers.size(); ++i) {
    DecoderLayerSpec& layer = layers[i];
    const auto index = static_cast<int32_t>(i);
    std::visit([&](auto& attention) { visit_attention(v, index, attention); }, layer.attention);
    if (layer.dense) visit_mlp(v, "dense mlp", index, *layer.dense);
    if (layer.experts) {
      moe::MoeSpec& m = *layer.experts;
      OpSite gate = site_of("router", index, "gate", m.gate, m.gate.packed_bytes());
      gate.activations = "float32";
      v.visit(gate, m.gate_op);
      OpSite site = site_of("experts", index,
                            format("{} experts, top {}", m.router.num_experts, m.router.top_k),
                            m.experts.front().gate, m.packed_bytes() - m.gate.packed_bytes());
      for (const moe::ExpertModules& e : m.experts)
        for (const quant::ModuleSpec* x : {&e.gate, &e.up, &e.down}) add_substitution(site, *x);
      v.visit(site, m.expert_op);
      v.visit(site_of("dispatch", index, site.name), m.dispatch);
    }
    if (layer.shared_expert) visit_shared_expert(v, index, *layer.shared_expert);
  }
  v.visit(site_of("head", -1, head), head.op);
}

std::vector<LayerKvWidths> DecoderSpec::kv_widths() const {
  std::vector<LayerKvWidths> widths;
  for (const DecoderLayerSpec& layer : layers) widths.push_back(layer.kv);
  return widths;
}

int32_t DecoderSpec::moe_top_k() const {
  int32_t k = 0;
  for (const DecoderLayerSpec& layer : layers)
    if (layer.experts) k = std::max(k, layer.experts->router.top_k);
  return k;
}

int32_t DecoderSpec::num_experts() const {
  int32_t n = 0;
  for (const DecoderLayerSpec& layer : layers)
    if (layer.experts) n = std::max(n, layer.experts->router.num_experts);
  return n;
}

}  // namespace moestro::models
