// Core: all that the engine thread owns (sequences, KV cache, scheduler, batch, executor) and one
// step of its work. No thread and no lock inside: Engine drives it, and so do tests. check() and
// make_sequence() may run on any thread, the rest on one.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "engine/kv_cache.h"
#include "engine/metrics.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

namespace moestro::engine {

class Core {
 public:
  static Result<std::unique_ptr<Core>> create(EngineOptions options,
                                              std::unique_ptr<models::Model> model,
                                              platform::Gang& gang, MetricsRegistry& metrics);

  const EngineOptions& options() const { return options_; }
  // Whether the request could ever run here: parameters, ids, length.
  Status check(const Request& request) const;
  // For a request that check() accepts. seed: for sampling, if the request names none.
  std::unique_ptr<Sequence> make_sequence(RequestId id, Request request, uint64_t seed) const;

  void add(std::unique_ptr<Sequence> sequence);
  void cancel(RequestId id);
  void cancel_all();
  // Nothing computed so far is reused by requests that start later.
  void reset_prefix_cache();
  // Ends what is past its deadline, then schedule -> step -> commit. Not with idle().
  void step();

  bool idle() const { return running_.empty() && waiting_.empty(); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  uint64_t num_steps() const { return num_steps_; }
  uint64_t num_ended() const { return num_ended_; }  // requests since the start
  const KvCache& kv() const { return kv_; }
  const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  const std::vector<std::unique_ptr<Sequence>>& waiting() const { return waiting_; }

 private:
  using Sequences = std::vector<std::unique_ptr<Sequence>>;
  Core(EngineOptions options, KvCache kv, std::unique_ptr<Executor> executor,
       int32_t max_logits_rows, MetricsRegistry& metrics);

  void end_expired(Clock::time_point now);
  void apply(const Decision& decision, Clock::time_point now);
  void preempt_last();
  void admit(const Decision& decision, Clock::time_point now);
  void commit(const Decision& decision, std::span<const SampleResult> results);
  void publish(Sequence& s);
  bool commit_prompt_rows(Sequence& s, int32_t num_tokens, int32_t first_row,
                          std::span<const SampleResult> results, Clock::time_point now);
  void commit_token(Sequence& s, const SampleResult& result, Clock::time_point now);
  void fail(Sequence& s, SampleOutcome outcome, int32_t position, Clock::time_point now);
  void end(Sequence& s, FinishReason reason, TokenEvent event, Clock::time_point now);
  void remove_ended();
  static void insert_by_rank(Sequences& list, std::unique_ptr<Sequence> sequence);

  const EngineOptions options_;
  KvCache kv_;
  std::unique_ptr<Executor> executor_;
  Scheduler scheduler_;
  Batch batch_;
  EngineMetrics metrics_;
  const int32_t vocab_, max_logits_rows_;
  const kernels::KvView kv_view_;
  Sequences running_, waiting_;  // in rank order, reserved
  Deadline earliest_deadline_;   // no request's is earlier
  uint64_t num_steps_ = 0, num_ended_ = 0;
};

}  // namespace moestro::engine
