// Engine: owns the model, the KV cache and all sequences on one thread, and runs steps on the gang.
// submit() and cancel() may be called from any thread. See docs/engine-contract.md for what a
// caller may rely on.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/status.h"
#include "engine/request.h"
#include "kernels/op_choice.h"
#include "models/model.h"
#include "platform/gang.h"

namespace moestro::engine {

struct EngineOptions {
  int32_t page_size = 64;      // tokens a KV page ("--block-size")
  int64_t kv_cache_bytes = 0;  // memory for pages; must hold at least one sequence of max_model_len
  DType kv_dtype = DType::kBF16;       // kBF16 or kF32
  int32_t max_model_len = 0;           // tokens of one sequence, prompt and output
  int32_t max_num_batched_tokens = 0;  // tokens of one step
  int32_t max_num_seqs = 0;            // running sequences
  int32_t max_waiting =
      0;  // submit() refuses (kResourceExhausted) beyond max_num_seqs + max_waiting requests
  bool enable_chunked_prefill =
      true;  // false: a prompt is one step (max_num_batched_tokens must hold max_model_len)
  bool enable_prefix_caching = true;
  bool priority_scheduling = false;          // false: requests have no priority
  int32_t long_prefill_token_threshold = 0;  // tokens of one prompt in a step; 0: no such limit
  std::vector<int32_t> eos_token_ids;
  int32_t sampleable_vocab =
      0;                   // ids at or above are never sampled (padding rows of the head); 0: all
  std::string model_name;  // metrics label
  kernels::RowOpsChoice sampling;  // passes over logits; no table: the best that the processor has
};

struct EngineStats {
  int32_t running = 0, waiting = 0;
  int64_t kv_pages_total = 0, kv_pages_used = 0;
  uint64_t steps = 0;
  double seconds_since_progress = 0;  // while there is work: since a step last ended
  bool draining = false;
};

class Engine {
 public:
  // Allocates the KV cache and scratch; no memory, or too little for one sequence: a Status that
  // names flag and sizes. The gang and the registry must outlive the engine; the gang belongs to
  // the engine's thread from now on.
  static Result<std::unique_ptr<Engine>> create(EngineOptions options,
                                                std::unique_ptr<models::Model> model,
                                                platform::Gang& gang, MetricsRegistry& metrics);
  virtual ~Engine() = default;  // cancels what runs, joins the thread

  // Queues the request. Refusals (nothing is queued, on_event is not called): bad ids or
  // parameters, prompt too long (kInvalidArgument), queue full (kResourceExhausted), draining
  // (kUnavailable).
  virtual Result<RequestId> submit(Request request) = 0;
  // The request ends with kCancelled within one step and its pages are free; unknown ids are
  // ignored.
  virtual void cancel(RequestId id) = 0;
  // Requests submitted from now on reuse nothing that was computed before.
  virtual void reset_prefix_cache() = 0;
  // Refuses new requests, lets running and queued ones finish until the deadline, then cancels the
  // rest. Returns when idle.
  virtual void drain(Deadline deadline) = 0;
  virtual EngineStats stats() const = 0;
  virtual const EngineOptions& options() const = 0;
};

}  // namespace moestro::engine
