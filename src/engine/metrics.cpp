#include "engine/metrics.h"

#include <vector>

namespace moestro::engine {
namespace {

using Bounds = std::vector<double>;

const Bounds& first_token_bounds() {
  static const Bounds bounds{0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                             0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                             20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
  return bounds;
}

const Bounds& token_bounds() {
  static const Bounds bounds{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                             0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
  return bounds;
}

const Bounds& request_bounds() {
  static const Bounds bounds{0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                             5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                             60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
  return bounds;
}

// 1, 2, 5, 10, 20, … up to the longest sequence.
Bounds length_bounds(int32_t max_model_len) {
  Bounds bounds;
  for (int64_t power = 1;; power *= 10)
    for (const int64_t digit : {1, 2, 5}) {
      if (digit * power > max_model_len) return bounds;
      bounds.push_back(static_cast<double>(digit * power));
    }
}

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

EngineMetrics::EngineMetrics(MetricsRegistry& registry, const EngineOptions& options,
                             int32_t num_pages)
    : registry_(registry),
      labels_{{"model_name", options.model_name}, {"engine", "0"}},
      running_(registry.gauge("vllm:num_requests_running", "Requests that take part in steps.",
                              labels_)),
      waiting_(registry.gauge("vllm:num_requests_waiting", "Requests waiting to be scheduled.",
                              labels_)),
      kv_usage_(registry.gauge("vllm:kv_cache_usage_perc",
                               "Part of the KV pages in use; 1 means all.", labels_)),
      prompt_tokens_(registry.counter("vllm:prompt_tokens", "Prompt tokens processed.", labels_)),
      generation_tokens_(registry.counter("vllm:generation_tokens", "Tokens generated.", labels_)),
      preemptions_(registry.counter("vllm:num_preemptions",
                                    "Times a running request lost its KV pages.", labels_)),
      corrupted_(registry.counter("vllm:corrupted_requests",
                                  "Requests ended by NaN or infinite logits.", labels_)),
      prefix_queries_(registry.counter("vllm:prefix_cache_queries",
                                       "Tokens looked for in the prefix cache.", labels_)),
      prefix_hits_(
          registry.counter("vllm:prefix_cache_hits", "Tokens found in the prefix cache.", labels_)),
      prompt_cached_(registry.counter(
          "vllm:prompt_tokens_cached",
          "Prompt tokens that were not computed because they were cached.", labels_)),
      computed_source_(by_source("local_compute")),
      cached_source_(by_source("local_cache_hit")),
      stop_(success("stop")),
      length_(success("length")),
      abort_(success("abort")),
      error_(success("error")),
      first_token_(registry.histogram("vllm:time_to_first_token_seconds",
                                      "From arrival to the first token.", first_token_bounds(),
                                      labels_)),
      inter_token_(registry.histogram("vllm:inter_token_latency_seconds",
                                      "From one token of a request to its next.", token_bounds(),
                                      labels_)),
      per_output_token_(registry.histogram(
          "vllm:request_time_per_output_token_seconds",
          "Mean time per token after the first, of finished requests.", token_bounds(), labels_)),
      e2e_(registry.histogram("vllm:e2e_request_latency_seconds", "From arrival to the end.",
                              request_bounds(), labels_)),
      queue_(registry.histogram("vllm:request_queue_time_seconds",
                                "From arrival to the first step.", request_bounds(), labels_)),
      inference_(registry.histogram("vllm:request_inference_time_seconds",
                                    "From the first step to the last token.", request_bounds(),
                                    labels_)),
      prefill_(registry.histogram("vllm:request_prefill_time_seconds",
                                  "From the first step to the first token.", request_bounds(),
                                  labels_)),
      decode_(registry.histogram("vllm:request_decode_time_seconds",
                                 "From the first to the last token.", request_bounds(), labels_)),
      request_prompt_(registry.histogram("vllm:request_prompt_tokens",
                                         "Prompt tokens of finished requests.",
                                         length_bounds(options.max_model_len), labels_)),
      request_generation_(registry.histogram("vllm:request_generation_tokens",
                                             "Generated tokens of finished requests.",
                                             length_bounds(options.max_model_len), labels_)),
      params_max_tokens_(registry.histogram("vllm:request_params_max_tokens",
                                            "max_tokens of finished requests.",
                                            length_bounds(options.max_model_len), labels_)),
      iteration_tokens_(registry.histogram(
          "vllm:iteration_tokens_total", "Tokens computed in a step.",
          {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}, labels_)),
      prefill_computed_(registry.histogram("vllm:request_prefill_kv_computed_tokens",
                                           "Prompt tokens computed, of finished requests.",
                                           length_bounds(options.max_model_len), labels_)) {
  registry
      .gauge("vllm:cache_config_info", "The KV cache, in labels.",
             {{"block_size", std::to_string(options.page_size)},
              {"cache_dtype", std::string(torch_name(options.kv_dtype))},
              {"enable_prefix_caching", options.enable_prefix_caching ? "True" : "False"},
              {"engine", "0"},
              {"num_gpu_blocks", std::to_string(num_pages)}})
      .set(1);
}

Counter& EngineMetrics::success(std::string_view reason) {
  Labels labels = labels_;
  labels.emplace_back("finished_reason", reason);
  return registry_.counter("vllm:request_success", "Requests that ended, by reason.",
                           std::move(labels));
}

Counter& EngineMetrics::by_source(std::string_view source) {
  Labels labels = labels_;
  labels.emplace_back("source", source);
  return registry_.counter("vllm:prompt_tokens_by_source",
                           "Prompt tokens by where their keys and values came from.",
                           std::move(labels));
}

void EngineMetrics::on_step(int32_t num_tokens, int32_t num_preempted) {
  iteration_tokens_.observe(num_tokens);
  if (num_preempted > 0) preemptions_.add(num_preempted);
}

void EngineMetrics::on_first_schedule(const Sequence& s, bool asked_cache) {
  queue_.observe(seconds(s.arrived, s.first_scheduled));
  if (!asked_cache) return;
  prefix_queries_.add(s.num_prompt);
  prefix_hits_.add(s.num_cached);
}

void EngineMetrics::on_token(const Sequence& s, Clock::time_point now) {
  generation_tokens_.add();
  if (s.num_generated() > 0) {
    inter_token_.observe(seconds(s.last_token, now));
  } else {
    prompt_tokens_.add(s.num_prompt);
    prompt_cached_.add(s.num_cached);
    cached_source_.add(s.num_cached);
    computed_source_.add(s.num_prompt - s.num_cached);
    first_token_.observe(seconds(s.arrived, now));
  }
}

void EngineMetrics::on_finish(const Sequence& s, FinishReason reason, Clock::time_point now) {
  switch (reason) {
    case FinishReason::kStop:
      stop_.add();
      break;
    case FinishReason::kLength:
      length_.add();
      break;
    case FinishReason::kError:
      error_.add();
      break;
    default:
      abort_.add();
      break;
  }
  e2e_.observe(seconds(s.arrived, now));
  request_prompt_.observe(s.num_prompt);
  request_generation_.observe(s.num_generated());
  params_max_tokens_.observe(s.request.sampling.max_tokens);
  if (s.num_generated() == 0) return;
  prefill_computed_.observe(s.num_prompt - s.num_cached);
  prefill_.observe(seconds(s.first_scheduled, s.first_token));
  decode_.observe(seconds(s.first_token, s.last_token));
  inference_.observe(seconds(s.first_scheduled, s.last_token));
  if (s.num_generated() > 1)
    per_output_token_.observe(seconds(s.first_token, s.last_token) / (s.num_generated() - 1));
}

void EngineMetrics::set_state(int32_t running, int32_t waiting, double kv_usage) {
  running_.set(running);
  waiting_.set(waiting);
  kv_usage_.set(kv_usage);
}

}  // namespace moestro::engine
