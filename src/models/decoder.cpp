#include "models/decoder.h"

#include <algorithm>

#include "base/format.h"
#include "moe/dispatch/local.h"

namespace moestro::models {
namespace {

struct Layer {
  layers::Norm attention_norm, mlp_norm;
  std::unique_ptr<layers::Attention> attention;
  std::optional<layers::Mlp> dense;
  std::unique_ptr<moe::MoeLayer> experts;
  std::optional<layers::SharedExpert> shared_expert;
};

Result<std::unique_ptr<layers::Attention>> load_attention(quant::LoadContext& context,
                                                          const DecoderLayerSpec& layer) {
  if (const auto* mla = std::get_if<layers::MlaSpec>(&layer.attention))
    return layers::load_mla(context, *mla);
  return layers::load_gqa(context, std::get<layers::GqaSpec>(layer.attention));
}

int64_t attention_workspace_floats(const DecoderLayerSpec& layer, int32_t max_tokens) {
  if (const auto* mla = std::get_if<layers::MlaSpec>(&layer.attention))
    return layers::mla_workspace_floats(*mla, max_tokens);
  return layers::gqa_workspace_floats(std::get<layers::GqaSpec>(layer.attention), max_tokens);
}

// The largest scratch that any op wants.
class ScratchSize final : public OpVisitor {
 public:
  explicit ScratchSize(int num_workers) : num_workers_(num_workers) {}
  void visit(const OpSite&, kernels::LinearChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::HeadLinearChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::ExpertMlpChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::GqaChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::MlaChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::SparseIndexChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::RowOpsChoice&) override {}
  void visit(const OpSite&, moe::DispatchChoice&) override {}

  int64_t bytes = 64;

 private:
  template <class Op>
  void add(const Op& op) {
    bytes = std::max(bytes, op.scratch_bytes(num_workers_));
  }
  int num_workers_;
};

class Decoder final : public Model {
 public:
  Decoder(const DecoderSpec& spec, std::shared_ptr<quant::WeightStore> store)
      : store_(std::move(store)),
        vocab_(spec.vocab),
        hidden_(spec.hidden),
        limits_(spec.limits_),
        kv_widths_(spec.kv_widths()),
        rope_(spec.rope),
        ops_(spec.row_ops) {}
  int32_t vocab_size() const override { return vocab_; }
  std::vector<LayerKvWidths> kv_widths() const override { return kv_widths_; }
  const ModelLimits& limits() const override { return limits_; }
  void forward(const kernels::StepInput& step, const kernels::KvView& kv, float* logits,
               platform::Worker& worker) noexcept override;
  Status load(const DecoderSpec& spec, quant::LoadContext& context);
  Status allocate(const DecoderSpec& spec, int num_workers);

 private:
  void run_layer(layers::StepContext& c, const Layer& layer, const kernels::LayerKv& kv,
                 layers::SparseSelection& selection) noexcept;
  void write_logits(layers::StepContext& c, float* logits) noexcept;

  const std::shared_ptr<quant::WeightStore> store_;  // keeps the weights' bytes
  const int32_t vocab_, hidden_;
  const ModelLimits limits_;
  const std::vector<LayerKvWidths> kv_widths_;
  const layers::Rope rope_;
  const kernels::RowOpsChoice ops_;
  layers::Embedding embedding_;
  std::vector<Layer> layers_;
  layers::Norm final_norm_;
  layers::Linear head_;
  std::unique_ptr<moe::Dispatch> dispatch_;
  platform::Buffer step_memory_, scratch_;
  DecoderArrays arrays_{};
  int32_t index_topk_ = 0;
};

Status Decoder::load(const DecoderSpec& spec, quant::LoadContext& context) {
  MOESTRO_ASSIGN(embedding_,
                 layers::Embedding::load(context, spec.embedding, spec.vocab, spec.hidden));
  if (spec.moe_top_k() > 0) {
    MOESTRO_ASSIGN(dispatch_, moe::make_local_dispatch({.max_tokens = spec.limits_.max_tokens,
                                                        .top_k = spec.moe_top_k(),
                                                        .experts = spec.num_experts(),
                                                        .hidden = spec.hidden}));
  }
  for (const DecoderLayerSpec& s : spec.layers) {
    Layer layer;
    MOESTRO_ASSIGN(layer.attention_norm, layers::Norm::load(context, s.attention_norm));
    MOESTRO_ASSIGN(layer.mlp_norm, layers::Norm::load(context, s.mlp_norm));
    MOESTRO_ASSIGN(layer.attention, load_attention(context, s));
    if (s.dense) {
      MOESTRO_ASSIGN(layer.dense, layers::Mlp::load(context, *s.dense));
    }
    if (s.experts) {
      MOESTRO_ASSIGN(layer.experts, moe::MoeLayer::load(context, *s.experts, *dispatch_));
    }
    if (s.shared_expert) {
      MOESTRO_ASSIGN(layer.shared_expert, layers::SharedExpert::load(context, *s.shared_expert));
    }
    layers_.push_back(std::move(layer));
  }
  MOESTRO_ASSIGN(final_norm_, layers::Norm::load(context, spec.final_norm));
  MOESTRO_ASSIGN(head_, layers::Linear::load(context, spec.head));
  return {};
}

Status Decoder::allocate(const DecoderSpec& spec, int num_workers) {
  const int64_t workspace = decoder_workspace_floats(spec);
  MOESTRO_ASSIGN(step_memory_, platform::Buffer::allocate(
                                   static_cast<size_t>(arrays_.lay_out(nullptr, spec, workspace))));
  arrays_.lay_out(step_memory_.data(), spec, workspace);
  index_topk_ = spec.index_topk;

  ScratchSize size(num_workers);
  DecoderSpec copy = spec;  // the walk is not const, since plan/ fills the ops in
  copy.visit(size);
  MOESTRO_ASSIGN(scratch_, platform::Buffer::allocate(static_cast<size_t>(size.bytes)));
  return {};
}

void Decoder::forward(const kernels::StepInput& step, const kernels::KvView& kv, float* logits,
                      platform::Worker& worker) noexcept {
  layers::StepContext c{.step = step,
                        .kv = kv,
                        .worker = worker,
                        .ops = *ops_.table,
                        .rope_cos = arrays_.rope_cos,
                        .rope_sin = arrays_.rope_sin,
                        .scratch = scratch_.data()};
  layers::SparseSelection selection{.selected = arrays_.selected,
                                    .num_selected = arrays_.num_selected,
                                    .max_selected = index_topk_};
  ops_.count_step(step.num_tokens, worker);
  rope_.fill(step, arrays_.rope_cos, arrays_.rope_sin, worker);
  embedding_.forward(c, arrays_.x);
  for (size_t i = 0; i < layers_.size(); ++i) run_layer(c, layers_[i], kv.layers[i], selection);
  write_logits(c, logits);
}

void Decoder::run_layer(layers::StepContext& c, const Layer& layer, const kernels::LayerKv& kv,
                        layers::SparseSelection& selection) noexcept {
  const int32_t tokens = c.step.num_tokens;
  float *x = arrays_.x, *h = arrays_.h;
  c.worker.barrier();
  layer.attention_norm.forward(c, x, hidden_, tokens, h, hidden_);
  c.worker.barrier();
  layer.attention->forward(c, kv, h, x, arrays_.workspace, selection);
  c.worker.barrier();
  layer.mlp_norm.forward(c, x, hidden_, tokens, h, hidden_);
  c.worker.barrier();
  if (layer.dense) layer.dense->forward(c, h, hidden_, tokens, x, hidden_, true);
  if (layer.experts)
    layer.experts->forward(h, hidden_, tokens, x, hidden_, arrays_.workspace, c.ops, c.scratch,
                           c.worker);
  if (layer.shared_expert) {
    c.worker.barrier();
    layer.shared_expert->forward(c, h, x, arrays_.workspace);
  }
}

void Decoder::write_logits(layers::StepContext& c, float* logits) noexcept {
  const int32_t rows = c.step.num_logits_rows;
  c.worker.barrier();
  const auto [begin, end] = c.worker.share(rows);
  for (int64_t i = begin; i < end; ++i)
    std::copy_n(arrays_.x + int64_t{c.step.logits_rows[i]} * hidden_, hidden_,
                arrays_.logits_rows + i * hidden_);
  final_norm_.forward(c, arrays_.logits_rows, hidden_, rows, arrays_.logits_rows, hidden_);
  c.worker.barrier();
  if (rows > 0) head_.forward(c, arrays_.logits_rows, hidden_, rows, {{logits, vocab_}});
}

}  // namespace

int64_t DecoderArrays::lay_out(std::byte* base, const DecoderSpec& spec, int64_t workspace_floats) {
  int64_t bytes = 0;
  const auto take = [&](auto*& pointer, int64_t count) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + bytes);
    bytes += (count * 4 + 63) / 64 * 64;
  };
  const int64_t tokens = spec.limits_.max_tokens;
  take(x, tokens * spec.hidden);
  take(h, tokens * spec.hidden);
  take(rope_cos, tokens * spec.rope.dim() / 2);
  take(rope_sin, tokens * spec.rope.dim() / 2);
  take(logits_rows, int64_t{spec.limits_.max_logits_rows} * spec.hidden);
  take(workspace, workspace_floats);
  take(selected, tokens * spec.index_topk);
  take(num_selected, spec.index_topk > 0 ? tokens : 0);
  return bytes;
}

int64_t decoder_workspace_floats(const DecoderSpec& spec) {
  int64_t floats = 0;
  for (const DecoderLayerSpec& layer : spec.layers) {
    floats = std::max(floats, attention_workspace_floats(layer, spec.limits_.max_tokens));
    if (layer.experts)
      floats =
          std::max(floats, moe::moe_workspace_floats(layer.experts->router, layer.experts->hidden,
                                                     spec.limits_.max_tokens));
    if (layer.shared_expert)
      floats = std::max(floats, layers::shared_expert_workspace_floats(*layer.shared_expert,
                                                                       spec.limits_.max_tokens));
  }
  return floats;
}

int64_t DecoderSpec::activation_bytes() const {
  DecoderArrays arrays{};
  int64_t bytes = arrays.lay_out(nullptr, *this, decoder_workspace_floats(*this));
  if (moe_top_k() > 0)
    bytes += moe::LocalDispatchShape{.max_tokens = limits_.max_tokens,
                                     .top_k = moe_top_k(),
                                     .experts = num_experts(),
                                     .hidden = hidden}
                 .bytes();
  return bytes;
}

Result<std::unique_ptr<Model>> load_decoder(const DecoderSpec& spec, const LoadRequest& request) {
  auto decoder = std::make_unique<Decoder>(spec, request.store);
  quant::LoadContext context{.source = request.source,
                             .store = *request.store,
                             .gang = request.gang,
                             .progress = request.progress};
  MOESTRO_TRY(decoder->load(spec, context));
  MOESTRO_TRY(decoder->allocate(spec, request.gang.num_workers()));
  return std::unique_ptr<Model>(std::move(decoder));
}

Result<std::unique_ptr<Model>> DecoderSpec::load(const LoadRequest& request) const {
  return load_decoder(*this, request);
}

}  // namespace moestro::models
