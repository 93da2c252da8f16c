#include "plan/shards.h"

#include <algorithm>

#include "base/format.h"

namespace moestro::plan {
namespace {

using models::OpModule;
using models::OpSite;

// A part of `whole`: num / den of it.
struct Share {
  int64_t num = 1, den = 1;
  int64_t of(int64_t whole) const { return (whole * num + den - 1) / den; }
};

Share kv_share(const RankLayout& layout, const RankShard& shard) {
  return {shard.kv_heads.count, std::max(layout.kv_heads, 1)};
}

// Of the output channels of a module of attention.
Share columns_of(const RankLayout& layout, const RankShard& shard, std::string_view module) {
  if (module == "q_proj" || module == "q_b_proj") return {1, layout.request.tensor};
  if (module == "k_proj" || module == "v_proj") return kv_share(layout, shard);
  return {};
}
bool is_split_by_rows(const OpSite& site) {
  return site.part == "attention" && site.modules.size() == 1 && site.modules[0].name == "o_proj";
}

Share experts_share(const RankLayout& layout, const RankShard& shard) {
  if (layout.ranks() == 1) return {};
  if (layout.experts_are_sliced) return {1, layout.ranks()};
  return {static_cast<int64_t>(shard.experts.size()), std::max(layout.num_experts, 1)};
}

Status cut_group(const OpSite& site, const RankLayout& layout, int32_t part, int32_t group) {
  return invalid_argument(format(
      "{}: {} ranks would cut {} into slices of {} values, and its scales are for groups of {}; "
      "use fewer{}",
      layout.request.tensor > 1 ? "--tensor-parallel-size" : "--data-parallel-size", layout.ranks(),
      site.name, part, group,
      layout.experts_are_sliced ? ", or --enable-expert-parallel, which keeps experts whole" : ""));
}

}  // namespace

void Shards::split(const OpSite& site, kernels::LinearShape& shape) const {
  const RankShard& first = layout_.shards.front();
  if (layout_.request.tensor == 1) return;
  if (site.part == "head") {
    shape.total_n = first.vocab.count;
  } else if (is_split_by_rows(site)) {
    shape.k /= layout_.request.tensor;
  } else if (site.part == "attention") {
    shape.total_n = 0;
    for (const OpModule& m : site.modules)
      shape.total_n += static_cast<int32_t>(columns_of(layout_, first, m.name).of(m.n));
  }
}

void Shards::split(const OpSite&, kernels::HeadLinearShape& shape) const {
  shape.heads /= layout_.request.tensor;
}

void Shards::split(const OpSite& site, kernels::ExpertMlpShape& shape) const {
  if (site.part != "experts") {
    shape.intermediate /= layout_.request.tensor;
    return;
  }
  const RankShard& first = layout_.shards.front();
  if (layout_.ranks() == 1) return;
  shape.experts = static_cast<int32_t>(first.experts.size());
  shape.intermediate = first.expert_channels.count;
  if (!layout_.dispatch.crosses_ranks()) return;
  shape.max_tokens *= layout_.request.data;  // of all data ranks together
  shape.max_rows *= layout_.request.data;
}

void Shards::split(const OpSite&, kernels::GqaShape& shape) const {
  shape.heads /= layout_.request.tensor;
  if (layout_.request.tensor > 1) shape.kv_heads = layout_.shards.front().kv_heads.count;
}

void Shards::split(const OpSite&, kernels::MlaShape& shape) const {
  shape.heads /= layout_.request.tensor;
}

Status Shards::check(const OpSite& site, const kernels::LinearShape& whole,
                     const kernels::LinearShape& part) const {
  const int32_t group = whole.format.group_k;
  if (whole.k == part.k || group == 0 || part.k % group == 0) return {};
  return cut_group(site, layout_, part.k, group);
}

Status Shards::check(const OpSite& site, const kernels::ExpertMlpShape& whole,
                     const kernels::ExpertMlpShape& part) const {
  const int32_t group = whole.format.group_k;
  if (whole.intermediate == part.intermediate || group == 0 || part.intermediate % group == 0)
    return {};
  return cut_group(site, layout_, part.intermediate, group);
}

int64_t Shards::weight_bytes(const OpSite& site, const RankShard& shard) const {
  const Share tensor{1, layout_.request.tensor};
  if (site.part == "experts") return experts_share(layout_, shard).of(site.weight_bytes);
  if (site.part == "head" || site.part == "dense mlp") return tensor.of(site.weight_bytes);
  if (site.part == "shared expert")  // its gate is whole
    return site.modules.empty() ? tensor.of(site.weight_bytes) : site.weight_bytes;
  if (site.part != "attention") return site.weight_bytes;
  if (site.modules.empty() || is_split_by_rows(site)) return tensor.of(site.weight_bytes);  // kv_b
  int64_t bytes = 0;
  for (const OpModule& m : site.modules)
    bytes += columns_of(layout_, shard, m.name).of(m.weight_bytes);
  return bytes;
}

}  // namespace moestro::plan
