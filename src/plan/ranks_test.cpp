// Ranks: every expert, head and channel has its place once; sizes that do not fit say what does.
#include "plan/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/format.h"

namespace moestro::plan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// GLM-5's sizes.
checkpoint::ModelConfig glm() {
  checkpoint::ModelConfig c;
  c.vocab_size = 154880;
  c.num_layers = 78;
  c.num_heads = 64;
  c.kv_lora_rank = 512;
  c.intermediate_size = 12288;
  c.num_experts = 256;
  c.num_experts_per_tok = 8;
  c.moe_intermediate_size = 2048;
  c.num_shared_experts = 1;
  c.shared_expert_intermediate_size = 2048;
  c.moe_layer.assign(78, true);
  for (size_t l = 0; l < 3; ++l) c.moe_layer[l] = false;
  return c;
}
// Grouped queries: 32 heads, 4 of keys and values, 128 experts.
checkpoint::ModelConfig qwen() {
  checkpoint::ModelConfig c = glm();
  c.kv_lora_rank = 0;
  c.num_heads = 32;
  c.num_kv_heads = 4;
  c.num_experts = 128;
  c.moe_intermediate_size = 768;
  c.num_shared_experts = 0;
  c.moe_layer.assign(78, true);
  return c;
}
std::string error_of(const checkpoint::ModelConfig& c, const RankRequest& r) {
  const auto layout = place_ranks(c, r);
  return layout.ok() ? "" : std::string(layout.status().message());
}

TEST(Ranks, OneRankHoldsEverything) {
  const RankLayout l = place_ranks(glm(), {}).value();
  ASSERT_EQ(l.ranks(), 1);
  EXPECT_EQ(l.shards[0].experts.size(), 256u);
  EXPECT_EQ(l.shards[0].heads, (Range{0, 64}));
  EXPECT_EQ(l.dispatch.name, "local");
  EXPECT_FALSE(l.dispatch.all_reduce);
  EXPECT_EQ(l.rank_of(255), 0);
  EXPECT_EQ(l.placement_text(), "linear, every expert on rank 0");
}

TEST(Ranks, ExpertsAreSpreadOverTensorAndData) {
  const RankLayout l =
      place_ranks(glm(), {.tensor = 2, .data = 4, .expert_parallel = true}).value();
  ASSERT_EQ(l.ranks(), 8);
  for (int32_t e = 0; e < 256; ++e) EXPECT_EQ(l.rank_of(e), e / 32);
  const RankShard& s = l.shards[5];
  EXPECT_EQ(s.data_rank, 2);
  EXPECT_EQ(s.tensor_rank, 1);
  EXPECT_EQ(s.heads, (Range{32, 32}));
  EXPECT_EQ(s.expert_channels, (Range{0, 2048}));
  EXPECT_EQ(s.shared_channels, (Range{1024, 1024}));
  EXPECT_EQ(s.vocab, (Range{77440, 77440}));
  EXPECT_EQ(l.dispatch.name, "allgather");
}

TEST(Ranks, RoundRobinAndUnevenCounts) {
  checkpoint::ModelConfig c = qwen();
  c.num_experts = 10;
  const RankLayout linear = place_ranks(c, {.data = 4, .expert_parallel = true}).value();
  EXPECT_THAT(linear.shards[0].experts, ElementsAre(0, 1, 2));
  EXPECT_THAT(linear.shards[3].experts, ElementsAre(8, 9));
  EXPECT_EQ(linear.placement_text(), "linear, 2 or 3 experts on each of 4 ranks");
  const RankLayout robin =
      place_ranks(c, {.data = 4, .expert_parallel = true, .placement = Placement::kRoundRobin})
          .value();
  EXPECT_THAT(robin.shards[1].experts, ElementsAre(1, 5, 9));
  EXPECT_THAT(robin.shards[3].experts, ElementsAre(3, 7));
  for (const RankLayout* l : {&linear, &robin}) {
    std::multiset<int32_t> all;
    for (const RankShard& s : l->shards) all.insert(s.experts.begin(), s.experts.end());
    for (int32_t e = 0; e < 10; ++e) EXPECT_EQ(all.count(e), 1u);
  }
}

TEST(Ranks, WithoutExpertParallelismExpertsAreSliced) {
  const RankLayout tensor = place_ranks(glm(), {.tensor = 4}).value();
  EXPECT_TRUE(tensor.experts_are_sliced);
  EXPECT_EQ(tensor.shards[3].expert_channels, (Range{1536, 512}));
  EXPECT_EQ(tensor.shards[3].experts.size(), 256u);
  EXPECT_EQ(tensor.rank_of(7), -1);
  EXPECT_EQ(tensor.dispatch.name, "local");
  EXPECT_TRUE(tensor.dispatch.all_reduce);
  const RankLayout both = place_ranks(glm(), {.tensor = 2, .data = 2}).value();
  EXPECT_EQ(both.shards[3].expert_channels, (Range{1536, 512}));
  EXPECT_EQ(both.dispatch.name, "allgather");
}

TEST(Ranks, FewKeyValueHeadsAreShared) {
  const RankLayout l = place_ranks(qwen(), {.tensor = 8}).value();
  for (const RankShard& s : l.shards) {
    EXPECT_EQ(s.kv_heads, (Range{s.tensor_rank / 2, 1}));
    EXPECT_EQ(s.heads, (Range{4 * s.tensor_rank, 4}));
    // The query heads of a rank belong to its key/value head.
    EXPECT_EQ(s.heads.first / 8, s.kv_heads.first);
  }
  EXPECT_EQ(place_ranks(qwen(), {.tensor = 2}).value().shards[1].kv_heads, (Range{2, 2}));
}

TEST(Ranks, BackendsByVllmsNames) {
  EXPECT_EQ(dispatch_of_backend("pplx"), "allgather");
  EXPECT_EQ(dispatch_of_backend("deepep_high_throughput"), "alltoall");
  EXPECT_EQ(dispatch_of_backend("deepep_low_latency"), "alltoall_batched");
  EXPECT_EQ(dispatch_of_backend("telepathy"), "");
  const RankLayout l =
      place_ranks(glm(), {.data = 8, .expert_parallel = true, .backend = "nixl_ep"}).value();
  EXPECT_EQ(l.dispatch.name, "alltoall_batched");
  EXPECT_EQ(l.asked_backend, "nixl_ep is alltoall_batched here");
  ASSERT_EQ(l.dispatch.candidates.size(), 4u);
  for (const DispatchCandidate& c : l.dispatch.candidates)
    EXPECT_EQ(c.why_not.empty(), c.name == "alltoall_batched") << c.name;
  // A backend has nothing to do where no token leaves its rank.
  EXPECT_EQ(place_ranks(glm(), {.tensor = 2, .expert_parallel = true, .backend = "nixl_ep"})
                .value()
                .dispatch.name,
            "local");
}

TEST(Ranks, SizesThatDoNotFitSayWhatDoes) {
  EXPECT_THAT(error_of(glm(), {.tensor = 3}),
              HasSubstr("--tensor-parallel-size 3: 64 attention heads do not divide by it; sizes "
                        "that do are 1, 2, 4, 8, 16, 32, 64"));
  checkpoint::ModelConfig c = qwen();
  c.num_heads = 24;
  c.num_kv_heads = 4;
  EXPECT_THAT(error_of(c, {.tensor = 6}), HasSubstr("4 key/value heads"));
  EXPECT_THAT(error_of(qwen(), {.data = 5}), HasSubstr("--enable-expert-parallel keeps"));
  EXPECT_EQ(error_of(qwen(), {.data = 5, .expert_parallel = true}), "");
  EXPECT_THAT(error_of(qwen(), {.data = 129, .expert_parallel = true}), HasSubstr("128 experts"));
  EXPECT_THAT(error_of(qwen(), {.tensor = 32, .data = 64}), HasSubstr("2048 ranks"));
  c = qwen();
  c.num_experts = 0;
  c.moe_layer.assign(78, false);
  EXPECT_THAT(error_of(c, {.data = 2, .expert_parallel = true}), HasSubstr("no experts"));
  EXPECT_EQ(error_of(c, {.data = 2}), "");
}

}  // namespace
}  // namespace moestro::plan
