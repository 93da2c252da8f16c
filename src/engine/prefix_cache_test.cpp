// Prefix reuse through Core: what is found and what is not, that outputs stay the same, who waits
// for whom, and random traffic with aborts, evictions and preemption against the same requests
// without a cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "engine/core_rig_for_test.h"

namespace moestro::engine {
namespace {

std::vector<int32_t> ramp(int32_t n, int32_t from = 10) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < n; ++i) tokens.push_back(4 + (from + i * 7) % 90);
  return tokens;
}

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A rig that counts the tokens that the model has computed.
struct Counted {
  explicit Counted(const EngineOptions& options, FakeModelOptions model = {})
      : rig(options, with_count(std::move(model), tokens)) {}
  static FakeModelOptions with_count(FakeModelOptions model, int64_t& count) {
    model.on_step = [&count](const kernels::StepInput& step) { count += step.num_tokens; };
    return model;
  }
  RequestId add(const std::vector<int32_t>& prompt, int32_t max_tokens = 5,
                const std::string& salt = "", int32_t priority = 0) {
    Request r;
    r.prompt = prompt;
    r.sampling = greedy(max_tokens);
    r.cache_salt = salt;
    r.priority = priority;
    return rig.add(std::move(r));
  }
  // Runs one request alone; how many tokens were computed for it.
  int64_t cost(const std::vector<int32_t>& prompt, const std::string& salt = "") {
    const int64_t before = tokens;
    const RequestId id = add(prompt, 1, salt);
    rig.run();
    EXPECT_EQ(rig[id].tokens, expected_greedy(prompt, 1));
    EXPECT_EQ(rig[id].num_cached, static_cast<int>(prompt.size()) - (tokens - before));
    return tokens - before;
  }
  double counter(const char* name) { return rig.metrics().counter(name, "", rig.labels()).value(); }
  int64_t tokens = 0;
  Rig rig;
};

EngineOptions without_eos() {
  EngineOptions o = small_options();
  o.eos_token_ids = {};
  return o;
}

int64_t page_bytes() { return KvCache::page_bytes(FakeModel({}).kv_widths(), DType::kF32, 4); }

TEST(PrefixCache, TheLastTokenAndThePartialPageAreComputed) {
  Counted c(without_eos());
  EXPECT_EQ(c.cost(ramp(40)), 40);
  EXPECT_EQ(c.cost(ramp(40)), 4) << "all pages but the one of the last token";
  EXPECT_EQ(c.cost(ramp(41)), 1);
  EXPECT_EQ(c.cost(ramp(43)), 3);
  EXPECT_EQ(c.cost(joined(ramp(22), ramp(10, 3))), 12) << "20 of 22 are full pages";
  EXPECT_EQ(c.cost(ramp(40, 11)), 40);
  EXPECT_EQ(c.counter("vllm:prefix_cache_queries"), 40 + 40 + 41 + 43 + 32 + 40);
  EXPECT_EQ(c.counter("vllm:prefix_cache_hits"), 36 + 40 + 40 + 20);
  EXPECT_EQ(c.counter("vllm:prompt_tokens_cached"), 36 + 40 + 40 + 20);
  Labels labels = c.rig.labels();
  labels.emplace_back("source", "local_cache_hit");
  EXPECT_EQ(c.rig.metrics().counter("vllm:prompt_tokens_by_source", "", labels).value(), 136);
}

TEST(PrefixCache, AnswersAreReusedInTheNextTurn) {
  Counted c(without_eos());
  const RequestId first = c.add(ramp(10), 20);
  c.rig.run();
  const std::vector<int32_t> turn = joined(joined(ramp(10), c.rig[first].tokens), ramp(5));
  EXPECT_EQ(c.cost(turn), 35 - 28) << "29 tokens of prompt and answer were computed";
}

TEST(PrefixCache, OffComputesEverything) {
  EngineOptions options = without_eos();
  options.enable_prefix_caching = false;
  Counted c(options);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(c.cost(ramp(40)), 40);
  EXPECT_EQ(c.counter("vllm:prefix_cache_queries"), 0);
}

TEST(PrefixCache, SaltsKeepRequestsApart) {
  Counted c(without_eos());
  EXPECT_EQ(c.cost(ramp(20), "a"), 20);
  EXPECT_EQ(c.cost(ramp(20), "b"), 20);
  EXPECT_EQ(c.cost(ramp(20)), 20);
  EXPECT_EQ(c.cost(ramp(20), "a"), 4);
  EXPECT_EQ(c.cost(ramp(20), "b"), 4);
  EXPECT_EQ(c.cost(ramp(20)), 4);
  Request r;
  r.prompt = {1};
  r.cache_salt.assign(1025, 's');
  EXPECT_THAT(c.rig.core().check(r).message(), testing::HasSubstr("1025 bytes"));
}

TEST(PrefixCache, PromptRowsAreComputedButLeaveTheirPages) {
  Counted c(without_eos());
  for (const int64_t expected : {30, 30}) {
    Request r;
    r.prompt = ramp(30);
    r.sampling = greedy(3);
    r.sampling.prompt_logprobs = 0;
    const int64_t before = c.tokens;
    const RequestId id = c.rig.add(std::move(r));
    c.rig.run();
    EXPECT_EQ(c.tokens - before, expected + 2);
    EXPECT_EQ(c.rig[id].num_cached, 0);
    EXPECT_EQ(c.rig[id].prompt_logprobs.size(), 30u);
  }
  EXPECT_EQ(c.counter("vllm:prefix_cache_queries"), 0) << "nobody asked";
  EXPECT_EQ(c.cost(ramp(30)), 2);
}

TEST(PrefixCache, ResetForgetsAndWhatRunsIsNotReusedEither) {
  Counted c(without_eos());
  c.cost(ramp(20));
  const RequestId running = c.add(ramp(40), 30);
  c.rig.step();
  c.rig.core().reset_prefix_cache();
  EXPECT_EQ(c.rig.core().kv().prefixes().size(), 0);
  c.rig.run();
  EXPECT_EQ(c.rig[running].tokens, expected_greedy(ramp(40), 30, 101, -1));
  EXPECT_EQ(c.rig.core().kv().prefixes().size(), 0);
  EXPECT_EQ(c.cost(ramp(40)), 40);
  EXPECT_EQ(c.cost(ramp(40)), 4);
}

TEST(PrefixCache, BadLogitsForgetEverything) {
  FakeModelOptions model;
  model.nan_after = 3;
  Counted c(without_eos(), model);
  c.cost(ramp(20));
  const RequestId bad = c.add(joined(ramp(20), {3}));
  c.rig.run();
  EXPECT_EQ(c.rig[bad].finish, FinishReason::kError);
  EXPECT_EQ(c.rig[bad].num_cached, 20);
  EXPECT_EQ(c.cost(ramp(20)), 20);
}

TEST(PrefixCache, EqualPromptsAtOnceAreComputedOnce) {
  EngineOptions options = without_eos();
  options.max_num_batched_tokens = 128;
  Counted c(options);
  std::vector<RequestId> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(c.add(ramp(42), 8));
  const RequestId other = c.add(ramp(20, 1), 8);
  c.rig.step();
  EXPECT_EQ(c.rig.core().num_running(), 2) << "the first, and one with another prompt";
  EXPECT_EQ(c.rig[other].tokens.size(), 1u);
  c.rig.step();
  EXPECT_EQ(c.rig.core().num_running(), 7);
  c.rig.run();
  EXPECT_EQ(c.tokens, (42 + 7) + 5 * (2 + 7) + (20 + 7));
  for (const RequestId id : ids) EXPECT_EQ(c.rig[id].tokens, expected_greedy(ramp(42), 8, 101, -1));
}

TEST(PrefixCache, ABetterRankDoesNotWaitForAWorse) {
  EngineOptions options = without_eos();
  options.long_prefill_token_threshold = 8;
  Counted c(options);
  const RequestId slow = c.add(ramp(42), 20, "", 5);
  c.rig.step();
  const RequestId urgent = c.add(ramp(42), 20, "", 0);
  const RequestId patient = c.add(ramp(42), 20, "", 7);
  c.rig.step();
  ASSERT_EQ(c.rig.core().num_running(), 2);
  EXPECT_EQ(c.rig.core().running()[0]->id, urgent);
  EXPECT_EQ(c.rig.core().running()[1]->id, slow);
  bool shared = false;
  while (c.rig.core().num_running() >= 2) {  // pages computed twice are kept once
    const Sequence &a = *c.rig.core().running()[0], &b = *c.rig.core().running()[1];
    for (int32_t i = 0; i < std::min(a.num_published, b.num_published); ++i)
      EXPECT_EQ(a.pages[static_cast<size_t>(i)], b.pages[static_cast<size_t>(i)]);
    shared |= std::min(a.num_published, b.num_published) >= 10;
    c.rig.step();
  }
  EXPECT_TRUE(shared);
  c.rig.run();
  EXPECT_EQ(c.rig[urgent].num_cached, 8) << "what was there when it came";
  EXPECT_EQ(c.rig[patient].num_cached, 40);
  for (const RequestId id : {slow, urgent, patient})
    EXPECT_EQ(c.rig[id].tokens, expected_greedy(ramp(42), 20, 101, -1));
}

TEST(PrefixCache, AFollowerStartsWhenItsLeaderIsCancelled) {
  EngineOptions options = without_eos();
  options.max_num_batched_tokens = 16;
  options.long_prefill_token_threshold = 8;
  Counted c(options);
  const RequestId leader = c.add(ramp(60), 4), follower = c.add(ramp(60), 4);
  c.rig.step();
  EXPECT_EQ(c.rig.core().num_running(), 1);
  c.rig.core().cancel(leader);
  c.rig.run();
  EXPECT_EQ(c.rig[follower].num_cached, 8);
  EXPECT_EQ(c.rig[follower].tokens, expected_greedy(ramp(60), 4, 101, -1));
}

TEST(PrefixCache, APreemptedRequestFindsItsOwnPages) {
  EngineOptions options = without_eos();
  options.kv_cache_bytes = page_bytes() * 32;
  options.max_num_batched_tokens = 64;
  Counted c(options);
  // Two fit until the first has grown; the second then waits with its pages still there but for
  // those that the first takes.
  const RequestId a = c.add(ramp(40), 60), b = c.add(ramp(40, 5), 50);
  c.rig.run();
  EXPECT_GE(c.rig.preemptions(), 1);
  EXPECT_EQ(c.rig[a].tokens, expected_greedy(ramp(40), 60, 101, -1));
  EXPECT_EQ(c.rig[b].tokens, expected_greedy(ramp(40, 5), 50, 101, -1));
  const int64_t undisturbed = 40 + 59 + 40 + 49;
  EXPECT_GT(c.tokens, undisturbed);
  EXPECT_LT(c.tokens, undisturbed + 60) << "less than all that the second had";
}

TEST(Scheduling, PrioritiesNeedTheirPolicy) {
  EngineOptions options = small_options();
  options.priority_scheduling = false;
  Rig rig(options);
  Request r;
  r.prompt = {1};
  EXPECT_TRUE(rig.core().check(r).ok());
  r.priority = -1;
  EXPECT_EQ(rig.core().check(r).code(), Code::kInvalidArgument);
  EXPECT_THAT(rig.core().check(r).message(), testing::HasSubstr("--scheduling-policy priority"));
}

TEST(Scheduling, ALongPromptLeavesRoomForShortOnes) {
  EngineOptions options = without_eos();
  options.max_num_batched_tokens = 32;
  options.long_prefill_token_threshold = 12;
  Rig rig(options);
  const RequestId lengthy = rig.add(ramp(100), greedy(2));
  const RequestId brief = rig.add(ramp(12, 3), greedy(2));
  rig.step();
  EXPECT_EQ(rig[brief].tokens.size(), 1u);
  int steps = 1;
  for (; rig[lengthy].tokens.empty(); ++steps) rig.step();
  EXPECT_EQ(steps, 9);  // 12 tokens of 100 a step
}

TEST(Scheduling, FirstComeFirstServedStarvesNobody) {
  EngineOptions options = without_eos();
  options.priority_scheduling = false;
  options.kv_cache_bytes = page_bytes() * 34;
  std::mt19937 rng(5);
  Rig rig(options);
  std::map<RequestId, int> arrived;
  int step = 0;
  // Far more than fits, for ever: each ends, at the latest when all before it could have run alone.
  for (; step < 3000; ++step) {
    if (rig.core().waiting().size() < 6) {
      const auto output = static_cast<int32_t>(20 + rng() % 60);
      arrived[rig.add(random_prompt(rng, 60), greedy(output))] = step;
    }
    rig.step();
    ASSERT_FALSE(testing::Test::HasFatalFailure());
    for (auto it = arrived.begin(); it != arrived.end();) {
      ASSERT_LT(step - it->second, 14 * 85) << "request " << it->first << " waits";
      it = rig[it->first].finish != FinishReason::kNone ? arrived.erase(it) : std::next(it);
    }
  }
  EXPECT_GT(rig.preemptions(), 20);
}

// Random cases: requests over few beginnings, in a small cache, come and are cancelled at random.
struct Case {
  std::vector<Request> requests;
  std::vector<int> arrival, cancelled_at;  // steps; -1: never
};

Case random_case(std::mt19937& rng) {
  Case c;
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(rng() % n); };
  std::vector<std::vector<int32_t>> beginnings{{}};
  for (int i = 0; i < 3; ++i) {
    beginnings.push_back(beginnings[below(static_cast<uint32_t>(beginnings.size()))]);
    for (uint32_t n = 1 + below(14); n > 0; --n)
      beginnings.back().push_back(static_cast<int32_t>(below(101)));
  }
  const uint32_t count = 3 + below(6);
  for (uint32_t i = 0; i < count; ++i) {
    Request r;
    r.prompt = beginnings[below(4)];
    for (uint32_t n = r.prompt.empty() ? 1 : below(4); n > 0; --n)
      r.prompt.push_back(static_cast<int32_t>(below(101)));
    r.sampling.max_tokens = 1 + static_cast<int32_t>(below(below(3) == 0 ? 60 : 12));
    r.sampling.temperature = below(2) == 0 ? 0 : 1;
    r.sampling.seed = rng();
    r.sampling.logprobs = below(3) == 0 ? 1 : -1;
    r.sampling.prompt_logprobs = below(6) == 0 ? 1 : -1;
    r.priority = static_cast<int32_t>(below(3));
    if (below(5) == 0) r.cache_salt = "tenant";
    c.arrival.push_back(static_cast<int>(below(12)));
    c.cancelled_at.push_back(below(4) == 0 ? c.arrival.back() + static_cast<int>(below(10)) : -1);
    c.requests.push_back(std::move(r));
  }
  return c;
}

void play(Rig& rig, const Case& c, std::vector<RequestId>& ids, uint32_t reset_at) {
  ids.assign(c.requests.size(), 0);
  for (int step = 0, last = 24; step < last || !rig.core().idle(); ++step) {
    ASSERT_LT(step, 5000);
    for (size_t i = 0; i < c.requests.size(); ++i) {
      if (c.arrival[i] == step) ids[i] = rig.add(c.requests[i]);
      if (c.cancelled_at[i] == step) rig.core().cancel(ids[i]);
    }
    if (static_cast<uint32_t>(step) == reset_at) rig.core().reset_prefix_cache();
    if (!rig.core().idle()) rig.step();
    ASSERT_FALSE(testing::Test::HasFatalFailure());
  }
}

TEST(PrefixCache, RandomCasesEqualThoseWithoutCache) {
  std::mt19937 rng(11);
  double hits = 0, preemptions = 0;
  int64_t evicting = 0;
  for (int round = 0; round < 20; ++round) {
    EngineOptions options = small_options();
    options.max_model_len = 64;
    options.page_size = 1 + static_cast<int32_t>(rng() % 5);
    options.max_num_seqs = 1 + static_cast<int32_t>(rng() % 8);
    options.max_num_batched_tokens = options.max_num_seqs + static_cast<int32_t>(rng() % 40);
    options.long_prefill_token_threshold =
        rng() % 3 == 0 ? 1 + static_cast<int32_t>(rng() % 20) : 0;
    options.kv_cache_bytes =
        KvCache::page_bytes(FakeModel({}).kv_widths(), DType::kF32, options.page_size) *
        ((64 + options.page_size - 1) / options.page_size + static_cast<int32_t>(rng() % 12));
    Rig cached(options);
    EngineOptions plain_options = small_options();
    plain_options.enable_prefix_caching = false;
    plain_options.max_model_len = 64;
    Rig plain(plain_options);
    for (int i = 0; i < 50; ++i) {
      const Case c = random_case(rng);
      std::vector<RequestId> ids;
      play(cached, c, ids, static_cast<uint32_t>(rng() % 200));
      ASSERT_FALSE(HasFatalFailure());
      const BlockPool& pool = cached.core().kv().pool();
      ASSERT_EQ(pool.num_free(), pool.num_blocks()) << "pages leaked";
      evicting += cached.core().kv().prefixes().size() > pool.num_blocks() / 2;
      for (size_t k = 0; k < ids.size(); ++k) {
        const RequestId alone = plain.add(c.requests[k]);
        plain.run();
        const Outcome &got = cached[ids[k]], &want = plain[alone];
        if (got.finish == FinishReason::kCancelled) {
          ASSERT_LE(got.tokens.size(), want.tokens.size());
          ASSERT_TRUE(std::equal(got.tokens.begin(), got.tokens.end(), want.tokens.begin()));
          continue;
        }
        expect_same(got, want, k);
        ASSERT_FALSE(HasFailure()) << "round " << round << ", case " << i;
      }
    }
    hits += cached.metrics().counter("vllm:prefix_cache_hits", "", cached.labels()).value();
    preemptions += cached.preemptions();
  }
  EXPECT_GT(hits, 5000);
  EXPECT_GT(preemptions, 50);
  EXPECT_GT(evicting, 300);
}

}  // namespace
}  // namespace moestro::engine
