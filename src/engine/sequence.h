// Sequence: one request inside the engine. Built by the submitting thread (which pays for its
// memory), then owned by the engine thread. Everything that grows has room reserved, so a step
// allocates nothing for it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/deadline.h"
#include "engine/prefix_index.h"
#include "engine/request.h"
#include "engine/sampling_state.h"

namespace moestro::engine {

struct Sequence {
  Sequence(RequestId sequence_id, Request r, int32_t max_len, int32_t max_pages,
           SamplingState state, PrefixChain chain)
      : id(sequence_id),
        request(std::move(r)),
        sampling(std::move(state)),
        prefix(std::move(chain)),
        max_tokens(max_len) {
    num_prompt = static_cast<int32_t>(request.prompt.size());
    pages.reserve(static_cast<size_t>(max_pages));
    tokens.reserve(static_cast<size_t>(max_len));
    tokens.assign(request.prompt.begin(), request.prompt.end());
    request.prompt = {};
    prefix.extend(tokens);
  }

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_generated() const { return num_tokens() - num_prompt; }
  int32_t num_remaining() const { return num_tokens() - num_computed; }  // >= 1 while it runs
  bool decoding() const { return num_remaining() == 1 && num_computed > 0; }
  // Prompt positions with a smaller index need no row of logits of their own (any more).
  int32_t first_prompt_row() const { return wants_prompt_rows() ? prompt_rows_done : num_prompt; }
  // Rows of logits for n tokens from `first`: one for each prompt position still owed, one for the
  // last token.
  int32_t logits_rows(int32_t first, int32_t n) const {
    const int32_t end = first + n;
    const int32_t prompt_rows =
        std::max(0, std::min(end, num_prompt) - std::max(first, first_prompt_row()));
    const bool last = end == num_tokens() && !(prompt_rows > 0 && end <= num_prompt);
    return prompt_rows + (last ? 1 : 0);
  }
  bool wants_prompt_rows() const {
    return request.sampling.prompt_logprobs >= 0 || request.on_prompt_logits != nullptr;
  }
  // Tokens that need not be computed if the cache has them: not the last, whose logits are wanted,
  // nor prompt positions whose rows are still owed.
  int32_t max_cached() const {
    const int32_t most = num_tokens() - 1;
    return wants_prompt_rows() && prompt_rows_done < num_prompt ? std::min(most, prompt_rows_done)
                                                                : most;
  }
  // Who runs first: lower priority value, then earlier arrival.
  bool before(const Sequence& other) const {
    return request.priority != other.request.priority ? request.priority < other.request.priority
                                                      : id < other.id;
  }

  RequestId id;
  Request request;  // its `prompt` has moved to `tokens`
  SamplingState sampling;
  PrefixChain prefix;           // keys of full pages, for prefix reuse
  std::vector<int32_t> tokens;  // prompt, then generated; reserved to max_tokens
  std::vector<int32_t> pages;   // block table; reserved for max_tokens
  int32_t num_prompt = 0;
  int32_t max_tokens;         // prompt and output, at most max_model_len
  int32_t num_computed = 0;   // tokens whose keys and values are in the cache
  int32_t num_cached = 0;     // prompt tokens that were there when it was first scheduled
  int32_t num_published = 0;  // pages others may share
  bool publishes = true;      // false: its pages are from before the prefix cache was reset
  int32_t prompt_rows_done =
      0;  // prompt positions whose logits have been used, also by a run that was preempted
  uint64_t last_step = 0;                         // number of the step it was last part of
  std::vector<PositionLogprobs> prompt_logprobs;  // until the first event

  Clock::time_point arrived, first_scheduled, first_token, last_token;
  bool scheduled_before = false;
  bool ended = false;  // its last event is out; leaves the engine when the step is committed
};

}  // namespace moestro::engine
