// A rank's share of each place of the model: the shape that its kernels see and the bytes that it
// holds. Attention splits by heads, MLPs by channels, the head by vocabulary, experts as the layout
// says; what all heads share (latents, indexer, router) is whole everywhere. Used by plan.cpp.
#pragma once
#include "base/status.h"
#include "models/op_visitor.h"
#include "plan/ranks.h"

namespace moestro::plan {

class Shards {
 public:
  explicit Shards(const RankLayout& layout) : layout_(layout) {}

  // The shape of rank 0, whose share is never smaller than another's; unchanged with one rank.
  void split(const models::OpSite& site, kernels::LinearShape& shape) const;
  void split(const models::OpSite& site, kernels::HeadLinearShape& shape) const;
  void split(const models::OpSite& site, kernels::ExpertMlpShape& shape) const;
  void split(const models::OpSite& site, kernels::GqaShape& shape) const;
  void split(const models::OpSite& site, kernels::MlaShape& shape) const;
  void split(const models::OpSite&, kernels::SparseIndexShape&) const {}

  // Groups of scales must not be cut in two. `whole` and `part`: the shape before and after.
  Status check(const models::OpSite& site, const kernels::LinearShape& whole,
               const kernels::LinearShape& part) const;
  Status check(const models::OpSite& site, const kernels::ExpertMlpShape& whole,
               const kernels::ExpertMlpShape& part) const;
  Status check(const models::OpSite&, const auto&, const auto&) const { return {}; }

  int64_t weight_bytes(const models::OpSite& site, const RankShard& shard) const;

 private:
  const RankLayout& layout_;
};

}  // namespace moestro::plan
