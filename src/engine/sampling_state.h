// SamplingState: what sampling remembers of one request between tokens: its parameters, which ids
// it has seen how often, which ids end it. Built on the submitting thread, read by the sampler on
// any worker, changed by the engine thread between steps.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"

namespace moestro::engine {

class SamplingState {
 public:
  // seed: used if the parameters name none. Ids are in [0, vocab_size); the parameters have been
  // validated.
  SamplingState(SamplingParams params, std::span<const int32_t> prompt,
                std::span<const int32_t> eos_token_ids, uint64_t seed, int32_t vocab_size);

  const SamplingParams& params() const { return params_; }
  bool greedy() const { return params_.temperature < 1e-5; }
  uint64_t seed() const { return seed_; }
  bool is_stop(int32_t id) const;
  // Whether edit() would change the logits of the output token with this index.
  bool edits(int32_t output_idx) const { return always_edits_ || output_idx < params_.min_tokens; }
  // Applies masks, bias and penalties in place; row holds the logits of ids [0, n).
  void edit(float* row, int32_t n, int32_t output_idx) const noexcept;
  // The request has generated this token. Allocates nothing.
  void add(int32_t id);

 private:
  void mask_all_but_allowed(float* row, int32_t n) const noexcept;
  void penalize(float* row, int32_t n) const noexcept;

  SamplingParams params_;  // allowed_token_ids sorted, without repeats
  uint64_t seed_;
  std::vector<int32_t> stop_ids_;  // sorted: EOS (unless ignored) and the request's own
  bool always_edits_, penalties_;
  std::vector<int32_t>
      generated_;  // [vocab] with penalties: times generated; -1: never seen, 0: in the prompt only
  std::vector<int32_t> seen_;  // the ids with generated_ >= 0, reserved for all that can come
};

}  // namespace moestro::engine
