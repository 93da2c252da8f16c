#include "engine/executor.h"

namespace moestro::engine {

Result<std::unique_ptr<Executor>> Executor::create(std::unique_ptr<models::Model> model,
                                                   platform::Gang& gang, int32_t sampleable,
                                                   int32_t max_logits_rows,
                                                   const kernels::RowOpsChoice& sampling) {
  const int32_t vocab = model->vocab_size();
  auto logits = platform::Buffer::allocate(static_cast<size_t>(max_logits_rows) *
                                           static_cast<size_t>(vocab) * sizeof(float));
  if (!logits.ok()) return logits.status().with("logits (rows: --max-num-seqs)");
  MOESTRO_ASSIGN(Sampler sampler, Sampler::create(vocab, sampleable, max_logits_rows,
                                                  gang.num_workers(), *sampling.table));
  return std::unique_ptr<Executor>(new Executor(std::move(model), gang, std::move(sampler),
                                                std::move(logits).value(), max_logits_rows,
                                                sampling));
}

Executor::Executor(std::unique_ptr<models::Model> model, platform::Gang& gang, Sampler sampler,
                   platform::Buffer logits, int32_t max_logits_rows, kernels::RowOpsChoice sampling)
    : model_(std::move(model)),
      gang_(gang),
      sampler_(std::move(sampler)),
      sampling_(std::move(sampling)),
      logits_(std::move(logits)),
      results_(static_cast<size_t>(max_logits_rows)),
      job_([this](platform::Worker& worker) { work(worker); }) {}

std::span<const SampleResult> Executor::step(const Batch& batch,
                                             const kernels::KvView& kv) noexcept {
  batch_ = &batch;
  kv_ = &kv;
  gang_.run(job_);
  return {results_.data(), batch.tasks().size()};
}

void Executor::work(platform::Worker& worker) noexcept {
  model_->forward(batch_->input(), *kv_, logits_.as<float>(), worker);
  worker.barrier();
  if (!batch_->tasks().empty())
    sampling_.count_step(static_cast<int32_t>(batch_->tasks().size()), worker);
  sampler_.run(batch_->tasks(), results_.data(), worker);
}

}  // namespace moestro::engine
