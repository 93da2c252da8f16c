#include "layers/attention/gqa.h"

#include <algorithm>

namespace moestro::layers {
namespace {

constexpr int64_t aligned(int64_t floats) { return (floats + 15) / 16 * 16; }

// A step's intermediate arrays, in the workspace; each starts on a cache line.
struct Arrays {
  float *q, *k, *v, *out;
  int64_t floats;
};

Arrays carve(const GqaSpec& spec, float* workspace, int64_t tokens) {
  const int64_t q = aligned(tokens * spec.q_width()), kv = aligned(tokens * spec.kv_width());
  return {.q = workspace,
          .k = workspace + q,
          .v = workspace + q + kv,
          .out = workspace + q + 2 * kv,
          .floats = 2 * (q + kv)};
}

class Gqa final : public Attention {
 public:
  static Result<std::unique_ptr<Attention>> load(quant::LoadContext& context, const GqaSpec& spec);
  void forward(StepContext& c, const kernels::LayerKv& kv, const float* h, float* x,
               float* workspace, SparseSelection& selection) const override;

 private:
  void normalize(StepContext& c, const Norm& norm, float* rows, int32_t width) const;
  void prepare(StepContext& c, const Arrays& a) const;
  void clamp(StepContext& c, float* rows, int32_t width) const;
  void rotate(StepContext& c, float* rows, int32_t heads) const;
  void cache_rows(StepContext& c, const kernels::LayerKv& kv, const Arrays& a) const;

  GqaSpec spec_;
  GroupedLinear input_;
  std::optional<Norm> q_norm_, k_norm_;
  const float* sinks_ = nullptr;
  Linear output_;
};

Result<std::unique_ptr<Attention>> Gqa::load(quant::LoadContext& context, const GqaSpec& spec) {
  auto gqa = std::make_unique<Gqa>();
  gqa->spec_ = spec;
  MOESTRO_ASSIGN(gqa->input_, GroupedLinear::load(context, spec.input));
  if (spec.q_norm) {
    MOESTRO_ASSIGN(gqa->q_norm_, Norm::load(context, *spec.q_norm));
  }
  if (spec.k_norm) {
    MOESTRO_ASSIGN(gqa->k_norm_, Norm::load(context, *spec.k_norm));
  }
  if (!spec.sinks.empty()) {
    MOESTRO_ASSIGN(gqa->sinks_, quant::load_floats(context, spec.sinks, {spec.heads}));
  }
  MOESTRO_ASSIGN(gqa->output_, Linear::load(context, spec.output));
  return std::unique_ptr<Attention>(std::move(gqa));
}

// A token's `width` values as one row of the norm or, head by head, as several.
void Gqa::normalize(StepContext& c, const Norm& norm, float* rows, int32_t width) const {
  norm.forward(c, rows, norm.width(), c.step.num_tokens * (width / norm.width()), rows,
               norm.width());
}

void Gqa::clamp(StepContext& c, float* rows, int32_t width) const {
  const auto [begin, end] = c.worker.share(int64_t{c.step.num_tokens} * width);
  for (int64_t i = begin; i < end; ++i) rows[i] = std::clamp(rows[i], -spec_.clip, spec_.clip);
}

void Gqa::rotate(StepContext& c, float* rows, int32_t heads) const {
  c.ops.rope({.x = rows,
              .row_stride = int64_t{heads} * spec_.head_dim,
              .head_stride = spec_.head_dim,
              .rows = c.step.num_tokens,
              .heads = heads,
              .rope_dim = spec_.rope,
              .cos = c.rope_cos,
              .sin = c.rope_sin,
              .interleaved = false},
             c.worker);
}

// Norms, clamp, rotation. A norm of single heads and the rotation give a worker the same heads, so
// that only a norm over all heads, and the clamp, want barriers.
void Gqa::prepare(StepContext& c, const Arrays& a) const {
  if (q_norm_) normalize(c, *q_norm_, a.q, spec_.q_width());
  if (k_norm_) normalize(c, *k_norm_, a.k, spec_.kv_width());
  const bool over_all_heads = (q_norm_ && q_norm_->width() != spec_.head_dim) ||
                              (k_norm_ && k_norm_->width() != spec_.head_dim);
  if (over_all_heads || spec_.clip > 0) c.worker.barrier();
  if (spec_.clip > 0) {
    clamp(c, a.q, spec_.q_width());
    clamp(c, a.k, spec_.kv_width());
    clamp(c, a.v, spec_.kv_width());
    c.worker.barrier();
  }
  rotate(c, a.q, spec_.heads);
  rotate(c, a.k, spec_.kv_heads);
  c.worker.barrier();
}

void Gqa::cache_rows(StepContext& c, const kernels::LayerKv& kv, const Arrays& a) const {
  const int32_t width = spec_.kv_width();
  const auto store = [&](const float* rows, const tensor::PagedView& view) {
    c.ops.store_kv(
        {.step = &c.step, .x = rows, .x_stride = width, .kv = view, .offset = 0, .width = width},
        c.worker);
  };
  store(a.k, kv.key);
  store(a.v, kv.value);
  c.worker.barrier();
}

void Gqa::forward(StepContext& c, const kernels::LayerKv& kv, const float* h, float* x,
                  float* workspace, SparseSelection&) const {
  const int32_t tokens = c.step.num_tokens, q_width = spec_.q_width(), kv_width = spec_.kv_width();
  const Arrays a = carve(spec_, workspace, tokens);
  input_.forward(c, h, spec_.hidden, tokens, {{a.q, q_width}, {a.k, kv_width}, {a.v, kv_width}});
  prepare(c, a);
  cache_rows(c, kv, a);
  spec_.attention.run({.step = &c.step,
                       .q = a.q,
                       .q_stride = q_width,
                       .key = kv.key,
                       .value = kv.value,
                       .heads = spec_.heads,
                       .kv_heads = spec_.kv_heads,
                       .head_dim = spec_.head_dim,
                       .v_head_dim = spec_.head_dim,
                       .scale = spec_.scale,
                       .window = spec_.window,
                       .sinks = sinks_,
                       .out = a.out,
                       .scratch = c.scratch},
                      c.worker);
  c.worker.barrier();
  output_.forward(c, a.out, q_width, tokens, {{x, spec_.hidden}}, true);
}

}  // namespace

int64_t gqa_workspace_floats(const GqaSpec& spec, int32_t max_tokens) {
  return carve(spec, nullptr, max_tokens).floats;
}

Result<std::unique_ptr<Attention>> load_gqa(quant::LoadContext& context, const GqaSpec& spec) {
  return Gqa::load(context, spec);
}

}  // namespace moestro::layers
