// Sampling: the random function against published vectors, drawn frequencies against exact
// distributions computed here in the plainest way, penalties by hand, log-probabilities and ranks.
#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "engine/philox.h"

namespace moestro::engine {
namespace {

using testing::ElementsAre;
constexpr float kInf = std::numeric_limits<float>::infinity();

SamplingState state_of(const SamplingParams& params, std::vector<int32_t> prompt, int32_t vocab,
                       std::vector<int32_t> eos = {}, uint64_t seed = 1) {
  return SamplingState(params, prompt, eos, seed, vocab);
}

// Runs tasks on a gang; results refer to the sampler's memory.
struct Runner {
  Runner(int32_t vocab, int32_t rows, int32_t sampleable = 0, int workers = 1)
      : gang(workers, false),
        sampler(Sampler::create(vocab, sampleable, rows, workers, best_row_ops()).value()) {}
  std::vector<SampleResult> operator()(const std::vector<SampleTask>& tasks) {
    std::vector<SampleResult> results(tasks.size());
    gang.run([&](platform::Worker& w) { sampler.run(tasks, results.data(), w); });
    return results;
  }
  platform::Gang gang;
  Sampler sampler;
};

SampleTask draw_task(const std::vector<float>& logits, const SamplingState& state, int32_t idx = 0,
                     int32_t logprobs = -1) {
  SampleTask task;
  task.logits = logits.data();
  task.sampling = &state;
  task.output_idx = idx;
  task.num_logprobs = logprobs;
  return task;
}

std::vector<float> bumpy_logits(int32_t n, uint64_t seed, double spread = 2.5) {
  std::vector<float> logits;
  for (int32_t i = 0; i < n; ++i) {
    const double u = std::max(1e-9, uniform(seed, static_cast<uint64_t>(2 * i)));
    const double v = uniform(seed, static_cast<uint64_t>(2 * i + 1));
    logits.push_back(
        static_cast<float>(spread * std::sqrt(-2 * std::log(u)) * std::cos(6.2831853 * v)));
  }
  return logits;
}

// The distribution that the parameters mean, written down as directly as possible.
std::vector<double> exact_distribution(const std::vector<float>& logits, const SamplingParams& p) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  std::vector<double> weights;
  const double max = logits[static_cast<size_t>(order[0])];
  for (const int32_t id : order)
    weights.push_back(std::exp((logits[static_cast<size_t>(id)] - max) / p.temperature));
  size_t kept = 0;
  while (kept < weights.size() && weights[kept] >= p.min_p) ++kept;
  if (p.top_k > 0) kept = std::min(kept, static_cast<size_t>(p.top_k));
  const double total =
      std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  if (p.top_p < 1) {
    double sum = 0;
    size_t n = 0;
    while (n < kept && sum < p.top_p * total) sum += weights[n++];
    kept = n;
  }
  const double mass =
      std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  std::vector<double> probabilities(logits.size());
  for (size_t i = 0; i < kept; ++i)
    probabilities[static_cast<size_t>(order[i])] = weights[i] / mass;
  return probabilities;
}

TEST(Philox, PublishedVectors) {
  EXPECT_THAT(philox({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

class Distribution : public testing::TestWithParam<SamplingParams> {};

TEST_P(Distribution, DrawnFrequenciesAreExact) {
  constexpr int32_t kVocab = 1100, kDraws = 8000,
                    kRows = 500;  // more than one block of a plain draw
  SamplingParams params = GetParam();
  params.seed = 20240607;
  const std::vector<float> logits = bumpy_logits(kVocab, 5);
  const std::vector<double> exact = exact_distribution(logits, params);
  const SamplingState state = state_of(params, {1}, kVocab);
  Runner run(kVocab, kRows);
  std::vector<int> counts(kVocab);
  for (int32_t first = 0; first < kDraws; first += kRows) {
    std::vector<SampleTask> tasks;
    for (int32_t i = 0; i < kRows; ++i) tasks.push_back(draw_task(logits, state, first + i));
    for (const SampleResult& r : run(tasks)) ++counts[static_cast<size_t>(r.token)];
  }
  // Chi-square; tokens expected fewer than 5 times are one class together.
  double chi2 = 0, rare_expected = 0, rare_seen = 0;
  int classes = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double expected = exact[i] * kDraws;
    if (exact[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " is filtered out";
    }
    if (expected < 5) {
      rare_expected += expected;
      rare_seen += counts[i];
    } else {
      chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
      ++classes;
    }
  }
  if (rare_expected >= 5) {
    chi2 += (rare_seen - rare_expected) * (rare_seen - rare_expected) / rare_expected;
    ++classes;
  }
  const double freedom = std::max(1, classes - 1);
  EXPECT_LT(chi2, freedom + 4 * std::sqrt(2 * freedom)) << classes << " classes";
}

SamplingParams filters(double temperature, int32_t top_k, double top_p, double min_p) {
  SamplingParams p;
  p.temperature = temperature;
  p.top_k = top_k;
  p.top_p = top_p;
  p.min_p = min_p;
  return p;
}
INSTANTIATE_TEST_SUITE_P(Filters, Distribution,
                         testing::Values(filters(1, 0, 1, 0), filters(0.6, 0, 1, 0),
                                         filters(3, 0, 1, 0), filters(1, 8, 1, 0),
                                         filters(0.7, 40, 1, 0), filters(1, 0, 0.9, 0),
                                         filters(2.5, 0, 0.99, 0), filters(30, 0, 0.5, 0),
                                         filters(1, 0, 1, 0.05), filters(1.3, 20, 0.8, 0.02),
                                         filters(1, 3, 0.95, 0.3), filters(1, 2000, 1, 0),
                                         filters(1, 0, 1e-9, 0), filters(1, 0, 1, 1)));

TEST(Sampler, SameSeedSameTokensWhateverTheCompany) {
  constexpr int32_t kVocab = 300;
  SamplingParams params = filters(1, 0, 0.95, 0);
  params.seed = 11;
  const SamplingState state = state_of(params, {1}, kVocab);
  const std::vector<float> mine = bumpy_logits(kVocab, 1), other = bumpy_logits(kVocab, 2);
  const SamplingState others = state_of(filters(1, 5, 1, 0), {1}, kVocab, {}, 77);
  std::vector<int32_t> alone, in_company;
  Runner one(kVocab, 1), many(kVocab, 9, 0, 3);
  for (int32_t i = 0; i < 50; ++i) {
    alone.push_back(one({draw_task(mine, state, i)})[0].token);
    std::vector<SampleTask> tasks(9, draw_task(other, others, i));
    tasks[static_cast<size_t>(i % 9)] = draw_task(mine, state, i);
    in_company.push_back(many(tasks)[static_cast<size_t>(i % 9)].token);
  }
  EXPECT_EQ(alone, in_company);
  params.seed = 12;
  const SamplingState reseeded = state_of(params, {1}, kVocab);
  std::vector<int32_t> different;
  for (int32_t i = 0; i < 50; ++i)
    different.push_back(one({draw_task(mine, reseeded, i)})[0].token);
  EXPECT_NE(alone, different);
}

TEST(Sampler, GreedyTakesTheLowestIdAmongEquals) {
  Runner run(6, 2);
  const SamplingState state = state_of(filters(0, 0, 1, 0), {1}, 6);
  const std::vector<float> logits{1, 3, -1, 3, 2, 3};
  EXPECT_EQ(run({draw_task(logits, state)})[0].token, 1);
}

TEST(Sampler, PaddingIdsAreNeverSampledNorListed) {
  Runner run(8, 1, 5);
  const std::vector<float> logits{0, 1, 2, 3, 4, 9, 9, 9};
  const SamplingState greedy = state_of(filters(0, 0, 1, 0), {1}, 8);
  const SampleResult r = run({draw_task(logits, greedy, 0, 8)})[0];
  EXPECT_EQ(r.token, 4);
  ASSERT_EQ(r.logprobs.size(), 6u);  // the token and all 5 sampleable ids
  EXPECT_EQ(r.logprobs[0].rank, 1);
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - 9);
  EXPECT_NEAR(r.logprobs[0].logprob, 4 - 9 - std::log(sum), 1e-5);  // of the whole row
  const SamplingState random = state_of(filters(5, 0, 1, 0), {1}, 8);
  for (int32_t i = 0; i < 200; ++i) EXPECT_LT(run({draw_task(logits, random, i)})[0].token, 5);
}

TEST(Sampler, LogprobsAreOfTheRawDistributionWithRanks) {
  const std::vector<float> logits = bumpy_logits(700, 9);
  SamplingParams params = filters(0, 0, 1, 0);
  params.logit_bias = {{123, 100.0f}};  // forces a token that the raw distribution does not favour
  const SamplingState state = state_of(params, {1}, 700);
  Runner run(700, 1);
  const SampleResult r = run({draw_task(logits, state, 0, 20)})[0];
  EXPECT_EQ(r.token, 123);
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  std::vector<int32_t> order(700);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  ASSERT_EQ(r.logprobs.size(), 21u);
  for (size_t i = 0; i < r.logprobs.size(); ++i) {
    const TokenLogprob& entry = r.logprobs[i];
    if (i > 0) {
      EXPECT_EQ(entry.id, order[i - 1]);
    }
    EXPECT_EQ(order[static_cast<size_t>(entry.rank) - 1], entry.id);
    EXPECT_NEAR(entry.logprob, logits[static_cast<size_t>(entry.id)] - std::log(sum), 2e-5);
  }
}

TEST(Sampler, RanksOfEqualsFollowTheirIds) {
  const std::vector<float> logits{1, 5, 5, 0, 5};
  Runner run(5, 1);
  SampleTask task;
  task.logits = logits.data();
  task.given_token = 4;
  task.num_logprobs = 2;
  const SampleResult r = run({task})[0];
  ASSERT_EQ(r.logprobs.size(), 3u);
  EXPECT_EQ(r.logprobs[0].rank, 3);
  EXPECT_EQ(r.logprobs[1].id, 1);
  EXPECT_EQ(r.logprobs[2].id, 2);
}

TEST(Sampler, BadLogitsAreFound) {
  const SamplingState greedy = state_of(filters(0, 0, 1, 0), {1}, 70);
  const SamplingState random = state_of(filters(1, 5, 0.9, 0), {1}, 70);
  Runner run(70, 1);
  for (const float bad : {std::nanf(""), kInf}) {
    for (const size_t at : {size_t{0}, size_t{33}, size_t{69}}) {
      std::vector<float> logits = bumpy_logits(70, 3);
      logits[at] = bad;
      EXPECT_EQ(run({draw_task(logits, greedy)})[0].outcome, SampleOutcome::kBadLogits);
      EXPECT_EQ(run({draw_task(logits, random)})[0].outcome, SampleOutcome::kBadLogits);
    }
  }
  EXPECT_EQ(run({draw_task(std::vector<float>(70, -kInf), greedy)})[0].outcome,
            SampleOutcome::kBadLogits);
  std::vector<float> masked(70, -kInf);  // a model may mask ids itself
  masked[7] = -3;
  EXPECT_EQ(run({draw_task(masked, random)})[0].token, 7);
}

TEST(Sampler, AllowedIdsAndMinTokensMask) {
  SamplingParams params = filters(1.5, 0, 1, 0);
  params.allowed_token_ids = {9, 3, 3, 30};
  params.min_tokens = 2;
  params.max_tokens = 5;
  params.stop_token_ids = {9};
  const SamplingState state = state_of(params, {1}, 40, {3});
  const std::vector<float> logits = bumpy_logits(40, 4);
  Runner run(40, 1);
  std::map<int32_t, int> late;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    params.seed = seed;
    const SamplingState seeded = state_of(params, {1}, 40, {3});
    EXPECT_EQ(run({draw_task(logits, seeded, 1)})[0].token, 30);  // 3 and 9 would stop
    ++late[run({draw_task(logits, seeded, 2)})[0].token];
  }
  EXPECT_THAT(late, ElementsAre(testing::Key(3), testing::Key(9), testing::Key(30)));
  params.allowed_token_ids = {9, 3};
  const SamplingState none = state_of(params, {1}, 40, {3});
  EXPECT_EQ(run({draw_task(logits, none, 0)})[0].outcome, SampleOutcome::kNoneAllowed);
  // Few allowed ids and filters that would keep more: a masked id must not slip in.
  params = filters(1, 20, 0.999, 0);
  params.allowed_token_ids = {5, 6};
  const SamplingState two = state_of(params, {1}, 40);
  for (int32_t i = 0; i < 200; ++i)
    EXPECT_THAT(run({draw_task(logits, two, i)})[0].token, testing::AnyOf(5, 6));
}

TEST(SamplingState, PenaltiesByHand) {
  SamplingParams params;
  params.repetition_penalty = 2.0;
  params.frequency_penalty = 0.5;
  params.presence_penalty = 0.25;
  params.logit_bias = {{0, 1.0f}, {4, -3.0f}};
  SamplingState state = state_of(params, {1, 2, 1}, 6);
  state.add(2);
  state.add(2);
  state.add(3);
  std::vector<float> row{1, 4, -4, 6, 5, -1};
  ASSERT_TRUE(state.edits(0));
  state.edit(row.data(), 6, 3);
  // 0: bias. 1: prompt only, 4 / 2. 2: -4 * 2 - 2 * 0.5 - 0.25. 3: 6 / 2 - 0.5 - 0.25. 4: bias. 5:
  // untouched.
  EXPECT_THAT(row, ElementsAre(2, 2, -9.25f, 2.25f, 2, -1));
}

TEST(SamplingState, BiasComesBeforePenalties) {
  SamplingParams params;
  params.repetition_penalty = 2.0;
  params.logit_bias = {{1, 6.0f}};
  const SamplingState state = state_of(params, {1}, 3);
  std::vector<float> row{0, -2, 0};
  state.edit(row.data(), 3, 0);
  EXPECT_EQ(row[1], 2);  // (-2 + 6) / 2
}

TEST(SamplingState, StopsAreEosUnlessIgnoredAndTheRequestsOwn) {
  SamplingParams params;
  params.stop_token_ids = {4};
  EXPECT_TRUE(state_of(params, {1}, 9, {7, 2}).is_stop(2));
  EXPECT_TRUE(state_of(params, {1}, 9, {7, 2}).is_stop(4));
  EXPECT_FALSE(state_of(params, {1}, 9, {7, 2}).is_stop(3));
  params.ignore_eos = true;
  EXPECT_FALSE(state_of(params, {1}, 9, {7, 2}).is_stop(7));
  EXPECT_TRUE(state_of(params, {1}, 9, {7, 2}).is_stop(4));
}

}  // namespace
}  // namespace moestro::engine
