// The ops that a plan chooses kernels for: how each kind is called, described and keyed, which list
// holds its candidates, and the choice itself. Used by plan/ and by bench moe.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "base/format.h"
#include "kernels/op_choice.h"
#include "plan/choose.h"

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

// The largest number of tokens that the place can see in a step.
inline int32_t max_tokens_of(const kernels::LinearShape& s) { return s.max_rows; }
inline int32_t max_tokens_of(const kernels::HeadLinearShape& s) { return s.max_rows; }
int32_t max_tokens_of(const auto& s) { return s.max_tokens; }

// Appends what a bucket's plan says; neighbours that say the same become one.
void append_bucket(std::vector<BucketPlan>& buckets, BucketPlan next);
// "a (isa: …), b (shape: …)"
std::string reasons_text(const std::vector<Candidate>& candidates);

// Chooses the kernels of an op, by the input's table where it has times, and writes them into it.
// Returns the buckets that its tokens can reach. Nothing fits: kUnsupported that names the place.
template <class Op>
Result<std::vector<BucketPlan>> choose_kernels(Op& op, std::string_view place,
                                               const PlanInput& input, std::string_view forced) {
  const auto list = candidates_of(op.shape);
  const KernelTimes* times = nullptr;
  if (input.table != nullptr) times = input.table->find(table_key(op.shape, input.num_workers));
  std::vector<BucketPlan> buckets;
  for (int b = 0; b < kernels::kTokenBuckets; ++b) {
    BucketPlan bucket{
        .first = kernels::first_of_bucket(b), .last = -1, .kernel = {}, .candidates = {}};
    const auto* kernel = choose(list, op.shape, input.isa, forced, bucket.candidates, times, b);
    if (kernel == nullptr) {
      const Named named = describe(op.shape);
      return unsupported(format("no kernel can run {} ({}; {}): {}", place, named.op, named.shape,
                                reasons_text(bucket.candidates)));
    }
    op.kernels[static_cast<size_t>(b)] = kernel;
    if (bucket.first > max_tokens_of(op.shape) && b > 0) continue;  // never that many
    bucket.kernel = kernel->name;
    append_bucket(buckets, std::move(bucket));
  }
  return buckets;
}

}  // namespace moestro::plan
