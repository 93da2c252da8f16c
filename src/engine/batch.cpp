#include "engine/batch.h"

#include <algorithm>

namespace moestro::engine {

Batch::Batch(const BatchLimits& limits) : limits_(limits) {
  const auto tokens = static_cast<size_t>(limits.max_tokens),
             seqs = static_cast<size_t>(limits.max_seqs);
  const auto rows = static_cast<size_t>(limits.max_logits_rows);
  token_ids_.resize(tokens);
  positions_.resize(tokens);
  token_seq_.resize(tokens);
  query_start_.resize(seqs + 1);
  first_row_.resize(seqs + 1);
  block_tables_.resize(seqs * static_cast<size_t>(limits.max_pages_per_seq));
  logits_rows_.reserve(rows);
  tasks_.reserve(rows);
}

void Batch::build(std::span<const Chunk> chunks, const float* logits) {
  tasks_.clear();
  logits_rows_.clear();
  int32_t token = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const Sequence& s = *chunks[i].sequence;
    const int32_t n = chunks[i].num_tokens;
    query_start_[i] = token;
    first_row_[i] = static_cast<int32_t>(tasks_.size());
    std::copy(s.pages.begin(), s.pages.end(),
              block_tables_.begin() + static_cast<std::ptrdiff_t>(i) * limits_.max_pages_per_seq);
    std::copy_n(s.tokens.begin() + s.num_computed, n, token_ids_.begin() + token);
    for (int32_t j = 0; j < n; ++j) positions_[static_cast<size_t>(token + j)] = s.num_computed + j;
    std::fill_n(token_seq_.begin() + token, n, static_cast<int32_t>(i));
    add_rows(s, token, n, logits);
    token += n;
  }
  query_start_[chunks.size()] = token;
  first_row_[chunks.size()] = static_cast<int32_t>(tasks_.size());
  input_ = {token,
            static_cast<int32_t>(chunks.size()),
            token_ids_.data(),
            positions_.data(),
            token_seq_.data(),
            query_start_.data(),
            block_tables_.data(),
            limits_.max_pages_per_seq,
            logits_rows_.data(),
            static_cast<int32_t>(logits_rows_.size())};
}

// Prompt positions still owed, then the last token if one is to be drawn.
void Batch::add_rows(const Sequence& s, int32_t first_token, int32_t num_tokens,
                     const float* logits) {
  const int32_t end = s.num_computed + num_tokens;
  for (int32_t p = s.num_computed; p < end; ++p) {
    const bool prompt_row = p >= s.first_prompt_row() && p < s.num_prompt;
    const bool draw = p + 1 == s.num_tokens();
    if (!prompt_row && !draw) continue;
    SampleTask task;
    task.logits = logits + static_cast<int64_t>(tasks_.size()) * limits_.vocab;
    if (draw) {
      task.sampling = &s.sampling;
      task.output_idx = s.num_generated();
      task.num_logprobs = s.request.sampling.logprobs;
    } else if (s.request.sampling.prompt_logprobs >= 0 && p + 1 < s.num_prompt) {
      task.given_token = s.tokens[static_cast<size_t>(p) + 1];
      task.num_logprobs = s.request.sampling.prompt_logprobs;
    }
    tasks_.push_back(task);
    logits_rows_.push_back(first_token + p - s.num_computed);
  }
}

}  // namespace moestro::engine
