// For tests of Core: a core with a fake model, what its requests have answered, and checks of the
// pages after every step.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/core.h"
#include "engine/fake_model_for_test.h"

namespace moestro::engine {

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  int32_t stop_token = -1;
  Status error;
  int num_events = 0, num_cached = 0;
};

inline EngineOptions small_options() {
  EngineOptions o;
  o.page_size = 4;
  o.kv_cache_bytes = 1 << 20;
  o.kv_dtype = DType::kF32;
  o.max_model_len = 128;
  o.max_num_batched_tokens = 32;
  o.max_num_seqs = 8;
  o.max_waiting = 10000;
  o.priority_scheduling = true;
  o.eos_token_ids = {3};
  o.model_name = "fake";
  return o;
}

// A core with a fake model, and what its requests have answered.
class Rig {
 public:
  explicit Rig(const EngineOptions& options, FakeModelOptions model = {}, int workers = 1)
      : gang_(workers, false) {
    auto core = Core::create(options, std::make_unique<FakeModel>(std::move(model), &errors_),
                             gang_, metrics_);
    EXPECT_TRUE(core.ok()) << core.status().message();
    core_ = std::move(core).value();
  }
  ~Rig() {
    core_->cancel_all();
    EXPECT_EQ(errors_, 0) << "the model read a wrong page, slot or position";
    EXPECT_EQ(core_->kv().pool().num_free(), core_->kv().pool().num_blocks()) << "pages leaked";
  }

  RequestId add(std::vector<int32_t> prompt, SamplingParams params, int32_t priority = 0,
                Deadline deadline = {}) {
    Request r;
    r.prompt = std::move(prompt);
    r.sampling = std::move(params);
    r.priority = priority;
    r.deadline = deadline;
    return add(std::move(r));
  }
  RequestId add(Request r) {
    const RequestId id = next_id_++;
    Outcome& out = outcomes_[id];
    r.client_id = "request-" + std::to_string(id);
    r.on_event = [&out](TokenEvent&& e) {
      EXPECT_EQ(out.finish, FinishReason::kNone) << "an event after the last";
      ++out.num_events;
      out.tokens.insert(out.tokens.end(), e.tokens.begin(), e.tokens.end());
      std::move(e.logprobs.begin(), e.logprobs.end(), std::back_inserter(out.logprobs));
      if (!e.prompt_logprobs.empty()) out.prompt_logprobs = std::move(e.prompt_logprobs);
      out.finish = e.finish;
      out.stop_token = e.stop_token;
      out.error = e.error;
      out.num_cached = e.num_cached_tokens;
    };
    EXPECT_TRUE(core_->check(r).ok()) << core_->check(r).message();
    core_->add(core_->make_sequence(id, std::move(r), 1000 + id));
    return id;
  }
  void run() {
    for (int i = 0; !core_->idle(); ++i) {
      ASSERT_LT(i, 100000) << "no end in sight";
      step();
    }
  }
  void step() {
    core_->step();
    check_pages();
  }
  // Every page is held by exactly those who list it, every sequence holds what its tokens need, and
  // only pages that are full and computed are shared.
  void check_pages() const {
    std::map<int32_t, int> holders;
    const BlockPool& pool = core_->kv().pool();
    for (const auto* list : {&core_->running(), &core_->waiting()})
      for (const auto& s : *list) {
        ASSERT_EQ(static_cast<int32_t>(s->pages.size()), core_->kv().pages_for(s->num_computed));
        for (size_t i = 0; i < s->pages.size(); ++i) {
          ++holders[s->pages[i]];
          if (pool.references(s->pages[i]) > 1) {
            ASSERT_LE((static_cast<int32_t>(i) + 1) * core_->kv().page_size(), s->num_computed);
          }
        }
      }
    ASSERT_EQ(static_cast<size_t>(pool.num_blocks() - pool.num_free()), holders.size());
    for (const auto& [page, count] : holders) ASSERT_EQ(pool.references(page), count);
  }
  double preemptions() { return metrics_.counter("vllm:num_preemptions", "", labels()).value(); }
  Labels labels() const { return {{"model_name", "fake"}, {"engine", "0"}}; }
  const Outcome& operator[](RequestId id) { return outcomes_[id]; }
  Core& core() { return *core_; }
  MetricsRegistry& metrics() { return metrics_; }

 private:
  MetricsRegistry metrics_;
  platform::Gang gang_;
  std::atomic<int> errors_{0};
  std::unique_ptr<Core> core_;
  std::map<RequestId, Outcome> outcomes_;
  RequestId next_id_ = 1;
};

inline SamplingParams greedy(int32_t max_tokens) {
  SamplingParams p;
  p.temperature = 0;
  p.max_tokens = max_tokens;
  return p;
}

// Greedy generation written down directly.
inline std::vector<int32_t> expected_greedy(std::vector<int32_t> history, int32_t max_tokens,
                                            int32_t vocab = 101, int32_t eos = 3) {
  std::vector<int32_t> out;
  while (static_cast<int32_t>(out.size()) < max_tokens && (out.empty() || out.back() != eos)) {
    const std::vector<float> row = FakeModel::logits_after(history, vocab);
    out.push_back(static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    history.push_back(out.back());
  }
  return out;
}

inline std::vector<int32_t> random_prompt(std::mt19937& rng, int32_t longest, int32_t vocab = 101) {
  std::vector<int32_t> prompt(1 + rng() % static_cast<uint32_t>(longest));
  for (int32_t& id : prompt) id = static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab));
  return prompt;
}

inline void expect_same(const Outcome& got, const Outcome& want, size_t i) {
  EXPECT_EQ(got.tokens, want.tokens) << "request " << i;
  EXPECT_EQ(got.finish, want.finish) << "request " << i;
  const auto flat = [](const std::vector<PositionLogprobs>& all) {
    std::vector<float> values;
    for (const auto& position : all)
      for (const auto& e : position.entries)
        values.insert(values.end(), {static_cast<float>(e.id), e.logprob});
    return values;
  };
  EXPECT_EQ(flat(got.logprobs), flat(want.logprobs)) << "request " << i;
  EXPECT_EQ(flat(got.prompt_logprobs), flat(want.prompt_logprobs)) << "request " << i;
}

}  // namespace moestro::engine
