// The ops that a plan chooses kernels for: how each kind is called, described and keyed, and which
// list holds its candidates. Used inside plan/ only.
#pragma once
#include <algorithm>
#include <string>

#include "base/format.h"
#include "kernels/op_choice.h"

namespace moestro::plan {

struct Named {
  std::string op, shape, layout;
};

inline Named describe(const kernels::LinearShape& s) {
  return {"linear", format("n {}, k {}", s.total_n, s.k),
          std::string(tensor::packed_format_name(s.format))};
}
inline Named describe(const kernels::HeadLinearShape& s) {
  return {"head_linear", format("{} heads, n {}, k {}", s.heads, s.n, s.k),
          std::string(tensor::packed_format_name(s.format))};
}
inline Named describe(const kernels::ExpertMlpShape& s) {
  return {"expert_mlp", format("hidden {}, intermediate {}", s.hidden, s.intermediate),
          std::string(tensor::packed_format_name(s.format))};
}
inline Named describe(const kernels::GqaShape& s) {
  return {"gqa", format("{} heads, {} key/value heads of {}", s.heads, s.kv_heads, s.head_dim),
          format("kv {}", torch_name(s.kv_dtype))};
}
inline Named describe(const kernels::MlaShape& s) {
  return {"mla", format("{} heads, latent {}, rope {}", s.heads, s.latent, s.rope),
          format("kv {}", torch_name(s.kv_dtype))};
}
inline Named describe(const kernels::SparseIndexShape& s) {
  return {"sparse_index", format("{} heads of {}, top {}", s.heads, s.dim, s.topk),
          format("kv {}", torch_name(s.kv_dtype))};
}

inline auto candidates_of(const kernels::LinearShape& s) {
  return kernels::linear_kernels(s.format);
}
inline auto candidates_of(const kernels::HeadLinearShape& s) {
  return kernels::head_linear_kernels(s.format);
}
inline auto candidates_of(const kernels::ExpertMlpShape& s) {
  return kernels::expert_mlp_kernels(s.format);
}
inline auto candidates_of(const kernels::GqaShape&) { return kernels::gqa_kernels(); }
inline auto candidates_of(const kernels::MlaShape&) { return kernels::mla_kernels(); }
inline auto candidates_of(const kernels::SparseIndexShape&) {
  return kernels::sparse_index_kernels();
}

// The key of a place's measured times: what changes them on one machine. Attention is not measured:
// its time depends on what is in the cache.
inline std::string table_key(const kernels::LinearShape& s, int workers) {
  return format("linear {} n {} k {} workers {}", tensor::packed_format_name(s.format), s.total_n,
                s.k, workers);
}
inline std::string table_key(const kernels::ExpertMlpShape& s, int workers) {
  return format("expert_mlp {} experts {} top {} hidden {} intermediate {} workers {}",
                tensor::packed_format_name(s.format), s.experts,
                s.max_rows / std::max(s.max_tokens, 1), s.hidden, s.intermediate, workers);
}
std::string table_key(const auto&, int) { return {}; }

}  // namespace moestro::plan
