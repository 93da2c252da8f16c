#include "moe/moe_layer.h"

namespace moestro::moe {
namespace {
constexpr int64_t aligned(int64_t floats) { return (floats + 15) / 16 * 16; }
}  // namespace

int64_t MoeSpec::packed_bytes() const {
  int64_t bytes = gate.packed_bytes();
  for (const ExpertModules& e : experts)
    bytes += tensor::packed_bytes(e.gate.format,
                                  2 * ((e.gate.n + tensor::kTileChannels - 1) /
                                       tensor::kTileChannels * tensor::kTileChannels),
                                  e.gate.k) +
             e.down.packed_bytes();
  return bytes;
}

Result<std::unique_ptr<MoeLayer>> MoeLayer::load(quant::LoadContext& context, const MoeSpec& spec,
                                                 Dispatch& dispatch) {
  auto layer = std::make_unique<MoeLayer>();
  layer->spec_ = spec;
  layer->dispatch_ = &dispatch;
  MOESTRO_ASSIGN(layer->gate_, quant::load_matrix(context, spec.gate));
  if (!spec.correction_bias.empty()) {
    MOESTRO_ASSIGN(layer->bias_,
                   quant::load_floats(context, spec.correction_bias, {spec.router.num_experts}));
  }
  layer->gate_up_.resize(spec.experts.size());
  layer->down_.resize(spec.experts.size());
  MOESTRO_TRY(context.parallel(static_cast<int64_t>(spec.experts.size()), [&](int64_t i) -> Status {
    const auto e = static_cast<size_t>(i);
    const ExpertModules& x = spec.experts[e];
    MOESTRO_ASSIGN(const quant::GatedMlp loaded,
                   quant::load_gated_mlp(context, x.gate, x.up, x.down));
    layer->gate_up_[e] = loaded.gate_up;
    layer->down_[e] = loaded.down;
    return {};
  }));
  return layer;
}

std::unique_ptr<MoeLayer> MoeLayer::of_packed(const MoeSpec& spec, const tensor::PackedMatrix& gate,
                                              const float* bias,
                                              std::vector<tensor::PackedMatrix> gate_up,
                                              std::vector<tensor::PackedMatrix> down,
                                              Dispatch& dispatch) {
  auto layer = std::make_unique<MoeLayer>();
  layer->spec_ = spec;
  layer->dispatch_ = &dispatch;
  layer->gate_ = gate;
  layer->bias_ = bias;
  layer->gate_up_ = std::move(gate_up);
  layer->down_ = std::move(down);
  return layer;
}

int64_t moe_workspace_floats(const RouterSpec& router, int32_t hidden, int32_t max_tokens) {
  return aligned(int64_t{max_tokens} * router.num_experts) +
         2 * aligned(int64_t{max_tokens} * router.top_k) +
         (router.weight_on_input ? int64_t{max_tokens} * hidden : 0);
}

void MoeLayer::forward(const float* x, int64_t x_stride, int32_t tokens, float* out,
                       int64_t out_stride, float* workspace, const kernels::RowOps& ops,
                       std::byte* scratch, platform::Worker& worker) const noexcept {
  const int32_t experts = spec_.router.num_experts, top_k = spec_.router.top_k;
  float* logits = workspace;
  float* weights = logits + aligned(int64_t{tokens} * experts);
  auto* ids = reinterpret_cast<int32_t*>(weights + aligned(int64_t{tokens} * top_k));

  const kernels::LinearOutput gate_out{.weight = &gate_, .y = logits, .y_stride = experts};
  spec_.gate_op.run({.x = x,
                     .x_stride = x_stride,
                     .rows = tokens,
                     .outputs = std::span(&gate_out, 1),
                     .scratch = scratch},
                    worker);
  worker.barrier();

  const auto [begin, end] = worker.share(tokens);
  auto* weighted = reinterpret_cast<float*>(ids) + aligned(int64_t{tokens} * top_k);
  for (int64_t t = begin; t < end; ++t) {
    route_token(spec_.router, logits + t * experts, bias_, ids + t * top_k, weights + t * top_k);
    if (!spec_.router.weight_on_input) continue;
    for (int64_t i = 0; i < spec_.hidden; ++i)
      weighted[t * spec_.hidden + i] = weights[t] * x[t * x_stride + i];
    weights[t] = 1;
  }
  worker.barrier();

  const RoutedTokens routed{.tokens = tokens,
                            .top_k = top_k,
                            .x = spec_.router.weight_on_input ? weighted : x,
                            .x_stride = spec_.router.weight_on_input ? spec_.hidden : x_stride,
                            .ids = ids,
                            .weights = weights};
  spec_.dispatch.count(*dispatch_, tokens, worker);
  const GroupedRows rows = dispatch_->prepare(routed, worker);
  spec_.expert_op.run({.x = rows.x,
                       .x_stride = rows.x_stride,
                       .tokens = rows.tokens,
                       .row_offsets = rows.row_offsets,
                       .row_token = rows.row_token,
                       .gate_up = gate_up_,
                       .down = down_,
                       .activation = spec_.activation,
                       .y = rows.y,
                       .y_stride = rows.y_stride,
                       .scratch = scratch},
                      worker);
  worker.barrier();
  dispatch_->finalize(routed, ops, out, out_stride, worker);
}

}  // namespace moestro::moe
