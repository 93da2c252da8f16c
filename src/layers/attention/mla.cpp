#include "layers/attention/mla.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/format.h"
#include "tensor/numeric.h"

namespace moestro::layers {
namespace {

// Carves the workspace; every array starts on a cache line.
struct Workspace {
  float* at;
  float* take(int64_t floats) {
    float* p = at;
    at += (floats + 15) / 16 * 16;
    return p;
  }
};

// A step's intermediate arrays, in the workspace.
struct Arrays {
  float *q_a, *kv_a, *q, *q_full, *latent_out, *v_out, *index_k, *index_w, *index_q;
};

Arrays carve(const MlaSpec& spec, float* workspace, int64_t tokens, int64_t* used = nullptr) {
  Workspace w{workspace};
  Arrays a{};
  const int64_t heads = spec.heads;
  a.q_a = w.take(tokens * spec.q_lora);
  a.kv_a = w.take(tokens * (spec.latent + spec.rope));
  a.q = w.take(tokens * heads * (spec.nope + spec.rope));
  a.q_full = w.take(tokens * heads * (spec.latent + spec.rope));
  a.latent_out = w.take(tokens * heads * spec.latent);
  a.v_out = w.take(tokens * heads * spec.v_dim);
  if (spec.indexer) {
    a.index_k = w.take(tokens * spec.indexer->dim);
    a.index_w = w.take(tokens * spec.indexer->heads);
    a.index_q = w.take(tokens * spec.indexer->heads * spec.indexer->dim);
  }
  if (used) *used = w.at - workspace;
  return a;
}

class Mla final : public Attention {
 public:
  static Result<std::unique_ptr<Attention>> load(quant::LoadContext& context, const MlaSpec& spec);
  void forward(StepContext& c, const kernels::LayerKv& kv, const float* h, float* x,
               float* workspace, SparseSelection& selection) const override;

 private:
  void project_input(StepContext& c, const float* h, const Arrays& a) const;
  void cache_rows(StepContext& c, const kernels::LayerKv& kv, const Arrays& a) const;
  void project_query(StepContext& c, const Arrays& a) const;
  void rotate_query(StepContext& c, const Arrays& a) const;
  Status load_absorbed(quant::LoadContext& context);

  MlaSpec spec_;
  GroupedLinear input_, query_;
  Norm q_a_norm_, kv_a_norm_;
  std::vector<tensor::PackedMatrix> key_heads_,
      value_heads_;  // [heads] [latent, nope], [v_dim, latent]
  Linear output_;
  std::optional<DsaIndexer> indexer_;
};

Result<std::unique_ptr<Attention>> Mla::load(quant::LoadContext& context, const MlaSpec& spec) {
  auto mla = std::make_unique<Mla>();
  mla->spec_ = spec;
  MOESTRO_ASSIGN(mla->input_, GroupedLinear::load(context, spec.input));
  MOESTRO_ASSIGN(mla->query_, GroupedLinear::load(context, spec.query));
  if (spec.q_lora > 0) {
    MOESTRO_ASSIGN(mla->q_a_norm_, Norm::load(context, spec.q_a_norm));
  }
  MOESTRO_ASSIGN(mla->kv_a_norm_, Norm::load(context, spec.kv_a_norm));
  MOESTRO_ASSIGN(mla->output_, Linear::load(context, spec.output));
  if (spec.indexer) {
    MOESTRO_ASSIGN(DsaIndexer indexer, DsaIndexer::load(context, *spec.indexer));
    mla->indexer_ = std::move(indexer);
  }
  MOESTRO_TRY(mla->load_absorbed(context));
  return std::unique_ptr<Attention>(std::move(mla));
}

float value_at(const kernels::SourceMatrix& m, int64_t row, int64_t column) {
  const std::byte* p = m.data + row * m.row_bytes + column * (bits(m.dtype) / 8);
  if (m.dtype == DType::kF32) {
    float v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return m.dtype == DType::kBF16 ? to_float(Bf16{half}) : to_float(F16{half});
}

// kv_b_proj [heads * (nope + v_dim), latent] becomes, per head, U^T [latent, nope] and V [v_dim,
// latent].
Status Mla::load_absorbed(quant::LoadContext& context) {
  const tensor::PackedFormat packed = spec_.absorb_key.shape.format;
  const int32_t nope = spec_.nope, v_dim = spec_.v_dim, latent = spec_.latent;
  std::vector<std::byte*> key_fill, value_fill;
  bool is_there = true;
  for (int32_t head = 0; head < spec_.heads; ++head) {
    const std::string name = format("{} head {}", spec_.kv_b.module, head);
    MOESTRO_ASSIGN(const quant::PlacedMatrix key,
                   quant::place_matrix(context, name + " keys", packed, latent, nope));
    MOESTRO_ASSIGN(const quant::PlacedMatrix value,
                   quant::place_matrix(context, name + " values", packed, v_dim, latent));
    key_heads_.push_back(key.matrix);
    value_heads_.push_back(value.matrix);
    key_fill.push_back(key.fill);
    value_fill.push_back(value.fill);
    is_there = is_there && key.fill == nullptr && value.fill == nullptr;
  }
  if (is_there) return {};
  MOESTRO_ASSIGN(const quant::LoadedMatrix kv_b, quant::read_matrix(context.source, spec_.kv_b));
  MOESTRO_TRY(context.parallel(spec_.heads, [&](int64_t i) -> Status {
    const auto head = static_cast<size_t>(i);
    const auto first = static_cast<int32_t>(i) * (nope + v_dim);
    std::vector<std::byte> made;
    const kernels::SourceMatrix key_rows = kv_b.rows(first, first + nope, made);
    std::vector<float> transposed(static_cast<size_t>(latent) * static_cast<size_t>(nope));
    for (int32_t r = 0; r < nope; ++r)
      for (int32_t j = 0; j < latent; ++j)
        transposed[static_cast<size_t>(j) * static_cast<size_t>(nope) + static_cast<size_t>(r)] =
            value_at(key_rows, r, j);
    kernels::pack_channels(key_heads_[head],
                           {.data = reinterpret_cast<const std::byte*>(transposed.data()),
                            .dtype = DType::kF32,
                            .n = latent,
                            .k = nope,
                            .row_bytes = int64_t{nope} * 4,
                            .scales = nullptr},
                           0, key_fill[head]);
    kernels::pack_channels(value_heads_[head], kv_b.rows(first + nope, first + nope + v_dim, made),
                           0, value_fill[head]);
    return {};
  }));
  quant::done_with(context, kv_b);
  return {};
}

void Mla::project_input(StepContext& c, const float* h, const Arrays& a) const {
  const int64_t heads = spec_.heads;
  std::array<Linear::Output, 4> out;
  size_t n = 0;
  out[n++] = spec_.q_lora > 0 ? Linear::Output{a.q_a, spec_.q_lora}
                              : Linear::Output{a.q, heads * (spec_.nope + spec_.rope)};
  out[n++] = {a.kv_a, spec_.latent + spec_.rope};
  if (indexer_) {
    out[n++] = {a.index_k, spec_.indexer->dim};
    out[n++] = {a.index_w, spec_.indexer->heads};
  }
  input_.forward(c, h, spec_.hidden, c.step.num_tokens,
                 std::span<const Linear::Output>(out.data(), n));
}

// Row phase: latent normed, k_pe rotated, both stored; the indexer's keys likewise; q_a normed in
// place.
void Mla::cache_rows(StepContext& c, const kernels::LayerKv& kv, const Arrays& a) const {
  const int32_t tokens = c.step.num_tokens, width = spec_.latent + spec_.rope;
  if (spec_.q_lora > 0) q_a_norm_.forward(c, a.q_a, spec_.q_lora, tokens, a.q_a, spec_.q_lora);
  kv_a_norm_.forward(c, a.kv_a, width, tokens, a.kv_a, width);
  c.ops.rope({.x = a.kv_a + spec_.latent,
              .row_stride = width,
              .head_stride = width,
              .rows = tokens,
              .heads = 1,
              .rope_dim = spec_.rope,
              .cos = c.rope_cos,
              .sin = c.rope_sin,
              .interleaved = spec_.rope_interleaved},
             c.worker);
  c.ops.store_kv(
      {.step = &c.step, .x = a.kv_a, .x_stride = width, .kv = kv.key, .offset = 0, .width = width},
      c.worker);
  if (indexer_) indexer_->store_keys(c, kv, a.index_k, a.index_w);
  c.worker.barrier();
}

void Mla::project_query(StepContext& c, const Arrays& a) const {
  if (spec_.q_lora == 0) return;
  const int64_t heads = spec_.heads;
  std::array<Linear::Output, 2> out;
  size_t n = 0;
  out[n++] = {a.q, heads * (spec_.nope + spec_.rope)};
  if (indexer_) out[n++] = {a.index_q, int64_t{spec_.indexer->heads} * spec_.indexer->dim};
  query_.forward(c, a.q_a, spec_.q_lora, c.step.num_tokens,
                 std::span<const Linear::Output>(out.data(), n));
}

// Row phase: q_pe goes behind the place of the absorbed query and is rotated there.
void Mla::rotate_query(StepContext& c, const Arrays& a) const {
  const int32_t tokens = c.step.num_tokens;
  const int64_t heads = spec_.heads, from = spec_.nope + spec_.rope, to = spec_.latent + spec_.rope;
  const auto [begin, end] =
      c.worker.share(tokens * heads);  // the pairs that rope gives this worker
  for (int64_t i = begin; i < end; ++i)
    std::copy_n(a.q + i * from + spec_.nope, spec_.rope, a.q_full + i * to + spec_.latent);
  c.ops.rope({.x = a.q_full + spec_.latent,
              .row_stride = heads * to,
              .head_stride = to,
              .rows = tokens,
              .heads = spec_.heads,
              .rope_dim = spec_.rope,
              .cos = c.rope_cos,
              .sin = c.rope_sin,
              .interleaved = spec_.rope_interleaved},
             c.worker);
  if (indexer_) indexer_->rotate_queries(c, a.index_q);
}

void Mla::forward(StepContext& c, const kernels::LayerKv& kv, const float* h, float* x,
                  float* workspace, SparseSelection& selection) const {
  const int32_t tokens = c.step.num_tokens;
  const int64_t heads = spec_.heads, q_width = spec_.nope + spec_.rope,
                full_width = spec_.latent + spec_.rope;
  const Arrays a = carve(spec_, workspace, tokens);

  project_input(c, h, a);
  cache_rows(c, kv, a);
  project_query(c, a);
  rotate_query(c, a);
  spec_.absorb_key.run({.x = a.q,
                        .x_row_stride = heads * q_width,
                        .x_head_stride = q_width,
                        .y = a.q_full,
                        .y_row_stride = heads * full_width,
                        .y_head_stride = full_width,
                        .rows = tokens,
                        .weights = key_heads_,
                        .scratch = c.scratch},
                       c.worker);
  c.worker.barrier();
  if (indexer_) {
    indexer_->select(c, kv, a.index_q, a.index_w, selection);
    c.worker.barrier();
  }
  spec_.attention.run({.step = &c.step,
                       .q = a.q_full,
                       .kv = kv.key,
                       .heads = spec_.heads,
                       .latent = spec_.latent,
                       .rope = spec_.rope,
                       .scale = spec_.scale,
                       .selected = spec_.sparse ? selection.selected : nullptr,
                       .num_selected = spec_.sparse ? selection.num_selected : nullptr,
                       .max_selected = selection.max_selected,
                       .out = a.latent_out,
                       .scratch = c.scratch},
                      c.worker);
  c.worker.barrier();
  spec_.absorb_value.run({.x = a.latent_out,
                          .x_row_stride = heads * spec_.latent,
                          .x_head_stride = spec_.latent,
                          .y = a.v_out,
                          .y_row_stride = heads * spec_.v_dim,
                          .y_head_stride = spec_.v_dim,
                          .rows = tokens,
                          .weights = value_heads_,
                          .scratch = c.scratch},
                         c.worker);
  c.worker.barrier();
  output_.forward(c, a.v_out, heads * spec_.v_dim, tokens, {{x, spec_.hidden}}, true);
}

}  // namespace

int64_t MlaSpec::head_matrix_bytes() const {
  const tensor::PackedFormat f = absorb_key.shape.format;
  return heads * (tensor::packed_bytes(f, latent, nope) + tensor::packed_bytes(f, v_dim, latent));
}

int64_t mla_workspace_floats(const MlaSpec& spec, int32_t max_tokens) {
  int64_t used = 0;
  carve(spec, nullptr, max_tokens, &used);
  return used;
}

Result<std::unique_ptr<Attention>> load_mla(quant::LoadContext& context, const MlaSpec& spec) {
  return Mla::load(context, spec);
}

}  // namespace moestro::layers
