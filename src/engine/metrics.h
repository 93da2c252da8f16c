// EngineMetrics: what the engine tells Prometheus, under vLLM's names and with its buckets (labels
// model_name and engine), so that existing dashboards work. Updates are lock-free; called by the
// engine thread.
#pragma once
#include <cstdint>
#include <string>

#include "base/metrics.h"
#include "engine/engine.h"
#include "engine/sequence.h"

namespace moestro::engine {

class EngineMetrics {
 public:
  // The registry outlives this object.
  EngineMetrics(MetricsRegistry& registry, const EngineOptions& options, int32_t num_pages);

  void on_step(int32_t num_tokens, int32_t num_preempted);
  void on_first_schedule(const Sequence& s, bool asked_cache);
  // Just before s.last_token becomes `now`.
  void on_token(const Sequence& s, Clock::time_point now);
  void on_bad_logits() { corrupted_.add(); }
  void on_finish(const Sequence& s, FinishReason reason, Clock::time_point now);
  void set_state(int32_t running, int32_t waiting, double kv_usage);

 private:
  Counter& success(std::string_view reason);
  Counter& by_source(std::string_view source);

  MetricsRegistry& registry_;
  const Labels labels_;
  Gauge &running_, &waiting_, &kv_usage_;
  Counter &prompt_tokens_, &generation_tokens_, &preemptions_, &corrupted_;
  Counter &prefix_queries_, &prefix_hits_, &prompt_cached_;
  Counter &computed_source_, &cached_source_;  // vllm:prompt_tokens_by_source
  Counter &stop_, &length_, &abort_, &error_;  // vllm:request_success by finished_reason
  Histogram &first_token_, &inter_token_, &per_output_token_;
  Histogram &e2e_, &queue_, &inference_, &prefill_, &decode_;
  Histogram &request_prompt_, &request_generation_, &params_max_tokens_, &iteration_tokens_;
  Histogram& prefill_computed_;
};

}  // namespace moestro::engine
