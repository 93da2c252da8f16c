// Router modes against values worked out by hand from the published formulas, and a plain sort.
#include "moe/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace moestro::moe {
namespace {

using checkpoint::ScoringFunc;
using checkpoint::TopkMethod;

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Routed route(const RouterSpec& spec, const std::vector<float>& logits,
             const std::vector<float>& bias = {}) {
  Routed r{std::vector<int32_t>(static_cast<size_t>(spec.top_k), -1),
           std::vector<float>(static_cast<size_t>(spec.top_k))};
  route_token(spec, logits.data(), bias.empty() ? nullptr : bias.data(), r.ids.data(),
              r.weights.data());
  return r;
}

TEST(Router, SigmoidBiasChoosesButDoesNotWeigh) {
  const RouterSpec spec{.num_experts = 4,
                        .top_k = 2,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc,
                        .renormalize = true,
                        .scaling = 2.5f};
  const Routed r = route(spec, {0.0f, 1.0f, 2.0f, -1.0f}, {0.0f, 0.0f, -10.0f, 0.5f});
  EXPECT_EQ(r.ids, (std::vector<int32_t>{3, 1}));  // 0.269 + 0.5, 0.731; expert 2 is biased away
  const float a = 1 / (1 + std::exp(1.0f)), b = 1 / (1 + std::exp(-1.0f));
  EXPECT_NEAR(r.weights[0], 2.5f * a / (a + b), 1e-6);
  EXPECT_NEAR(r.weights[1], 2.5f * b / (a + b), 1e-6);
}

TEST(Router, GroupsByTwoBestExcludeTheLoneStar) {
  // Group 0 has the single best expert, group 1 the better pair.
  const RouterSpec spec{.num_experts = 8,
                        .top_k = 2,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc,
                        .n_group = 2,
                        .topk_group = 1};
  const Routed r = route(spec, {3.0f, -5.0f, -5.0f, -5.0f, 2.0f, 2.5f, -5.0f, -5.0f});
  EXPECT_EQ(r.ids, (std::vector<int32_t>{5, 4}));
}

TEST(Router, GroupLimitedGreedyRanksGroupsByTheirBest) {
  const RouterSpec spec{.num_experts = 8,
                        .top_k = 2,
                        .method = TopkMethod::kGroupLimitedGreedy,
                        .n_group = 2,
                        .topk_group = 1,
                        .scaling = 16};
  const Routed r = route(spec, {3.0f, -5.0f, -5.0f, -4.0f, 2.0f, 2.5f, -5.0f, -5.0f});
  EXPECT_EQ(r.ids, (std::vector<int32_t>{0, 3}));
}

TEST(Router, SoftmaxWithAndWithoutRenormalisation) {
  RouterSpec spec{.num_experts = 3, .top_k = 2};
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  Routed r = route(spec, logits);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{2, 1}));
  EXPECT_NEAR(r.weights[0], 0.625f, 1e-6);
  EXPECT_NEAR(r.weights[1], 0.25f, 1e-6);
  spec.renormalize = true;
  r = route(spec, logits);
  EXPECT_NEAR(r.weights[0], 5.0f / 7, 1e-6);
  spec.renormalize = false;
  spec.softmax_after_topk = true;
  r = route(spec, logits);
  EXPECT_NEAR(r.weights[0], 5.0f / 7, 1e-6);
}

TEST(Router, TiesGoToTheLowerIndexAndNanIsNeverPreferred) {
  const RouterSpec spec{.num_experts = 4,
                        .top_k = 2,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc};
  EXPECT_EQ(route(spec, {1, 1, 1, 1}).ids, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(route(spec, {std::numeric_limits<float>::quiet_NaN(), 0, -1, 2}).ids,
            (std::vector<int32_t>{3, 1}));
}

TEST(Router, AllNanStillNamesDistinctExperts) {
  const RouterSpec spec{.num_experts = 4,
                        .top_k = 3,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc,
                        .n_group = 2,
                        .topk_group = 1};
  std::vector<int32_t> ids =
      route(spec, std::vector<float>(4, std::numeric_limits<float>::quiet_NaN())).ids;
  std::sort(ids.begin(), ids.end());
  EXPECT_TRUE(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
  EXPECT_GE(ids.front(), 0);
  EXPECT_LT(ids.back(), 4);
}

TEST(Router, GroupLimitedWeightsAreSoftmaxOverAllTimesTheScale) {
  const RouterSpec spec{.num_experts = 4,
                        .top_k = 2,
                        .method = TopkMethod::kGroupLimitedGreedy,
                        .n_group = 2,
                        .topk_group = 1,
                        .scaling = 16};
  const Routed r = route(spec, {std::log(1.0f), std::log(4.0f), std::log(3.0f), std::log(2.0f)});
  EXPECT_EQ(r.ids, (std::vector<int32_t>{1, 0}));  // 3 and 2 are in the other group
  EXPECT_NEAR(r.weights[0], 16 * 0.4f, 1e-5);
  EXPECT_NEAR(r.weights[1], 16 * 0.1f, 1e-5);
}

// Excluded groups count as minus infinity, not as zero: a negative biased score within the kept
// group is still better.
TEST(Router, NegativeBiasedScoresOfKeptGroupsBeatExcludedOnes) {
  const RouterSpec spec{.num_experts = 6,
                        .top_k = 3,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc,
                        .n_group = 2,
                        .topk_group = 1};
  const Routed r = route(spec, {1, 0, -1, 3, 3, 3}, {-1.0f, -1.2f, -1.4f, -3, -3, -3});
  EXPECT_EQ(r.ids, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_NEAR(r.weights[2], 1 / (1 + std::exp(1.0f)), 1e-6);  // without the bias
}

TEST(Router, EqualGroupsGoToTheLowerIndex) {
  const RouterSpec spec{.num_experts = 6,
                        .top_k = 2,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc,
                        .n_group = 3,
                        .topk_group = 1};
  EXPECT_EQ(route(spec, {0, 1, 1, 0, 1, 0}).ids, (std::vector<int32_t>{1, 0}));
}

// minimax_m2: bias without groups, always over the sum, no scaling; every expert chosen.
TEST(Router, AllExpertsOfAnOddCount) {
  const RouterSpec spec{.num_experts = 5,
                        .top_k = 5,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc,
                        .renormalize = true};
  const std::vector<float> logits = {0.5f, -2, 3, 0.5f, 1};
  const Routed r = route(spec, logits, {0, 5, 0, 0, 0});
  EXPECT_EQ(r.ids, (std::vector<int32_t>{1, 2, 4, 0, 3}));
  float sum = 0;
  for (const float v : logits) sum += 1 / (1 + std::exp(-v));
  for (size_t j = 0; j < 5; ++j)
    EXPECT_NEAR(r.weights[j], 1 / (1 + std::exp(-logits[static_cast<size_t>(r.ids[j])])) / sum,
                1e-6);
}

// gpt_oss: the choice is by logits, the weights are a softmax over the chosen ones alone, however
// large they are.
TEST(Router, SoftmaxOfTheChosenOnlyIsStable) {
  const RouterSpec spec{.num_experts = 4, .top_k = 2, .softmax_after_topk = true};
  const Routed r = route(spec, {500, -500, 500 + std::log(3.0f), 0});
  EXPECT_EQ(r.ids, (std::vector<int32_t>{2, 0}));
  EXPECT_NEAR(r.weights[0], 0.75f, 1e-4);
  EXPECT_NEAR(r.weights[1], 0.25f, 1e-4);
}

TEST(Router, EveryModeOfTheFamiliesBreaksTiesTheSameWay) {
  for (const RouterSpec& spec : {
           RouterSpec{.num_experts = 33,
          .top_k = 8,
          .scoring = ScoringFunc::kSigmoid,
          .method = TopkMethod::kNoauxTc,
          .renormalize = true,
          .scaling = 2.5f},
           RouterSpec{.num_experts = 33, .top_k = 8},
           RouterSpec{.num_experts = 33, .top_k = 8, .renormalize = true},
           RouterSpec{.num_experts = 33, .top_k = 8, .softmax_after_topk = true},
       }) {
    std::vector<float> logits(33);
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 3);
    const Routed r = route(spec, logits);
    EXPECT_EQ(r.ids, (std::vector<int32_t>{2, 5, 8, 11, 14, 17, 20, 23}));
    for (const float w : r.weights) EXPECT_EQ(w, r.weights[0]);
  }
}

TEST(Router, AgreesWithASort) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const RouterSpec spec{.num_experts = 256,
                        .top_k = 8,
                        .scoring = ScoringFunc::kSigmoid,
                        .method = TopkMethod::kNoauxTc,
                        .renormalize = true};
  for (int round = 0; round < 200; ++round) {
    std::vector<float> logits(256), bias(256);
    for (float& v : logits) v = normal(random);
    for (float& v : bias) v = normal(random) * 0.1f;
    std::vector<int32_t> order(256);
    std::iota(order.begin(), order.end(), 0);
    const auto score = [&](int32_t i) {
      return 1.0f / (1.0f + std::exp(-logits[static_cast<size_t>(i)])) +
             bias[static_cast<size_t>(i)];
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return score(a) > score(b); });
    const Routed r = route(spec, logits, bias);
    EXPECT_EQ(r.ids, std::vector<int32_t>(order.begin(), order.begin() + 8));
    EXPECT_NEAR(std::accumulate(r.weights.begin(), r.weights.end(), 0.0f), 1.0f, 1e-5);
  }
}

}  // namespace
}  // namespace moestro::moe
