// The engine's step by step work, without its thread: continuous batching against the plainest
// generation, preemption, cancellation, deadlines, fairness, prompt logits, and random traffic with
// invariants checked after every step.
#include "engine/core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "engine/core_rig_for_test.h"

namespace moestro::engine {
namespace {

// The requests of the equivalence tests: every sampling feature, all seeded.
std::vector<Request> mixed_requests(uint32_t seed, int count, uint32_t longest_output = 30,
                                    int32_t longest_prompt = 50) {
  std::mt19937 rng(seed);
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request r;
    r.prompt = random_prompt(rng, longest_prompt);
    r.sampling.max_tokens = 1 + static_cast<int32_t>(rng() % longest_output);
    r.sampling.temperature = i % 3 == 0 ? 0 : 1.1;
    r.sampling.seed = rng();
    if (i % 4 == 1) r.sampling.top_p = 0.9;
    if (i % 4 == 2) r.sampling.top_k = 10;
    if (i % 5 == 1) r.sampling.repetition_penalty = 1.4;
    if (i % 5 == 2) r.sampling.frequency_penalty = 0.7;
    if (i % 5 == 3) r.sampling.min_tokens = r.sampling.max_tokens / 2;
    if (i % 6 == 1) r.sampling.logprobs = 2;
    if (i % 6 == 2) r.sampling.prompt_logprobs = 1;
    requests.push_back(std::move(r));
  }
  return requests;
}

std::vector<Outcome> run_one_at_a_time(const std::vector<Request>& requests) {
  Rig rig(small_options());
  std::vector<Outcome> outcomes;
  for (const Request& r : requests) {
    const RequestId id = rig.add(r);
    rig.run();
    outcomes.push_back(rig[id]);
  }
  return outcomes;
}

TEST(Core, OneRequestIsPlainGreedyGeneration) {
  std::mt19937 rng(1);
  for (int i = 0; i < 20; ++i) {
    Rig rig(small_options());
    const std::vector<int32_t> prompt = random_prompt(rng, 60);
    const RequestId id = rig.add(prompt, greedy(25));
    rig.run();
    EXPECT_EQ(rig[id].tokens, expected_greedy(prompt, 25));
    const bool stopped = rig[id].tokens.back() == 3;
    EXPECT_EQ(rig[id].finish, stopped ? FinishReason::kStop : FinishReason::kLength);
    EXPECT_EQ(rig[id].stop_token, stopped ? 3 : -1);
  }
}

struct Shape {
  int32_t page_size, budget, num_seqs, max_rows;
  int workers;
  DType dtype = DType::kF32;
};
class Batching : public testing::TestWithParam<Shape> {};

TEST_P(Batching, EqualsOneAtATime) {
  const std::vector<Request> requests = mixed_requests(42, 24);
  static const std::vector<Outcome> expected = run_one_at_a_time(requests);
  const Shape shape = GetParam();
  EngineOptions options = small_options();
  options.page_size = shape.page_size;
  options.max_num_batched_tokens = shape.budget;
  options.max_num_seqs = shape.num_seqs;
  options.kv_dtype = shape.dtype;
  FakeModelOptions model;
  model.limits.max_logits_rows = shape.max_rows;
  Rig rig(options, model, shape.workers);
  for (const Request& r : requests) rig.add(r);
  rig.run();
  for (size_t i = 0; i < requests.size(); ++i) expect_same(rig[i + 1], expected[i], i);
}
INSTANTIATE_TEST_SUITE_P(Shapes, Batching,
                         testing::Values(Shape{4, 1, 1, 1, 1}, Shape{4, 2, 2, 2, 1},
                                         Shape{1, 3, 3, 64, 1}, Shape{2, 5, 4, 4, 2},
                                         Shape{3, 7, 7, 7, 3}, Shape{16, 8, 8, 8, 1},
                                         Shape{64, 13, 6, 9, 2}, Shape{5, 64, 24, 30, 2},
                                         Shape{128, 256, 24, 256, 1},
                                         Shape{7, 33, 10, 12, 1, DType::kBF16}));

TEST(Core, ArrivalTimeDoesNotMatter) {
  const std::vector<Request> requests = mixed_requests(7, 30);
  const std::vector<Outcome> expected = run_one_at_a_time(requests);
  Rig rig(small_options());
  std::mt19937 rng(3);
  for (const Request& r : requests) {
    rig.add(r);
    for (uint32_t steps = rng() % 4; steps > 0 && !rig.core().idle(); --steps) rig.step();
  }
  rig.run();
  for (size_t i = 0; i < requests.size(); ++i) expect_same(rig[i + 1], expected[i], i);
}

TEST(Core, PreemptionChangesNoOutput) {
  const std::vector<Request> requests = mixed_requests(9, 24, 100, 12);
  const std::vector<Outcome> expected = run_one_at_a_time(requests);
  for (const bool chunked : {true, false}) {
    EngineOptions options = small_options();
    options.max_num_seqs = 12;
    options.max_num_batched_tokens = chunked ? 24 : 128;
    options.enable_chunked_prefill = chunked;
    FakeModelOptions model;
    const int64_t page =
        KvCache::page_bytes(FakeModel(model).kv_widths(), DType::kF32, options.page_size);
    options.kv_cache_bytes = page * 33;  // one longest sequence needs 32 pages
    Rig rig(options, model);
    for (size_t i = 0; i < requests.size(); ++i) {
      Request r = requests[i];
      r.priority = static_cast<int32_t>(i % 3);
      rig.add(std::move(r));
    }
    rig.run();
    EXPECT_GT(rig.preemptions(), 3) << "the test is to preempt";
    for (size_t i = 0; i < requests.size(); ++i) expect_same(rig[i + 1], expected[i], i);
  }
}

TEST(Core, PreemptionTakesTheLowestPriorityThenTheNewest) {
  EngineOptions options = small_options();
  options.eos_token_ids = {};
  const int64_t page = KvCache::page_bytes(FakeModel({}).kv_widths(), DType::kF32, 4);
  options.kv_cache_bytes = page * 32;
  Rig rig(options);
  const auto prompt = [](int32_t token) { return std::vector<int32_t>(8, token); };
  rig.add(prompt(5), greedy(100), 1);
  const RequestId best = rig.add(prompt(6), greedy(100), 0);
  rig.add(prompt(7), greedy(100), 1);
  rig.add(prompt(8), greedy(100), 1);
  std::vector<RequestId> left;
  std::set<RequestId> before;
  while (rig[best].finish == FinishReason::kNone) {
    rig.step();
    std::set<RequestId> now;
    for (const auto& s : rig.core().running()) now.insert(s->id);
    for (const RequestId id : before)
      if (!now.contains(id) && rig[id].finish == FinishReason::kNone) left.push_back(id);
    before = now;
  }
  ASSERT_GE(left.size(), 3u);
  EXPECT_EQ(left[0], 4u);
  EXPECT_EQ(left[1], 3u);
  EXPECT_EQ(left[2], 1u);
  EXPECT_EQ(std::count(left.begin(), left.end(), best), 0);
}

TEST(Core, CancelFreesPagesAtOnce) {
  Rig rig(small_options());
  const RequestId a = rig.add(std::vector<int32_t>(40, 9), greedy(50));
  const RequestId b = rig.add(std::vector<int32_t>(17, 8), greedy(50));
  const RequestId queued = rig.add(std::vector<int32_t>(17, 8), greedy(50));
  rig.step();
  const int32_t total = rig.core().kv().pool().num_blocks();
  EXPECT_LT(rig.core().kv().pool().num_free(), total);
  rig.core().cancel(a);
  rig.core().cancel(queued);
  rig.core().cancel(12345);
  rig.check_pages();
  EXPECT_EQ(rig[a].finish, FinishReason::kCancelled);
  EXPECT_EQ(rig[queued].finish, FinishReason::kCancelled);
  rig.core().cancel(b);
  EXPECT_EQ(rig.core().kv().pool().num_free(), total);
  EXPECT_TRUE(rig.core().idle());
  EXPECT_EQ(rig.core().num_ended(), 3u);
}

TEST(Core, DeadlinesEndRunningAndQueuedRequests) {
  EngineOptions options = small_options();
  options.max_num_seqs = 1;
  Rig rig(options);
  SamplingParams endless = greedy(100);
  endless.ignore_eos = true;
  const RequestId running =
      rig.add({1, 2}, endless, 0, Deadline::after(std::chrono::milliseconds(30)));
  const RequestId queued =
      rig.add({1, 2}, endless, 0, Deadline::after(std::chrono::milliseconds(20)));
  const RequestId patient = rig.add({1, 2}, greedy(5), 0, Deadline::after(std::chrono::hours(1)));
  rig.step();
  EXPECT_EQ(rig[running].tokens.size(), 1u);
  const auto start = Clock::now();
  while (seconds_since(start) < 0.04) {
  }
  rig.run();
  EXPECT_EQ(rig[running].finish, FinishReason::kDeadline);
  EXPECT_EQ(rig[running].tokens.size(), 1u);
  EXPECT_EQ(rig[queued].finish, FinishReason::kDeadline);
  EXPECT_EQ(rig[queued].num_events, 1);
  EXPECT_EQ(rig[patient].tokens, expected_greedy({1, 2}, 5));
}

TEST(Core, PriorityThenArrivalDecidesWhoIsAdmitted) {
  EngineOptions options = small_options();
  options.max_num_seqs = 1;
  Rig rig(options);
  std::vector<RequestId> finished;
  const auto add = [&](int32_t priority) {
    Request r;
    r.prompt = {1, 2, 3};
    r.sampling = greedy(3);
    r.priority = priority;
    return rig.add(std::move(r));
  };
  const RequestId a = add(5), b = add(1), c = add(5), d = add(-2);
  std::set<RequestId> seen;
  while (!rig.core().idle()) {
    rig.step();
    for (const RequestId id : {a, b, c, d})
      if (rig[id].finish != FinishReason::kNone && seen.insert(id).second) finished.push_back(id);
  }
  EXPECT_THAT(finished, testing::ElementsAre(d, b, a, c));
}

TEST(Core, ALongPrefillDoesNotStallDecodes) {
  EngineOptions options = small_options();
  options.max_model_len = 1024;
  options.max_num_batched_tokens = 16;
  options.eos_token_ids = {};
  Rig rig(options);
  std::vector<RequestId> decoding;
  for (int i = 0; i < 5; ++i) decoding.push_back(rig.add({i, 1}, greedy(500)));
  rig.step();
  const RequestId lengthy = rig.add(std::vector<int32_t>(600, 4), greedy(2));
  int steps = 0;
  for (; rig[lengthy].tokens.empty(); ++steps) {
    std::vector<size_t> before;
    for (const RequestId id : decoding) before.push_back(rig[id].tokens.size());
    rig.step();
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(rig[decoding[i]].tokens.size(), before[i] + 1);
  }
  EXPECT_EQ(steps, (600 + 10) / 11);  // the prefill gets all that decodes leave
}

TEST(Core, DecodesDoNotStarveAPrefill) {
  EngineOptions options = small_options();
  options.max_model_len = 1024;
  options.max_num_batched_tokens = options.max_num_seqs = 32;  // decodes could take the whole step
  options.eos_token_ids = {};
  Rig rig(options);
  std::vector<RequestId> decoding;
  for (int i = 0; i < 31; ++i) decoding.push_back(rig.add({i}, greedy(900)));
  rig.step();
  const RequestId lengthy = rig.add(std::vector<int32_t>(400, 4), greedy(2));
  std::vector<size_t> two_ago(31, 0);
  int steps = 0;
  for (; rig[lengthy].tokens.empty(); ++steps) {
    if (steps % 2 == 0)
      for (size_t i = 0; i < 31; ++i) {
        if (steps > 0) {
          EXPECT_GT(rig[decoding[i]].tokens.size(), two_ago[i]) << "a decode waited for two steps";
        }
        two_ago[i] = rig[decoding[i]].tokens.size();
      }
    rig.step();
  }
  EXPECT_LE(steps, 102);  // 4 of 32 tokens a step, after a first step with what was left
}

TEST(Core, EveryPromptRowIsHandedOverOnceAndExact) {
  std::mt19937 rng(5);
  for (const int32_t max_rows : {4, 9, 64}) {
    EngineOptions options = small_options();
    options.max_num_seqs = 4;
    options.max_num_batched_tokens = 20;
    const int64_t page = KvCache::page_bytes(FakeModel({}).kv_widths(), DType::kF32, 4);
    options.kv_cache_bytes = page * 32;  // little: rows must not come twice after a preemption
    FakeModelOptions model;
    model.limits.max_logits_rows = max_rows;
    model.on_step = [&](const kernels::StepInput& step) {
      EXPECT_LE(step.num_logits_rows, max_rows);
    };
    Rig rig(options, model);
    std::vector<std::vector<float>> rows(6);
    std::vector<std::vector<int32_t>> prompts;
    for (size_t i = 0; i < rows.size(); ++i) {
      Request r;
      prompts.push_back(random_prompt(rng, 60));
      r.prompt = prompts.back();
      r.sampling = greedy(60);
      r.sampling.prompt_logprobs = 3;
      r.on_prompt_logits = [&rows, i](int32_t first, int32_t n, int32_t vocab,
                                      const float* logits) {
        EXPECT_EQ(static_cast<size_t>(first) * 101, rows[i].size());
        rows[i].insert(rows[i].end(), logits, logits + n * vocab);
      };
      rig.add(std::move(r));
    }
    rig.run();
    for (size_t i = 0; i < rows.size(); ++i) {
      const Outcome& out = rig[i + 1];
      EXPECT_EQ(out.tokens, expected_greedy(prompts[i], 60));
      ASSERT_EQ(rows[i].size(), prompts[i].size() * 101);
      ASSERT_EQ(out.prompt_logprobs.size(), prompts[i].size());
      EXPECT_TRUE(out.prompt_logprobs[0].entries.empty());
      for (size_t p = 0; p < prompts[i].size(); ++p) {
        const std::vector<float> row = FakeModel::logits_after({prompts[i].data(), p + 1}, 101);
        EXPECT_TRUE(std::equal(row.begin(), row.end(),
                               rows[i].begin() + static_cast<std::ptrdiff_t>(p) * 101));
        if (p + 1 == prompts[i].size()) continue;
        const auto& entries = out.prompt_logprobs[p + 1].entries;
        ASSERT_EQ(entries.size(), 4u);
        EXPECT_EQ(entries[0].id, prompts[i][p + 1]);
        double sum = 0;
        for (const float x : row) sum += std::exp(static_cast<double>(x));
        const float own = row[static_cast<size_t>(entries[0].id)];
        EXPECT_NEAR(entries[0].logprob, own - std::log(sum), 1e-5);
        EXPECT_EQ(entries[0].rank,
                  1 + std::count_if(row.begin(), row.end(), [&](float x) { return x > own; }));
        EXPECT_EQ(row[static_cast<size_t>(entries[1].id)],
                  *std::max_element(row.begin(), row.end()));
      }
    }
  }
}

TEST(Core, NanLogitsEndOnlyTheirRequest) {
  FakeModelOptions model;
  model.nan_after = 77;
  Rig rig(small_options(), model);
  const RequestId bad = rig.add({5, 77}, greedy(5)), good = rig.add({5, 76}, greedy(5));
  SamplingParams prompt = greedy(5);
  prompt.prompt_logprobs = 0;
  const RequestId bad_prompt = rig.add({5, 77, 6}, prompt);
  rig.run();
  EXPECT_EQ(rig[bad].finish, FinishReason::kError);
  EXPECT_EQ(rig[bad].error.code(), Code::kInternal);
  EXPECT_THAT(rig[bad].error.message(), testing::HasSubstr("request-1"));
  EXPECT_EQ(rig[bad_prompt].finish, FinishReason::kError);
  EXPECT_EQ(rig[good].tokens, expected_greedy({5, 76}, 5));
  EXPECT_EQ(rig.metrics().counter("vllm:corrupted_requests", "", rig.labels()).value(), 2);
}

TEST(Core, StopsAndLengths) {
  // A prompt whose first ten greedy tokens differ from each other.
  std::vector<int32_t> prompt{4, 8, 15}, free_run;
  for (;; ++prompt[0]) {
    free_run = expected_greedy(prompt, 20, 101, -1);
    if (std::set<int32_t>(free_run.begin(), free_run.begin() + 10).size() == 10) break;
  }
  EngineOptions options = small_options();
  options.eos_token_ids = {free_run[6]};
  Rig rig(options);
  const auto first = [&](size_t n) {
    return std::vector<int32_t>(free_run.begin(),
                                free_run.begin() + static_cast<std::ptrdiff_t>(n));
  };

  const RequestId eos = rig.add(prompt, greedy(20));
  SamplingParams params = greedy(20);
  params.ignore_eos = true;
  const RequestId ignored = rig.add(prompt, params);
  params.stop_token_ids = {free_run[9]};
  const RequestId own_stop = rig.add(prompt, params);
  params = greedy(20);
  params.min_tokens = 8;
  const RequestId late = rig.add(prompt, params);
  rig.run();
  EXPECT_EQ(rig[eos].tokens, first(7));
  EXPECT_EQ(rig[eos].stop_token, free_run[6]);
  EXPECT_EQ(rig[ignored].tokens, free_run);
  EXPECT_EQ(rig[ignored].finish, FinishReason::kLength);
  EXPECT_EQ(rig[own_stop].tokens, first(10));
  EXPECT_EQ(rig[own_stop].finish, FinishReason::kStop);
  ASSERT_GE(rig[late].tokens.size(), 8u);
  for (size_t i = 0; i < 8; ++i)
    EXPECT_NE(rig[late].tokens[i], free_run[6]) << "masked before min_tokens";

  options.max_model_len = 10;
  options.eos_token_ids = {};
  Rig cramped(options);
  const RequestId full = cramped.add(prompt, greedy(1000));
  cramped.run();
  EXPECT_EQ(cramped[full].tokens, first(7));
  EXPECT_EQ(cramped[full].finish, FinishReason::kLength);
}

TEST(Core, ImpossibleMasksEndWithAnError) {
  Rig rig(small_options());
  SamplingParams params = greedy(5);
  params.allowed_token_ids = {3};  // only EOS
  params.min_tokens = 2;
  const RequestId id = rig.add({1}, params);
  rig.run();
  EXPECT_EQ(rig[id].finish, FinishReason::kError);
  EXPECT_EQ(rig[id].error.code(), Code::kInvalidArgument);
}

TEST(Core, RequestsThatCannotRunAreRefused) {
  EngineOptions options = small_options();
  options.max_model_len = 16;
  Rig rig(options);
  const auto refusal = [&](Request r) { return rig.core().check(r); };
  Request r;
  EXPECT_THAT(refusal(r).message(), testing::HasSubstr("no tokens"));
  r.prompt.assign(15, 1);
  EXPECT_TRUE(refusal(r).ok());
  r.prompt.assign(16, 1);
  EXPECT_THAT(refusal(r).message(),
              testing::AllOf(testing::HasSubstr("16 tokens"), testing::HasSubstr("at most 15")));
  r.prompt = {1, 101};
  EXPECT_THAT(refusal(r).message(), testing::HasSubstr("token id 101"));
  r.prompt = {-1};
  EXPECT_EQ(refusal(r).code(), Code::kInvalidArgument);
  r.prompt = {1};
  r.sampling.top_p = 2;
  EXPECT_EQ(refusal(r).code(), Code::kInvalidArgument);
}

TEST(Core, CreateNamesTheFlagThatDoesNotFit) {
  const auto message = [](auto change) {
    EngineOptions options = small_options();
    change(options);
    platform::Gang gang(1);
    MetricsRegistry metrics;
    const auto core =
        Core::create(options, std::make_unique<FakeModel>(FakeModelOptions{}), gang, metrics);
    return core.ok() ? std::string("ok") : core.status().message();
  };
  using testing::HasSubstr;
  EXPECT_EQ(message([](EngineOptions&) {}), "ok");
  EXPECT_THAT(message([](auto& o) { o.page_size = 0; }), HasSubstr("--block-size is 0"));
  EXPECT_THAT(message([](auto& o) { o.max_model_len = 5000; }),
              HasSubstr("--max-model-len is 5000"));
  EXPECT_THAT(message([](auto& o) { o.max_num_seqs = 300; }), HasSubstr("--max-num-seqs is 300"));
  EXPECT_THAT(message([](auto& o) { o.max_num_batched_tokens = 7; }),
              HasSubstr("--max-num-batched-tokens is 7"));
  EXPECT_THAT(message([](auto& o) { o.max_num_batched_tokens = 257; }),
              HasSubstr("--max-num-batched-tokens is 257"));
  EXPECT_THAT(message([](auto& o) { o.enable_chunked_prefill = false; }),
              HasSubstr("without chunked prefill"));
  EXPECT_THAT(message([](auto& o) { o.kv_dtype = DType::kF16; }),
              HasSubstr("--kv-cache-dtype is float16"));
  EXPECT_THAT(message([](auto& o) { o.eos_token_ids = {101}; }), HasSubstr("EOS token id is 101"));
  EXPECT_THAT(message([](auto& o) { o.kv_cache_bytes = 100; }),
              HasSubstr("--kv-cache-memory-bytes"));
  EXPECT_THAT(message([](auto& o) { o.sampleable_vocab = 102; }),
              HasSubstr("sampleable vocabulary is 102"));
}

TEST(Core, RandomTrafficKeepsAllInvariants) {
  std::mt19937 rng(2024);
  EngineOptions options = small_options();
  options.max_model_len = 64;
  options.max_num_seqs = 10;
  options.max_num_batched_tokens = 24;
  const int64_t page = KvCache::page_bytes(FakeModel({}).kv_widths(), DType::kF32, 4);
  options.kv_cache_bytes = page * 20;
  FakeModelOptions model;
  model.limits.max_logits_rows = 14;
  Rig rig(options, model);
  std::map<RequestId, std::vector<int32_t>> expected;  // of those that nobody disturbs
  std::vector<RequestId> all;
  std::set<RequestId> disturbed;
  for (int added = 0; added < 1000 || !rig.core().idle();) {
    for (uint32_t n = rng() % 4; n > 0 && added < 1000; --n, ++added) {
      std::vector<int32_t> prompt = random_prompt(rng, rng() % 10 == 0 ? 60 : 20);
      SamplingParams params = greedy(1 + static_cast<int32_t>(rng() % 45));
      if (rng() % 8 == 0) params.prompt_logprobs = 0;
      const bool hurried = rng() % 12 == 0;
      const auto limit = static_cast<int32_t>(
          std::min<size_t>(static_cast<size_t>(params.max_tokens), 64 - prompt.size()));
      const RequestId id =
          rig.add(prompt, params, static_cast<int32_t>(rng() % 3),
                  hurried ? Deadline::after(std::chrono::microseconds(rng() % 2000)) : Deadline{});
      all.push_back(id);
      if (hurried)
        disturbed.insert(id);
      else
        expected[id] = expected_greedy(prompt, limit);
    }
    if (rng() % 6 == 0 && !all.empty()) {
      const RequestId id = all[all.size() - 1 - rng() % std::min<size_t>(all.size(), 30)];
      if (rig[id].finish == FinishReason::kNone) disturbed.insert(id);
      rig.core().cancel(id);
    }
    if (!rig.core().idle()) rig.step();
    ASSERT_FALSE(testing::Test::HasFatalFailure());
    const auto in_order = [](const auto& a, const auto& b) { return a->before(*b); };
    ASSERT_TRUE(std::is_sorted(rig.core().running().begin(), rig.core().running().end(), in_order));
    ASSERT_TRUE(std::is_sorted(rig.core().waiting().begin(), rig.core().waiting().end(), in_order));
    ASSERT_LE(rig.core().num_running(), options.max_num_seqs);
  }
  EXPECT_GT(rig.preemptions(), 10);
  EXPECT_EQ(rig.core().num_ended(), 1000u);
  for (const RequestId id : all) {
    EXPECT_NE(rig[id].finish, FinishReason::kNone);
    if (!disturbed.contains(id)) {
      EXPECT_EQ(rig[id].tokens, expected[id]) << "request " << id;
    }
  }
}

TEST(Core, MetricsHaveVllmsNames) {
  Rig rig(small_options());
  rig.add({1, 2, 3}, greedy(4));
  rig.add({1, 2}, greedy(4));
  rig.run();
  rig.add({9, 9}, greedy(4));
  rig.core().cancel(3);
  const std::string text = rig.metrics().expose();
  const std::string labels = R"({model_name="fake",engine="0")";
  for (const std::string& line :
       {"vllm:num_requests_running" + labels + "} 0.0",
        "vllm:num_requests_waiting" + labels + "} 0.0",
        "vllm:kv_cache_usage_perc" + labels + "} 0.0",
        "vllm:prompt_tokens_total" + labels + "} 5.0",
        "vllm:prefix_cache_queries_total" + labels + "} 5.0",
        "vllm:prefix_cache_hits_total" + labels + "} 0.0",
        std::string(R"(vllm:cache_config_info{block_size="4",cache_dtype="float32",)") +
            R"(enable_prefix_caching="True",engine="0",num_gpu_blocks="5461"} 1.0)",
        std::string("vllm:request_prefill_kv_computed_tokens_count") + labels + "} 2",
        "vllm:request_success_total" + labels + R"(,finished_reason="abort"} 1.0)",
        std::string("vllm:time_to_first_token_seconds_count") + labels + "} 2",
        std::string("vllm:e2e_request_latency_seconds_count") + labels + "} 3",
        std::string("vllm:request_queue_time_seconds_count") + labels + "} 2",
        std::string("vllm:request_prompt_tokens_bucket") + labels + R"(,le="2.0"} 2)",
        std::string("vllm:iteration_tokens_total_count") + labels})
    EXPECT_THAT(text, testing::HasSubstr(line));
  const auto generated = static_cast<double>(rig[1].tokens.size() + rig[2].tokens.size());
  EXPECT_EQ(rig.metrics().counter("vllm:generation_tokens", "", rig.labels()).value(), generated);
  EXPECT_EQ(
      rig.metrics().histogram("vllm:inter_token_latency_seconds", "", {}, rig.labels()).count(),
      generated - 2);
}

}  // namespace
}  // namespace moestro::engine
