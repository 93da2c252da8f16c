// The engine with its thread: intake, refusals, cancellation, drain, destruction, statistics,
// callers from many threads; and what the step path allocates.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "engine/allocations_for_test.h"
#include "engine/core.h"
#include "engine/fake_model_for_test.h"

namespace moestro::engine {
namespace {

using namespace std::chrono_literals;

// Holds the engine's thread inside a step until opened.
class Gate {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void wait_until_reached() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

EngineOptions options_of(int32_t num_seqs, int32_t waiting) {
  EngineOptions o;
  o.page_size = 4;
  o.kv_cache_bytes = 1 << 20;
  o.max_model_len = 256;
  o.max_num_batched_tokens = 64;
  o.max_num_seqs = num_seqs;
  o.max_waiting = waiting;
  return o;
}

struct Rig {
  explicit Rig(const EngineOptions& options,
               std::function<void(const kernels::StepInput&)> on_step = {}, int workers = 1)
      : gang(workers, false) {
    FakeModelOptions model;
    model.on_step = std::move(on_step);
    auto created =
        Engine::create(options, std::make_unique<FakeModel>(model, &errors), gang, metrics);
    EXPECT_TRUE(created.ok()) << created.status().message();
    engine = std::move(created).value();
  }
  ~Rig() {
    engine.reset();
    EXPECT_EQ(errors, 0);
  }
  std::atomic<int> errors{0};
  MetricsRegistry metrics;
  platform::Gang gang;
  std::unique_ptr<Engine> engine;
};

// A request and a future of how it ended and how many tokens it got.
struct Answer {
  FinishReason finish;
  size_t num_tokens;
};
struct Asked {
  Request request;
  std::future<Answer> answer;
};
Asked ask(int32_t max_tokens, std::vector<int32_t> prompt = {1, 2, 3}) {
  Asked asked;
  asked.request.prompt = std::move(prompt);
  asked.request.sampling.temperature = 0;
  asked.request.sampling.max_tokens = max_tokens;
  auto promise = std::make_shared<std::promise<Answer>>();
  asked.answer = promise->get_future();
  auto count = std::make_shared<size_t>(0);
  asked.request.on_event = [promise, count](TokenEvent&& e) {
    *count += e.tokens.size();
    if (e.finish != FinishReason::kNone) promise->set_value({e.finish, *count});
  };
  return asked;
}

TEST(Engine, AnswersFromManyThreads) {
  Rig rig(options_of(6, 1000), {}, 2);
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&, t] {
      std::vector<std::pair<RequestId, Asked>> mine;
      for (int i = 0; i < 12; ++i) {
        Asked asked =
            ask(1 + (t * 12 + i) % 12, std::vector<int32_t>(static_cast<size_t>(1 + i), t));
        Request request = std::move(asked.request);
        const Result<RequestId> id = rig.engine->submit(std::move(request));
        ASSERT_TRUE(id.ok());
        mine.emplace_back(*const_cast<Result<RequestId>&>(id), std::move(asked));
        if (i % 5 == 4) rig.engine->cancel(mine.back().first);
        EXPECT_GE(rig.engine->stats().waiting, 0);
      }
      for (int i = 0; i < 12; ++i) {
        const Answer answer = mine[static_cast<size_t>(i)].second.answer.get();
        if (i % 5 == 4) continue;
        EXPECT_EQ(answer.finish, FinishReason::kLength);
        EXPECT_EQ(answer.num_tokens, static_cast<size_t>(1 + (t * 12 + i) % 12));
      }
    });
  for (std::thread& t : callers) t.join();
  rig.engine->drain(Deadline{});
  const EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.kv_pages_used, 0);
  EXPECT_GT(stats.kv_pages_total, 0);
  EXPECT_GT(stats.steps, 0u);
  EXPECT_EQ(stats.seconds_since_progress, 0);
}

TEST(Engine, TheQueueHasALimit) {
  Gate gate;
  Rig rig(options_of(2, 3), [&](const kernels::StepInput&) { gate.wait(); });
  std::vector<Asked> asked;
  for (int i = 0; i < 5; ++i) {
    asked.push_back(ask(2));
    EXPECT_TRUE(rig.engine->submit(asked.back().request).ok());
  }
  const auto refused = rig.engine->submit(ask(2).request);
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(refused.status().message(), testing::AllOf(testing::HasSubstr("5 requests"),
                                                         testing::HasSubstr("--max-num-seqs (2)")));
  Request invalid = ask(2).request;
  invalid.prompt = {};
  EXPECT_EQ(rig.engine->submit(invalid).status().code(),
            Code::kInvalidArgument);  // said before "full"
  gate.open();
  for (Asked& a : asked) EXPECT_EQ(a.answer.get().finish, FinishReason::kLength);
  rig.engine->drain(Deadline{});
}

TEST(Engine, CancelEndsWithinOneStep) {
  std::atomic<int> steps{0};
  Gate gate;
  Rig rig(options_of(4, 4), [&](const kernels::StepInput&) {
    if (++steps == 3) gate.wait();
  });
  Asked asked = ask(200);
  const RequestId id = rig.engine->submit(asked.request).value();
  gate.wait_until_reached();  // in the third step
  rig.engine->cancel(id);
  gate.open();
  const Answer answer = asked.answer.get();
  EXPECT_EQ(answer.finish, FinishReason::kCancelled);
  EXPECT_EQ(answer.num_tokens, 3u);
  rig.engine->drain(Deadline{});
  EXPECT_EQ(rig.engine->stats().kv_pages_used, 0);
}

TEST(Engine, DrainLetsRequestsFinishThenCancels) {
  Gate gate;
  Rig rig(options_of(1, 4), [&](const kernels::StepInput&) { gate.wait(); });
  Asked running = ask(3), queued = ask(3);
  EXPECT_TRUE(rig.engine->submit(running.request).ok());
  EXPECT_TRUE(rig.engine->submit(queued.request).ok());
  std::thread drainer([&] { rig.engine->drain(Deadline::after(1h)); });
  while (!rig.engine->stats().draining) std::this_thread::yield();
  EXPECT_EQ(rig.engine->submit(ask(1).request).status().code(), Code::kUnavailable);
  gate.open();
  drainer.join();
  EXPECT_EQ(running.answer.get().finish, FinishReason::kLength);
  EXPECT_EQ(queued.answer.get().finish, FinishReason::kLength);

  Rig late(options_of(1, 4), [](const kernels::StepInput&) { std::this_thread::sleep_for(1ms); });
  Asked endless = ask(250), behind = ask(250);
  EXPECT_TRUE(late.engine->submit(endless.request).ok());
  EXPECT_TRUE(late.engine->submit(behind.request).ok());
  late.engine->drain(Deadline::after(5ms));
  EXPECT_EQ(endless.answer.get().finish, FinishReason::kCancelled);
  EXPECT_EQ(behind.answer.get().finish, FinishReason::kCancelled);
}

TEST(Engine, DeadlineWhileItRuns) {
  Rig rig(options_of(1, 4), [](const kernels::StepInput&) { std::this_thread::sleep_for(1ms); });
  Asked asked = ask(250);
  asked.request.deadline = Deadline::after(20ms);
  EXPECT_TRUE(rig.engine->submit(asked.request).ok());
  EXPECT_EQ(asked.answer.get().finish, FinishReason::kDeadline);
}

TEST(Engine, DestructionCancelsWhatRuns) {
  Asked asked = ask(250);
  {
    Rig rig(options_of(1, 4), [](const kernels::StepInput&) { std::this_thread::sleep_for(1ms); });
    EXPECT_TRUE(rig.engine->submit(asked.request).ok());
  }
  EXPECT_EQ(asked.answer.get().finish, FinishReason::kCancelled);
}

TEST(Engine, EventsMaySubmitAndCancel) {
  Rig rig(options_of(2, 10));
  Asked second = ask(3);
  Request first = ask(2).request;
  std::atomic<RequestId> id{0};
  first.sampling.max_tokens = 200;
  std::promise<void> done;
  bool asked = false;
  first.on_event = [&](TokenEvent&& e) {
    if (e.finish != FinishReason::kNone) return done.set_value();
    if (asked || id == 0) return;
    asked = true;
    EXPECT_TRUE(rig.engine->submit(second.request).ok());
    rig.engine->cancel(id);
  };
  id = rig.engine->submit(std::move(first)).value();
  done.get_future().wait();
  EXPECT_EQ(second.answer.get().num_tokens, 3u);
}

TEST(Engine, ResetOfThePrefixCacheHoldsForWhatIsSubmittedAfterIt) {
  Rig rig(options_of(4, 4));
  const auto cached = [&] {
    Request request = ask(1).request;
    request.prompt.assign(21, 7);
    std::promise<int32_t> tokens;
    request.on_event = [&](TokenEvent&& e) { tokens.set_value(e.num_cached_tokens); };
    EXPECT_TRUE(rig.engine->submit(std::move(request)).ok());
    return tokens.get_future().get();
  };
  EXPECT_EQ(cached(), 0);
  EXPECT_EQ(cached(), 20);
  rig.engine->reset_prefix_cache();
  EXPECT_EQ(cached(), 0);
  EXPECT_EQ(cached(), 20);
}

TEST(Engine, AStuckStepShowsInTheStatistics) {
  Gate gate;
  Rig rig(options_of(2, 2), [&](const kernels::StepInput&) { gate.wait(); });
  EXPECT_EQ(rig.engine->stats().seconds_since_progress, 0);
  Asked asked = ask(1);
  EXPECT_TRUE(rig.engine->submit(asked.request).ok());
  gate.wait_until_reached();
  std::this_thread::sleep_for(30ms);
  EXPECT_GT(rig.engine->stats().seconds_since_progress, 0.02);
  EXPECT_LT(rig.engine->stats().seconds_since_progress, 60);
  gate.open();
  asked.answer.get();
}

// A step over n sequences allocates n times: the token vector that each event gives away.
// Scheduling, the batch, the model's turn and sampling allocate nothing once they are warm.
TEST(Engine, AStepAllocatesOnlyItsEvents) {
  EngineOptions options = options_of(8, 8);
  platform::Gang gang(2, false);
  MetricsRegistry metrics;
  auto core =
      Core::create(options, std::make_unique<FakeModel>(FakeModelOptions{}), gang, metrics).value();
  size_t events = 0;
  for (uint64_t i = 0; i < 8; ++i) {
    Request r;
    r.prompt.assign(10, static_cast<int32_t>(i));
    r.sampling.max_tokens = 120;
    r.sampling.seed = i;
    r.sampling.top_k = i % 2 == 0 ? 5 : 0;
    r.sampling.top_p = i % 3 == 0 ? 0.8 : 1;
    r.sampling.repetition_penalty = i % 4 == 0 ? 1.2 : 1;
    r.on_event = [&events](TokenEvent&& e) { events += e.tokens.size(); };
    core->add(core->make_sequence(i, std::move(r), 5));
  }
  for (int i = 0; i < 5; ++i) core->step();
  ASSERT_EQ(core->num_running(), 8);
  events = 0;
  const int64_t before = num_allocations();
  for (int i = 0; i < 20; ++i) core->step();
  EXPECT_EQ(events, 160u);
  EXPECT_EQ(num_allocations() - before, 160);
}

// The same for steps that admit prompts with hits, wait for a leader, name and forget pages, and
// preempt.
TEST(Engine, ThePrefixCacheAllocatesNothingInAStep) {
  EngineOptions options = options_of(8, 32);
  options.kv_cache_bytes =
      66 * KvCache::page_bytes(FakeModel({}).kv_widths(), options.kv_dtype, options.page_size);
  platform::Gang gang(1, false);
  MetricsRegistry metrics;
  auto core =
      Core::create(options, std::make_unique<FakeModel>(FakeModelOptions{}), gang, metrics).value();
  int64_t events = 0;
  for (uint64_t i = 0; i < 24; ++i) {
    Request r;
    r.prompt.assign(30, static_cast<int32_t>(i / 3));
    r.sampling.max_tokens = 60;
    r.cache_salt = i % 2 == 0 ? "a salt that is longer than a small string" : "";
    r.on_event = [&events](TokenEvent&& e) { events += static_cast<int64_t>(e.tokens.size()); };
    core->add(core->make_sequence(i, std::move(r), 5));
  }
  const int64_t before = num_allocations();
  while (!core->idle()) core->step();
  EXPECT_EQ(events, 24 * 60);
  EXPECT_EQ(num_allocations() - before, events);
  const Labels labels{{"model_name", ""}, {"engine", "0"}};
  EXPECT_GT(metrics.counter("vllm:prefix_cache_hits", "", labels).value(), 200);
  EXPECT_GT(metrics.counter("vllm:num_preemptions", "", labels).value(), 0);
}

// What the engine adds to a step: 64 sequences that decode greedily, a model that does nothing.
// With 64 logits a row the passes over logits cost nothing, and what is left is the engine's own
// work.
class NullModel final : public models::Model {
 public:
  explicit NullModel(int32_t vocab) : vocab_(vocab) {}
  int32_t vocab_size() const override { return vocab_; }
  std::vector<models::LayerKvWidths> kv_widths() const override { return {{1, 0, 0}}; }
  const models::ModelLimits& limits() const override { return limits_; }
  void forward(const kernels::StepInput&, const kernels::KvView&, float*,
               platform::Worker&) noexcept override {}

 private:
  const int32_t vocab_;
  const models::ModelLimits limits_{2048, 64, 40960};
};

double microseconds_a_step(int32_t vocab, int steps) {
  EngineOptions options = options_of(64, 0);
  options.page_size = 64;
  options.max_model_len = 40960;
  options.max_num_batched_tokens = 2048;
  platform::Gang gang(1);
  MetricsRegistry metrics;
  auto core = Core::create(options, std::make_unique<NullModel>(vocab), gang, metrics).value();
  size_t events = 0;
  for (uint64_t i = 0; i < 64; ++i) {
    Request r;
    r.prompt.assign(1000, 1);
    r.sampling.temperature = 0;
    r.sampling.max_tokens = 10000;
    r.on_event = [&events](TokenEvent&& e) { events += e.tokens.size(); };
    core->add(core->make_sequence(i, std::move(r), 5));
  }
  while (core->num_running() < 64 || core->running().back()->num_generated() == 0) core->step();
  double best = 1e30;
  for (int round = 0; round < 5; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < steps; ++i) core->step();
    best = std::min(best, seconds_since(start) * 1e6 / steps);
  }
  EXPECT_GE(events, static_cast<size_t>(64 * steps * 5));
  return best;
}

TEST(Engine, OverheadOfAStep) {
  const double own = microseconds_a_step(64, 20), with_passes = microseconds_a_step(151552, 1);
  std::printf(
      "64 sequences, greedy, 1 worker: the engine's own work %.0f us a step; with the passes over "
      "151552 logits %.0f us\n",
      own, with_passes);
  EXPECT_LT(own, 20e3);  // a wide bound: machines that run tests are busy
}

}  // namespace
}  // namespace moestro::engine
