// Batch: one step's arrays for the model (kernels::StepInput) and one task for each row of logits,
// filled from a scheduling decision. All memory is taken at construction. Engine thread only;
// constant while a step runs.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "kernels/step_input.h"

namespace moestro::engine {

struct BatchLimits {
  int32_t max_tokens = 0, max_seqs = 0, max_logits_rows = 0;
  int32_t max_pages_per_seq = 0, vocab = 0;
};

class Batch {
 public:
  explicit Batch(const BatchLimits& limits);
  // logits: where the model will write, [max_logits_rows, vocab]. Pages for all chunks are in the
  // sequences' tables.
  void build(std::span<const Chunk> chunks, const float* logits);

  const kernels::StepInput& input() const { return input_; }
  std::span<const SampleTask> tasks() const { return tasks_; }
  // Rows of logits of chunk i: [first_row(i), first_row(i + 1)).
  int32_t first_row(size_t chunk) const { return first_row_[chunk]; }

 private:
  void add_rows(const Sequence& s, int32_t first_token, int32_t num_tokens, const float* logits);

  const BatchLimits limits_;
  kernels::StepInput input_;
  std::vector<int32_t> token_ids_, positions_, token_seq_, query_start_, block_tables_,
      logits_rows_, first_row_;
  std::vector<SampleTask> tasks_;
};

}  // namespace moestro::engine
