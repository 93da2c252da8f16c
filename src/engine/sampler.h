// Sampler: picks a token from each row of logits and reports log-probabilities. The rows of a step
// are shared out over the gang's workers; a row is worked on by one worker, so its result depends
// on that row and its request alone. Semantics are vLLM's: log-probabilities are those of the raw
// logits; the order of operations is in engine/request.h. The passes over a row are
// kernels::RowOps.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/sampling_state.h"
#include "kernels/row_ops.h"
#include "platform/arena.h"
#include "platform/gang.h"

namespace moestro::engine {

// One row of logits and what to do with it. Neither a draw nor a given token: nothing.
struct SampleTask {
  const float* logits = nullptr;            // [vocab]
  const SamplingState* sampling = nullptr;  // not null: draw the token of this output index
  int32_t output_idx = 0;
  int32_t given_token = -1;   // instead of a drawn one: report the log-probability of this
  int32_t num_logprobs = -1;  // -1: none; k: the token's and the k best
};

enum class SampleOutcome : uint8_t {
  kOk,
  kBadLogits,   // NaN or +infinity among the raw logits, or nothing else than -infinity
  kNoneAllowed  // the masks leave no token
};

struct SampleResult {
  int32_t token = -1;
  SampleOutcome outcome = SampleOutcome::kOk;
  std::span<const TokenLogprob> logprobs;  // the token, then the best; valid until the next step
};

// The best implementation for this processor.
const kernels::RowOps& best_row_ops();

class Sampler {
 public:
  // sampleable: ids at or above are never drawn or listed (0: all may be), though log-probabilities
  // are normalised over all vocab columns.
  static Result<Sampler> create(int32_t vocab, int32_t sampleable, int32_t max_rows,
                                int num_workers, const kernels::RowOps& ops);

  // Called by all workers inside one Gang::run, after a barrier; results are complete when the run
  // ends. results: [tasks.size()], at most max_rows. Allocates nothing.
  void run(std::span<const SampleTask> tasks, SampleResult* results,
           platform::Worker& worker) noexcept;

 private:
  struct Candidate {
    double weight;  // exp((logit - max) / temperature)
    float logit;
    int32_t id;
  };
  // One worker's: all arrays are inside memory_.
  struct Scratch {
    Candidate* candidates;  // [sampleable]
    float* row;             // [sampleable] edited logits
    int32_t* indices;       // [sampleable]
    std::byte* top_k;       // for RowOps::top_k
    double* block_sums;     // [blocks of the row]
  };

  Sampler() = default;
  SampleResult sample(const SampleTask& task, TokenLogprob* logprobs,
                      Scratch& scratch) const noexcept;
  int32_t draw(const SamplingState& sampling, int32_t output_idx, const float* row,
               Scratch& scratch) const noexcept;
  int32_t draw_unfiltered(const float* row, float max, float scale, double u,
                          Scratch& scratch) const noexcept;
  int32_t filter(const SamplingParams& params, const float* row, float max,
                 Scratch& scratch) const noexcept;
  int32_t nucleus(const SamplingParams& params, const float* row, float max,
                  Scratch& scratch) const noexcept;
  int32_t collect(const float* row, int32_t count, float max, double temperature,
                  Scratch& scratch) const noexcept;
  void list_logprobs(const SampleTask& task, const kernels::LogitsStats& stats,
                     SampleResult& result, TokenLogprob* out, Scratch& scratch) const noexcept;

  int32_t vocab_ = 0, sampleable_ = 0;
  const kernels::RowOps* ops_ = nullptr;
  platform::Buffer memory_;
  std::vector<Scratch> scratch_;        // one a worker
  std::vector<TokenLogprob> logprobs_;  // [max_rows, kMaxLogprobs + 1]
};

}  // namespace moestro::engine
