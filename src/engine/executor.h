// Executor: runs one step on the gang: the model's forward(), a barrier, then sampling, in one
// parallel region. Owns the model and the logits. Called by the engine thread (worker 0 of the
// gang); the step allocates nothing, locks nothing, throws nothing.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/batch.h"
#include "engine/sampler.h"
#include "kernels/kv_view.h"
#include "kernels/op_choice.h"
#include "models/model.h"
#include "platform/arena.h"
#include "platform/gang.h"

namespace moestro::engine {

class Executor {
 public:
  // max_logits_rows: of one step. The gang outlives the executor.
  static Result<std::unique_ptr<Executor>> create(std::unique_ptr<models::Model> model,
                                                  platform::Gang& gang, int32_t sampleable,
                                                  int32_t max_logits_rows,
                                                  const kernels::RowOpsChoice& sampling);

  models::Model& model() { return *model_; }
  const float* logits() const { return logits_.as<float>(); }
  // Results of the batch's tasks, valid until the next step.
  std::span<const SampleResult> step(const Batch& batch, const kernels::KvView& kv) noexcept;

 private:
  Executor(std::unique_ptr<models::Model> model, platform::Gang& gang, Sampler sampler,
           platform::Buffer logits, int32_t max_logits_rows, kernels::RowOpsChoice sampling);
  void work(platform::Worker& worker) noexcept;

  std::unique_ptr<models::Model> model_;
  platform::Gang& gang_;
  Sampler sampler_;
  const kernels::RowOpsChoice sampling_;
  platform::Buffer logits_;            // float32 [max_logits_rows, vocab]
  std::vector<SampleResult> results_;  // [max_logits_rows]
  std::function<void(platform::Worker&)> job_;
  const Batch* batch_ = nullptr;  // during a step
  const kernels::KvView* kv_ = nullptr;
};

}  // namespace moestro::engine
