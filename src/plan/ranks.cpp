#include "plan/ranks.h"

#include <algorithm>

#include "base/format.h"

namespace moestro::plan {
namespace {

constexpr int32_t kMaxRanks = 1024;
constexpr std::string_view kNames[] = {"local", "allgather", "alltoall", "alltoall_batched"};

struct BackendName {
  std::string_view vllm, ours;
};
// By what they do: every rank gets all rows; contiguous rows to those who need them; fixed slots an
// expert, for bounded latency. vLLM itself replaces naive and pplx by its all-gather.
constexpr BackendName kBackends[] = {
    {"allgather_reducescatter", "allgather"},
    {"naive", "allgather"},
    {"pplx", "allgather"},
    {"deepep_high_throughput", "alltoall"},
    {"deepep_v2", "alltoall"},
    {"mori_high_throughput", "alltoall"},
    {"flashinfer_all2allv", "alltoall"},
    {"flashinfer_nvlink_two_sided", "alltoall"},
    {"flashinfer_nvlink_one_sided", "alltoall"},
    {"deepep_low_latency", "alltoall_batched"},
    {"mori_low_latency", "alltoall_batched"},
    {"nixl_ep", "alltoall_batched"},
};

// "1, 2, 4, 8": what would do instead.
std::string divisors_text(int32_t n) {
  std::string text;
  for (int32_t d = 1; d <= std::min(n, 64); ++d)
    if (n % d == 0) text += format("{}{}", text.empty() ? "" : ", ", d);
  return text;
}

Status check_divides(int32_t n, int32_t parts, std::string_view what, std::string_view flags,
                     std::string_view remedy) {
  if (n % parts == 0) return {};
  return invalid_argument(format("{} {}: {} {} do not divide by it; sizes that do are {}{}", flags,
                                 parts, n, what, divisors_text(n), remedy));
}

// Each of `parts` gets n / parts, the first n % parts one more.
Range share_of(int32_t n, int32_t parts, int32_t part) {
  const int32_t each = n / parts, more = n % parts;
  return {part * each + std::min(part, more), each + (part < more ? 1 : 0)};
}

// Key/value heads: a share each, or one of them for several neighbours.
Range kv_share_of(int32_t kv_heads, int32_t parts, int32_t part) {
  if (parts <= kv_heads) return share_of(kv_heads, parts, part);
  return {part / (parts / kv_heads), 1};
}

int32_t dense_layers(const checkpoint::ModelConfig& c) {
  return c.num_layers - static_cast<int32_t>(std::ranges::count(c.moe_layer, true));
}

Status check_sizes(const checkpoint::ModelConfig& c, const RankRequest& r) {
  if (int64_t{r.tensor} * r.data > kMaxRanks)
    return invalid_argument(format(
        "--tensor-parallel-size {} x --data-parallel-size {}: {} ranks; at most {} can be planned",
        r.tensor, r.data, int64_t{r.tensor} * r.data, kMaxRanks));
  constexpr std::string_view kTensor = "--tensor-parallel-size";
  MOESTRO_TRY(check_divides(c.num_heads, r.tensor, "attention heads", kTensor, ""));
  const int32_t kv = c.uses_mla() ? 0 : c.num_kv_heads;
  if (kv > 0 && kv % r.tensor != 0 && r.tensor % kv != 0)
    return invalid_argument(
        format("{} {}: {} key/value heads neither divide by it nor it by them; a divisor or a "
               "multiple of {} does",
               kTensor, r.tensor, kv, kv));
  if (dense_layers(c) > 0)
    MOESTRO_TRY(
        check_divides(c.intermediate_size, r.tensor, "channels of the dense MLP", kTensor, ""));
  if (c.num_shared_experts > 0)
    MOESTRO_TRY(check_divides(c.shared_expert_intermediate_size, r.tensor,
                              "channels of the shared expert", kTensor, ""));
  if (r.ranks() == 1) return {};
  if (c.num_experts == 0) {
    if (!r.expert_parallel) return {};
    return invalid_argument(
        "--enable-expert-parallel: this model has no experts to spread; leave it out");
  }
  if (!r.expert_parallel)
    return check_divides(c.moe_intermediate_size, r.ranks(), "channels of an expert",
                         "--tensor-parallel-size x --data-parallel-size",
                         "; --enable-expert-parallel keeps experts whole");
  if (r.ranks() > c.num_experts)
    return invalid_argument(
        format("--enable-expert-parallel: {} ranks for {} experts leave ranks without any; use at "
               "most {} ranks",
               r.ranks(), c.num_experts, c.num_experts));
  return {};
}

void decide_dispatch(const checkpoint::ModelConfig& c, const RankRequest& r, RankLayout& layout) {
  DispatchPlan& d = layout.dispatch;
  const std::string_view asked = dispatch_of_backend(r.backend);
  const bool spread = r.expert_parallel && r.data > 1 && c.num_experts > 0;
  if (!r.backend.empty() && r.backend != asked)
    layout.asked_backend = format("{} is {} here", r.backend, asked);
  d.all_reduce = r.tensor > 1 || (r.data > 1 && c.num_experts > 0 && !spread);
  std::string others;
  if (c.num_experts == 0 || r.data == 1) {
    d.all_reduce = r.tensor > 1;
    d.because = r.tensor == 1 || c.num_experts == 0
                    ? format("one rank holds all {} experts", c.num_experts)
                    : "the tensor ranks have the same tokens: each runs its part of the experts, "
                      "and their sums are added";
    others = r.ranks() == 1 ? "parallel: one rank has nothing to exchange"
                            : "parallel: no rank has tokens that another lacks";
  } else if (!spread) {
    d.name = "allgather";
    d.all_reduce = false;  // the reduce-scatter adds
    d.because = "every rank has a slice of every expert, so every rank needs all rows";
    others = "parallel: experts are sliced, so no row can do without a rank";
  } else if (!asked.empty()) {
    d.name = asked;
    d.all_reduce = false;
    d.because = format("--all2all-backend {}", r.backend);
    others = format("flag: --all2all-backend asks for {}", asked);
  } else {
    d.name = "allgather";
    d.all_reduce = false;
    d.because = format(
        "the default of --all2all-backend: {} ranks with {} experts a token need most rows anyway",
        r.ranks(), c.num_experts_per_tok);
    others = "order: after allgather";
  }
  for (const std::string_view name : kNames)
    d.candidates.push_back(
        {name, name == d.name ? std::string()
               : name == "local"
                   ? std::string("parallel: experts of other ranks are needed as well")
                   : others});
}

}  // namespace

std::string range_text(const Range& r) {
  if (r.count == 0) return "none";
  return r.count == 1 ? format("{}", r.first) : format("{}-{}", r.first, r.first + r.count - 1);
}

std::string_view dispatch_of_backend(std::string_view backend) {
  for (const BackendName& b : kBackends)
    if (b.vllm == backend) return b.ours;
  return {};
}

int32_t RankLayout::rank_of(int32_t expert) const {
  if (experts_are_sliced) return -1;
  for (const RankShard& s : shards)
    if (std::ranges::find(s.experts, expert) != s.experts.end()) return s.rank;
  return -1;
}

std::string RankLayout::placement_text() const {
  if (ranks() == 1) return "linear, every expert on rank 0";
  if (experts_are_sliced) return format("a slice of every expert on each of {} ranks", ranks());
  size_t least = shards.front().experts.size(), most = least;
  for (const RankShard& s : shards) {
    least = std::min(least, s.experts.size());
    most = std::max(most, s.experts.size());
  }
  return format("{}, {} experts on each of {} ranks",
                request.placement == Placement::kLinear ? "linear" : "round robin",
                least == most ? format("{}", most) : format("{} or {}", least, most), ranks());
}

Result<RankLayout> place_ranks(const checkpoint::ModelConfig& c, const RankRequest& r) {
  MOESTRO_TRY(check_sizes(c, r));
  RankLayout layout;
  layout.request = r;
  layout.num_experts = c.num_experts;
  layout.kv_heads = c.uses_mla() ? 1 : c.num_kv_heads;
  const int32_t ranks = r.ranks();
  layout.experts_are_sliced = c.num_experts > 0 && ranks > 1 && !r.expert_parallel;
  decide_dispatch(c, r, layout);
  layout.shards.clear();
  for (int32_t rank = 0; rank < ranks; ++rank) {
    RankShard s{.rank = rank,
                .data_rank = rank / r.tensor,
                .tensor_rank = rank % r.tensor,
                .experts = {},
                .expert_channels = {0, c.moe_intermediate_size}};
    const bool whole = layout.experts_are_sliced || ranks == 1;
    const Range mine = whole ? Range{0, c.num_experts} : share_of(c.num_experts, ranks, rank);
    for (int32_t i = 0; i < mine.count; ++i)
      s.experts.push_back(whole || r.placement == Placement::kLinear ? mine.first + i
                                                                     : rank + i * ranks);
    if (layout.experts_are_sliced)
      s.expert_channels = share_of(c.moe_intermediate_size, ranks, rank);
    s.heads = share_of(c.num_heads, r.tensor, s.tensor_rank);
    s.kv_heads = c.uses_mla() ? Range{0, 1} : kv_share_of(c.num_kv_heads, r.tensor, s.tensor_rank);
    s.dense_channels = share_of(c.intermediate_size, r.tensor, s.tensor_rank);
    s.shared_channels = share_of(c.shared_expert_intermediate_size, r.tensor, s.tensor_rank);
    s.vocab = share_of(c.vocab_size, r.tensor, s.tensor_rank);
    layout.shards.push_back(std::move(s));
  }
  return layout;
}

}  // namespace moestro::plan
