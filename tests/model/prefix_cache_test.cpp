// Cache hit = cache miss with whole models in float32, through the Engine and its thread: random
// requests that begin alike, in a small cache, cancelled at random, against the same requests in an
// engine without prefix cache. After every case no page is held. The sample runs with every test
// run; the whole is 10,000 cases.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "models/model_spec.h"
#include "plan/plan.h"

namespace moestro::tests {
namespace {

constexpr int32_t kContext = 96;
constexpr int32_t kIds = 64;  // few ids are used, so that pages are equal by chance as well

struct Loaded {
  std::shared_ptr<const checkpoint::ModelFiles> files;
  std::unique_ptr<checkpoint::WeightSource> source;
  std::unique_ptr<platform::Gang> gang;
  MetricsRegistry metrics;
  std::unique_ptr<engine::Engine> engine;
};

// Sizes of one engine: those of the reference, or random small ones.
struct Sizes {
  int32_t page_size = 16, num_seqs = 8, step_tokens = 512, spare_pages = 64, threshold = 0;
  bool prefix_caching = false;
  int workers = 1;
};

Sizes random_sizes(std::mt19937& rng) {
  const auto between = [&](uint32_t low, uint32_t high) {
    return static_cast<int32_t>(low + rng() % (high - low + 1));
  };
  Sizes s{.page_size = between(1, 12), .num_seqs = between(1, 8), .prefix_caching = true};
  s.step_tokens = s.num_seqs + between(0, 100);
  s.spare_pages = between(0, 60) / s.page_size;
  if (rng() % 3 == 0) s.threshold = between(1, 40);
  return s;
}

Status load(const std::string& name, const Sizes& sizes, Loaded& out) {
  const std::string directory = std::string(MOESTRO_SOURCE_DIR) + "/tests/golden/" + name;
  MOESTRO_ASSIGN(out.files, checkpoint::open_model_directory(directory));
  MOESTRO_ASSIGN(const auto config, checkpoint::read_model_config(*out.files, {}));
  MOESTRO_ASSIGN(const auto quant, checkpoint::read_quant_config(*out.files, config.raw));
  MOESTRO_ASSIGN(out.source, checkpoint::open_safetensors(out.files));
  out.gang = std::make_unique<platform::Gang>(sizes.workers, false);
  const models::SpecRequest request{.config = config,
                                    .quant = quant,
                                    .source = *out.source,
                                    .compute = DType::kF32,
                                    .kv_dtype = DType::kF32,
                                    .limits = {.max_tokens = sizes.step_tokens,
                                               .max_logits_rows = sizes.step_tokens,
                                               .max_context = kContext}};
  MOESTRO_ASSIGN(const auto spec, models::make_model_spec(request));
  MOESTRO_ASSIGN(const auto plan, plan::make_plan(*spec, {.isa = platform::detect_isa(),
                                                          .num_workers = sizes.workers,
                                                          .model_type = config.model_type,
                                                          .compute = DType::kF32,
                                                          .kv_dtype = DType::kF32,
                                                          .page_size = sizes.page_size}));
  MOESTRO_ASSIGN(auto model, spec->load({.source = *out.source,
                                         .store = std::make_shared<quant::WeightArena>(),
                                         .gang = *out.gang,
                                         .progress = {}}));
  engine::EngineOptions o;
  o.page_size = sizes.page_size;
  o.kv_dtype = DType::kF32;
  o.max_model_len = kContext;
  o.max_num_batched_tokens = sizes.step_tokens;
  o.max_num_seqs = sizes.num_seqs;
  o.max_waiting = 100;
  o.enable_prefix_caching = sizes.prefix_caching;
  o.priority_scheduling = true;
  o.long_prefill_token_threshold = sizes.threshold;
  o.model_name = name;
  o.kv_cache_bytes = engine::KvCache::page_bytes(model->kv_widths(), DType::kF32, sizes.page_size) *
                     ((kContext + sizes.page_size - 1) / sizes.page_size + sizes.spare_pages);
  MOESTRO_ASSIGN(out.engine, engine::Engine::create(o, std::move(model), *out.gang, out.metrics));
  return {};
}

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<engine::PositionLogprobs> logprobs;
  engine::FinishReason finish = engine::FinishReason::kNone;
};

struct Ask {
  engine::Request request;
  int cancel_after = -1;  // events; 0: at once, from the submitting thread; -1: never
};

// Runs all at once and waits for the last event of each.
std::vector<Outcome> run(engine::Engine& engine, const std::vector<Ask>& asks, bool cancel) {
  std::vector<Outcome> outcomes(asks.size());
  std::vector<std::atomic<engine::RequestId>> ids(asks.size());
  std::mutex mutex;
  std::condition_variable done;
  size_t left = asks.size();
  for (size_t i = 0; i < asks.size(); ++i) {
    engine::Request r = asks[i].request;
    const int cancel_after = cancel ? asks[i].cancel_after : -1;
    r.on_event = [&, i, cancel_after, events = 0](engine::TokenEvent&& e) mutable {
      Outcome& out = outcomes[i];
      out.tokens.insert(out.tokens.end(), e.tokens.begin(), e.tokens.end());
      std::move(e.logprobs.begin(), e.logprobs.end(), std::back_inserter(out.logprobs));
      out.finish = e.finish;
      if (++events == cancel_after && ids[i] != 0) engine.cancel(ids[i]);
      if (e.finish == engine::FinishReason::kNone) return;
      std::lock_guard lock(mutex);
      if (--left == 0) done.notify_one();
    };
    auto id = engine.submit(std::move(r));
    if (!id.ok()) {
      ADD_FAILURE() << id.status().message();
      std::lock_guard lock(mutex);
      --left;
      continue;
    }
    ids[i] = *id;
    if (cancel_after == 0) engine.cancel(*id);
  }
  std::unique_lock lock(mutex);
  done.wait(lock, [&] { return left == 0; });
  lock.unlock();
  for (engine::EngineStats s = engine.stats(); s.running + s.waiting > 0; s = engine.stats())
    std::this_thread::yield();
  return outcomes;
}

// long_answers: they outgrow the cache, so some are preempted.
std::vector<Ask> random_case(std::mt19937& rng, bool long_answers) {
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(rng() % n); };
  const auto add = [&](std::vector<int32_t>& tokens, uint32_t n) {
    for (; n > 0; --n) tokens.push_back(static_cast<int32_t>(below(kIds)));
  };
  std::vector<std::vector<int32_t>> beginnings(1);
  for (int i = 0; i < 3; ++i) {
    beginnings.push_back(beginnings[below(static_cast<uint32_t>(beginnings.size()))]);
    add(beginnings.back(), 1 + below(20));
  }
  std::vector<Ask> asks(2 + below(5));
  for (Ask& ask : asks) {
    engine::Request& r = ask.request;
    r.prompt = beginnings[below(4)];
    add(r.prompt, r.prompt.empty() ? 1 : below(6));
    r.sampling.max_tokens = 1 + static_cast<int32_t>(below(long_answers ? 60 : 8));
    r.sampling.temperature = below(2) == 0 ? 0 : 0.8;
    r.sampling.seed = rng();
    r.sampling.logprobs = 2;
    r.sampling.prompt_logprobs = below(8) == 0 ? 0 : -1;
    r.priority = static_cast<int32_t>(below(2));
    if (below(6) == 0) r.cache_salt = "tenant";
    if (below(4) == 0) ask.cancel_after = static_cast<int>(below(6));
  }
  return asks;
}

struct Tally {
  int64_t cases = 0, requests = 0, cancelled = 0, tokens = 0;
  double hits = 0, preemptions = 0;
};

// The same tokens with the same log-probabilities, bit for bit: how many rows a step has, and which
// pages, changes no sum in float32. Of what was cancelled: as far as it came.
void compare(const Outcome& got, const Outcome& want, Tally& tally) {
  const bool cut = got.finish == engine::FinishReason::kCancelled;
  tally.cancelled += cut;
  ASSERT_LE(got.tokens.size(), want.tokens.size());
  if (!cut) {
    ASSERT_EQ(got.finish, want.finish);
    ASSERT_EQ(got.tokens.size(), want.tokens.size());
  }
  for (size_t i = 0; i < got.tokens.size(); ++i) {
    ASSERT_EQ(got.tokens[i], want.tokens[i]) << "token " << i;
    const auto &a = got.logprobs[i].entries, &b = want.logprobs[i].entries;
    ASSERT_EQ(a.size(), b.size());
    for (size_t k = 0; k < a.size(); ++k) {
      ASSERT_EQ(a[k].id, b[k].id) << "token " << i;
      ASSERT_EQ(a[k].logprob, b[k].logprob) << "token " << i;
    }
    ++tally.tokens;
  }
}

void run_cases(const std::string& name, int num_engines, int cases_each) {
  std::mt19937 rng(20251125);
  Tally tally;
  Loaded plain;
  ASSERT_TRUE(load(name, {}, plain).ok());
  for (int i = 0; i < num_engines; ++i) {
    Loaded cached;
    Sizes sizes = random_sizes(rng);
    if (i % 25 == 24) sizes.workers = 2;  // not often: workers that wait for each other take time
    const bool long_answers = i % 4 == 3;
    if (long_answers) {
      sizes.spare_pages = 0;
      sizes.num_seqs = std::max(sizes.num_seqs, 4);
      sizes.step_tokens = std::max(sizes.step_tokens, 4);
    }
    const Status loaded = load(name, sizes, cached);
    ASSERT_TRUE(loaded.ok()) << loaded.message();
    for (int k = 0; k < cases_each; ++k, ++tally.cases) {
      const std::vector<Ask> asks = random_case(rng, long_answers);
      const std::vector<Outcome> got = run(*cached.engine, asks, true);
      ASSERT_EQ(cached.engine->stats().kv_pages_used, 0) << "pages leaked";
      const std::vector<Outcome> want = run(*plain.engine, asks, false);
      for (size_t r = 0; r < asks.size(); ++r, ++tally.requests) {
        compare(got[r], want[r], tally);
        ASSERT_FALSE(testing::Test::HasFailure())
            << "engine " << i << ", case " << k << ", request " << r;
      }
      if (rng() % 50 == 0) cached.engine->reset_prefix_cache();
    }
    const Labels labels{{"model_name", name}, {"engine", "0"}};
    tally.hits += cached.metrics.counter("vllm:prefix_cache_hits", "", labels).value();
    tally.preemptions += cached.metrics.counter("vllm:num_preemptions", "", labels).value();
  }
  std::printf(
      "%s: %lld cases, %lld requests (%lld cancelled), %.0f prompt tokens from the cache, %.0f "
      "preemptions, %lld tokens compared\n",
      name.c_str(), static_cast<long long>(tally.cases), static_cast<long long>(tally.requests),
      static_cast<long long>(tally.cancelled), tally.hits, tally.preemptions,
      static_cast<long long>(tally.tokens));
  EXPECT_GT(tally.hits, static_cast<double>(tally.cases) * 5);
  EXPECT_GT(tally.cancelled, tally.cases / 10);
  EXPECT_GT(tally.preemptions, static_cast<double>(tally.cases) / 50);
}

class CacheHitEqualsMiss : public testing::TestWithParam<const char*> {};

TEST_P(CacheHitEqualsMiss, Sample) { run_cases(GetParam(), 6, 10); }
TEST_P(CacheHitEqualsMiss, TenThousandCases) { run_cases(GetParam(), 50, 67); }  // x 3 models

INSTANTIATE_TEST_SUITE_P(Models, CacheHitEqualsMiss,
                         testing::Values("glm_moe_dsa", "glm_moe_dsa_shared_index", "qwen3_moe"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace moestro::tests
