// Plans of a golden checkpoint: every place gets a kernel, losers say why, flags are honoured or
// refused, the id follows the content.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/format.h"
#include "model/model_runner.h"
#include "model/spec_fixture.h"

namespace moestro::tests {
namespace {

using testing::HasSubstr;

class PlanTest : public SpecFixture {
 protected:
  void SetUp() override {
    open(checkpoint::open_model_directory(std::string(MOESTRO_SOURCE_DIR) +
                                          "/tests/golden/glm_moe_dsa_shared_index")
             .value(),
         {.max_tokens = 64, .max_logits_rows = 8, .max_context = 256});
  }
  Result<plan::Plan> make(plan::PlanInput input) { return plan::make_plan(*spec_, input); }
};

TEST_F(PlanTest, EveryPlaceHasAKernelAndEveryLoserAReason) {
  const plan::Plan p = make({.isa = platform::detect_isa()}).value();
  std::set<std::string> parts;
  for (const plan::PlanEntry& e : p.entries) {
    parts.insert(e.part);
    for (const plan::BucketPlan& b : e.buckets) {
      int chosen = 0;
      for (const plan::Candidate& c : b.candidates) chosen += c.why_not.empty();
      EXPECT_EQ(chosen, 1) << e.name;
      EXPECT_FALSE(b.kernel.empty()) << e.name;
    }
    EXPECT_NE(e.bucket_of(1), nullptr) << e.name;
  }
  EXPECT_EQ(parts, (std::set<std::string>{"attention", "dense mlp", "experts", "head", "router",
                                          "rows", "shared expert", "dispatch", "sampling"}));
  EXPECT_GT(p.weight_bytes, 0);
  EXPECT_GT(p.scratch_bytes, 0);
  EXPECT_GT(p.activation_bytes, 0);
}

TEST_F(PlanTest, LayersCoverTheModelOnce) {
  const plan::Plan p = make({.isa = platform::detect_isa()}).value();
  std::multiset<int32_t> mlps;
  for (const plan::PlanEntry& e : p.entries)
    if (e.part == "dense mlp" || e.part == "experts") mlps.insert(e.layers.begin(), e.layers.end());
  for (int32_t l = 0; l < config_.num_layers; ++l) EXPECT_EQ(mlps.count(l), 1u) << "layer " << l;
}

TEST_F(PlanTest, WithoutInstructionSetsTheReferenceRuns) {
  const plan::Plan p = make({.isa = platform::kBaseline}).value();
  for (const plan::PlanEntry& e : p.entries) {
    if (e.op == "dispatch") continue;
    EXPECT_THAT(e.kernels_text(), HasSubstr("ref")) << e.name;
    for (const plan::Candidate& c : e.buckets.front().candidates) {
      if (!c.why_not.empty()) {
        EXPECT_THAT(c.why_not, HasSubstr("isa: needs")) << c.kernel;
      }
    }
  }
}

TEST_F(PlanTest, ForcedKernelIsTakenOrRefusedByName) {
  const plan::Plan p =
      make({.isa = platform::detect_isa(), .forced_kernels = {"mla=mla_ref"}}).value();
  for (const plan::PlanEntry& e : p.entries)
    EXPECT_EQ(e.op == "mla" ? e.kernels_text() : "mla_ref", "mla_ref");
  EXPECT_THAT(
      make({.isa = platform::detect_isa(), .forced_kernels = {"mla=nothing"}}).status().message(),
      HasSubstr("--kernel asks for nothing"));
  EXPECT_THAT(
      make({.isa = platform::detect_isa(), .forced_kernels = {"mlaa=mla_ref"}}).status().message(),
      HasSubstr("no op \"mlaa\""));
  EXPECT_THAT(make({.isa = platform::detect_isa(), .forced_kernels = {"mla"}}).status().message(),
              HasSubstr("expected op=name"));
}

TEST(PlanOfGroupedQueries, NamesTheAttentionAndCountsItsCache) {
  const auto runner =
      ModelRunner::open(std::string(MOESTRO_SOURCE_DIR) + "/tests/golden/qwen3_moe_mixed", {});
  ASSERT_TRUE(runner.ok()) << runner.status().message();
  const plan::Plan& p = runner.value()->plan();
  int found = 0;
  for (const plan::PlanEntry& e : p.entries) {
    if (e.op != "gqa") continue;
    ++found;
    EXPECT_EQ(e.name, "GQA, window 24");
    EXPECT_EQ(e.shape, "4 heads, 2 key/value heads of 16");
    EXPECT_EQ(e.layers, (std::vector<int32_t>{0, 1, 2, 3}));
    EXPECT_GE(e.buckets.front().candidates.size(), 2u);
  }
  EXPECT_EQ(found, 1);
  EXPECT_EQ(p.kv_bytes_per_token, 4 * 2 * (2 * 16) * 4);  // layers, key and value, widths, float32
}

TEST_F(PlanTest, IdFollowsTheContent) {
  const std::string a = make({.isa = platform::detect_isa()}).value().id,
                    b = make({.isa = platform::detect_isa()}).value().id;
  const std::string c = make({.isa = platform::kBaseline}).value().id;
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  EXPECT_EQ(a.size(), 16u);
}

TEST_F(PlanTest, PrintsNameEveryKernel) {
  const plan::Plan p = make({.isa = platform::detect_isa()}).value();
  const std::string text = plan::to_text(p), dump = json::dump(plan::to_json(p));
  for (const plan::PlanEntry& e : p.entries) {
    EXPECT_THAT(text, HasSubstr(e.kernels_text()));
    EXPECT_THAT(dump, HasSubstr(e.kernels_text()));
    for (const plan::BucketPlan& b : e.buckets)
      for (const plan::Candidate& c : b.candidates) EXPECT_THAT(text, HasSubstr(c.kernel));
  }
  EXPECT_EQ(plan::layer_ranges({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
}

}  // namespace
}  // namespace moestro::tests
