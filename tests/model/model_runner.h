// Runs a model without the engine: makes spec, plan and weights, lays out a paged cache with
// shuffled pages, and feeds prompts in chunks of chosen sizes, alone or side by side. For the
// golden tests.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/weight_source.h"
#include "models/model_spec.h"
#include "plan/plan.h"
#include "platform/gang.h"

namespace moestro::tests {

struct RunnerOptions {
  DType compute = DType::kF32, kv = DType::kF32;
  int workers = 1;
  int32_t page_size = 16;
  int32_t chunk = 1 << 20;  // tokens a sequence gets per step
  int32_t max_context = 1024, max_tokens = 2048;
  platform::IsaSet isa = platform::detect_isa();
  json::object overrides;
  std::function<void(models::ModelSpec&)> after_plan;  // tampers with what was planned
  bool expect_plan_executed = true;
};

class ModelRunner {
 public:
  ~ModelRunner();  // what ran must be what the plan says
  static Result<std::unique_ptr<ModelRunner>> open(const std::string& directory,
                                                   const RunnerOptions& options);
  // Logits of every position of every prompt, [tokens, vocab] each; all prompts run side by side, a
  // chunk each per step.
  std::vector<std::vector<float>> logits(const std::vector<std::vector<int32_t>>& prompts);
  // Greedy continuation, n tokens.
  std::vector<int32_t> greedy(const std::vector<int32_t>& prompt, int32_t n);
  // A step without tokens, as an idle rank takes it.
  void idle_step();
  int32_t vocab() const { return model_->vocab_size(); }
  const plan::Plan& plan() const { return plan_; }

 private:
  struct Sequence {
    std::vector<int32_t> ids;
    int32_t done = 0;  // tokens whose keys are in the cache
    std::vector<int32_t> pages;
  };
  void step(std::vector<Sequence*> sequences, const std::vector<int32_t>& counts,
            std::vector<std::vector<float>>& rows);
  void give_pages(Sequence& s, int32_t tokens);

  RunnerOptions options_;
  std::shared_ptr<const checkpoint::ModelFiles> files_;
  std::unique_ptr<checkpoint::WeightSource> source_;
  std::unique_ptr<platform::Gang> gang_;
  plan::Plan plan_;
  std::unique_ptr<models::Model> model_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<kernels::LayerKv> layers_;
  std::vector<int32_t> free_pages_;
  std::vector<float> logits_;
};

}  // namespace moestro::tests
