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
