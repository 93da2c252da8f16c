// Proof that what runs is what the plan says: counts of real steps agree with it, and a kernel that
// the plan does not name is found, whichever way it got there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/format.h"
#include "model/model_runner.h"
#include "plan/executed.h"

namespace moestro::tests {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string golden(std::string_view name) {
  return format("{}/tests/golden/{}", MOESTRO_SOURCE_DIR, name);
}

std::vector<int32_t> prompt(int32_t tokens) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < tokens; ++i) ids.push_back(3 + i % 50);
  return ids;
}

// Puts another kernel where the plan put its own, in one op kind.
class Tamper final : public models::OpVisitor {
 public:
  Tamper(int32_t layer, int bucket) : layer_(layer), bucket_(bucket) {}
  void visit(const models::OpSite& site, kernels::LinearChoice& op) override {
    swap(site, op, kernels::linear_kernels(op.shape.format));
  }
  void visit(const models::OpSite& site, kernels::ExpertMlpChoice& op) override {
    swap(site, op, kernels::expert_mlp_kernels(op.shape.format));
  }
  void visit(const models::OpSite&, kernels::HeadLinearChoice&) override {}
  void visit(const models::OpSite&, kernels::GqaChoice&) override {}
  void visit(const models::OpSite&, kernels::MlaChoice&) override {}
  void visit(const models::OpSite&, kernels::SparseIndexChoice&) override {}
  void visit(const models::OpSite&, kernels::RowOpsChoice&) override {}
  void visit(const models::OpSite&, moe::DispatchChoice&) override {}

  int changed = 0;

 private:
  template <class Op, class List>
  void swap(const models::OpSite& site, Op& op, List list) {
    if (site.part != "experts" || site.layer != layer_) return;
    auto& kernel = op.kernels[static_cast<size_t>(bucket_)];
    if (kernel == &list.back()) return;  // the reference already
    kernel = &list.back();
    ++changed;
  }
  int32_t layer_;
  int bucket_;
};

TEST(Executed, CountsEveryStepOfEveryLayerInItsBucket) {
  const auto runner = ModelRunner::open(golden("glm_moe_dsa_shared_index"), {}).value();
  EXPECT_THAT(plan::executions(runner->plan()), IsEmpty());
  runner->logits({prompt(40)});  // one step of 40 tokens
  runner->greedy(prompt(3), 3);  // one of 3, two of 1
  const plan::Plan& p = runner->plan();
  EXPECT_THAT(plan::mismatches(p), IsEmpty());
  std::vector<uint64_t> runs(p.entries.size()), rows(p.entries.size());
  for (const plan::Execution& x : plan::executions(p)) {
    const plan::PlanEntry& e = p.entries[x.entry];
    ASSERT_NE(e.bucket_of(x.first), nullptr);
    EXPECT_EQ(e.bucket_of(x.first)->kernel, x.kernel) << e.name;
    const uint64_t layers = std::max<uint64_t>(e.layers.size(), 1);
    EXPECT_TRUE(x.first == 1 || x.first == 33) << e.name << " " << x.first;
    EXPECT_EQ(x.runs, layers * (x.first == 1 ? 3 : 1)) << e.name;
    EXPECT_EQ(x.rows, layers * (x.first == 1 ? 5 : 40)) << e.name;
    runs[x.entry] += x.runs;
  }
  for (size_t i = 0; i < p.entries.size(); ++i) {
    if (p.entries[i].part == "sampling") continue;  // of the engine
    EXPECT_EQ(runs[i], std::max<uint64_t>(p.entries[i].layers.size(), 1) * 4) << p.entries[i].name;
  }
}

TEST(Executed, AWrongKernelIsNamedWithItsPlaceAndTokens) {
  for (const int bucket : {0, 2}) {
    Tamper tamper(2, bucket);
    const auto runner =
        ModelRunner::open(golden("qwen3_moe"),
                          {.after_plan = [&](models::ModelSpec& spec) { spec.visit(tamper); },
                           .expect_plan_executed = false})
            .value();
    if (tamper.changed == 0) GTEST_SKIP() << "this processor runs the reference anyway";
    runner->logits({prompt(bucket == 0 ? 40 : 3)});  // the other bucket: nothing to find yet
    EXPECT_THAT(plan::mismatches(runner->plan()), IsEmpty());
    runner->logits({prompt(bucket == 0 ? 3 : 40)});
    EXPECT_THAT(
        plan::mismatches(runner->plan()),
        ElementsAre(AllOf(HasSubstr("experts"), HasSubstr("layer 2"), HasSubstr("_ref ran 1 times"),
                          HasSubstr(bucket == 0 ? "at 1-4 tokens" : "at 33-256 tokens"))));
    const json::object o = plan::to_json_with_counts(runner->plan());
    EXPECT_EQ(o.at("mismatches").as_array().size(), 1u);
  }
}

TEST(Executed, ASkippedLayerIsNamed) {
  // A plan of the same model whose counters never move, but for one layer.
  const auto runner = ModelRunner::open(golden("qwen3_moe"), {}).value();
  runner->logits({prompt(2)});
  runner->logits({prompt(2)});
  plan::Plan tampered = runner->plan();
  for (plan::PlaceCounts& place : tampered.counts)
    if (place.layer == 1 && tampered.entries[place.entry].part == "experts")
      place.counts = std::make_shared<kernels::OpCounts>();
  EXPECT_THAT(
      plan::mismatches(tampered),
      ElementsAre(AllOf(HasSubstr("experts"), HasSubstr("ran 2 times, but 0 times in layer 1"))));
}

TEST(Executed, MetricsShowTheCounts) {
  const auto runner = ModelRunner::open(golden("qwen3_moe"), {}).value();
  MetricsRegistry metrics;
  plan::publish_counts(runner->plan(), metrics);
  EXPECT_THAT(metrics.expose(), HasSubstr("moestro_plan_mismatches 0"));
  runner->logits({prompt(40)});
  const std::string text = metrics.expose();
  std::string experts;
  for (const plan::PlanEntry& e : runner->plan().entries)
    if (e.part == "experts")
      experts = format(
          "moestro_kernel_rows_total{{op=\"expert_mlp\",part=\"experts\",place=\"{}\","
          "tokens=\"33-256\",kernel=\"{}\"}} {}.0\n",
          e.name, e.kernels_text(), 40 * e.layers.size());
  EXPECT_THAT(text, HasSubstr(experts));
  EXPECT_EQ(text, metrics.expose());  // collecting twice adds nothing
}

TEST(Executed, AThirdKernelOfABucketIsStillSeen) {
  kernels::OpCounts counts;
  for (const char* name : {"a", "b", "c"}) counts.add(name, 2);
  EXPECT_EQ(counts.others(), 1u);
}

}  // namespace
}  // namespace moestro::tests
