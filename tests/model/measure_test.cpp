// Measuring kernels of a real (tiny) model: every key gets times in every bucket it can see, within
// the time allowed, and the plan made with them names the fastest.
#include "plan/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/format.h"
#include "model/model_runner.h"
#include "model/spec_fixture.h"
#include "plan/kernel_table.h"

namespace moestro::tests {
namespace {

using testing::HasSubstr;

class MeasureTest : public SpecFixture {
 protected:
  void SetUp() override {
    open(checkpoint::open_model_directory(format("{}/tests/golden/qwen3_moe", MOESTRO_SOURCE_DIR))
             .value(),
         {.max_tokens = 64, .max_logits_rows = 8, .max_context = 256});
  }
  const plan::OpWalk walk_ = [this](models::OpVisitor& visitor) { spec_->visit(visitor); };
};

TEST_F(MeasureTest, EveryKeyIsTimedAndThePlanTakesTheFastest) {
  if (!platform::detect_isa().contains(platform::Isa::kAvx2))
    GTEST_SKIP() << "the reference alone runs here";
  plan::PlanInput input{.isa = platform::detect_isa(), .num_workers = 1};
  platform::Gang gang(1, false);
  plan::KernelTable table;
  const plan::MeasureOptions options{.max_seconds = 3, .with_reference = true};
  const int keys = plan::count_unmeasured(walk_, input, table, options);
  EXPECT_GE(keys, 4);  // attention in and out, router, experts, head
  const plan::MeasureReport report = plan::measure(walk_, input, gang, table, options).value();
  EXPECT_EQ(report.measured, keys);
  EXPECT_EQ(report.left, 0);
  EXPECT_LT(report.seconds, 10);
  EXPECT_EQ(plan::count_unmeasured(walk_, input, table, options), 0);
  for (const auto& [key, times] : table.all()) {
    EXPECT_GE(times.kernels.size(), 2u) << key;
    for (const plan::KernelTime& t : times.kernels) {
      EXPECT_GT(t.us[0], 0) << key << " " << t.kernel;
      EXPECT_EQ(t.us[3], 0) << key << " " << t.kernel << ": never more than 64 tokens";
    }
  }
  input.table = &table;
  const plan::Plan p = plan::make_plan(*spec_, input).value();
  int measured = 0;
  for (const plan::PlanEntry& e : p.entries)
    for (const plan::BucketPlan& b : e.buckets)
      for (const plan::Candidate& c : b.candidates) {
        if (c.us <= 0 || c.why_not.empty()) continue;
        ++measured;
        EXPECT_THAT(std::string(c.reason_class()), testing::AnyOf("slower", "rounding", "order"));
      }
  EXPECT_GE(measured, keys);
}

TEST_F(MeasureTest, WhatIsForcedOrUnrivalledIsNotMeasured) {
  const plan::KernelTable none;
  EXPECT_EQ(plan::count_unmeasured(walk_, {.isa = platform::kBaseline}, none), 0);
  const plan::MeasureOptions options{.with_reference = true};
  const plan::PlanInput forced{
      .isa = platform::detect_isa(),
      .forced_kernels = {"expert_mlp=expert_mlp_bf16_ref", "linear=linear_bf16_ref"}};
  EXPECT_EQ(plan::count_unmeasured(walk_, forced, none, options), 0);
}

TEST_F(MeasureTest, ATableThatFavoursAnotherKernelChangesThePlan) {
  const plan::PlanInput order{.isa = platform::detect_isa()};
  const plan::Plan before = plan::make_plan(*spec_, order).value();
  const plan::PlanEntry* experts = nullptr;
  for (const plan::PlanEntry& e : before.entries)
    if (e.part == "experts") experts = &e;
  ASSERT_NE(experts, nullptr);
  std::vector<std::string> able;
  for (const plan::Candidate& c : experts->buckets.front().candidates)
    if (c.why_not.empty() || c.reason_class() == "order") able.push_back(c.kernel);
  if (able.size() < 2) GTEST_SKIP() << "one kernel can run here";
  // The second is said to be faster for few tokens, the first for many.
  plan::KernelTable table;
  table.set(format("expert_mlp {} experts {} top {} hidden {} intermediate {} workers 1",
                   experts->layout, config_.num_experts, config_.num_experts_per_tok,
                   config_.hidden_size, config_.moe_intermediate_size),
            {{{able[0], {10, 10, 10, 10}, 0}, {able[1], {5, 20, 20, 20}, 0}}});
  plan::PlanInput input = order;
  input.table = &table;
  const plan::Plan after = plan::make_plan(*spec_, input).value();
  EXPECT_NE(after.id, before.id);
  for (const plan::PlanEntry& e : after.entries) {
    if (e.part != "experts") continue;
    ASSERT_EQ(e.buckets.size(), 2u);
    EXPECT_EQ(e.buckets[0].kernel, able[1]);
    EXPECT_EQ(e.buckets[0].last, 4);
    EXPECT_EQ(e.buckets[1].kernel, able[0]);
    EXPECT_THAT(plan::to_text(after), HasSubstr("slower: by 2.00 x"));
  }
}

}  // namespace
}  // namespace moestro::tests
