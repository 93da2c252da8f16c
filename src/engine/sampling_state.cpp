#include "engine/sampling_state.h"

#include <algorithm>
#include <limits>

namespace moestro::engine {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

void mask_by(std::span<const uint32_t> mask, float* row, int32_t n) noexcept {
  for (int32_t first = 0; first < n; first += 32) {
    const auto word = static_cast<size_t>(first) / 32;
    const uint32_t bits = word < mask.size() ? mask[word] : 0;
    const int32_t count = std::min(32, n - first);
    if (bits == 0) {
      std::fill_n(row + first, count, kMinusInfinity);
    } else if (bits != UINT32_MAX) {
      for (int32_t i = 0; i < count; ++i)
        if (!(bits >> i & 1)) row[first + i] = kMinusInfinity;
    }
  }
}

void sort_unique(std::vector<int32_t>& ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace

SamplingState::SamplingState(SamplingParams params, std::span<const int32_t> prompt,
                             std::span<const int32_t> eos_token_ids, uint64_t seed,
                             int32_t vocab_size)
    : params_(std::move(params)),
      seed_(params_.seed.value_or(seed)),
      stop_ids_(params_.stop_token_ids),
      penalties_(params_.repetition_penalty != 1.0 || params_.presence_penalty != 0.0 ||
                 params_.frequency_penalty != 0.0) {
  if (!params_.ignore_eos)
    stop_ids_.insert(stop_ids_.end(), eos_token_ids.begin(), eos_token_ids.end());
  sort_unique(stop_ids_);
  sort_unique(params_.allowed_token_ids);
  always_edits_ = penalties_ || !params_.logit_bias.empty() || !params_.allowed_token_ids.empty() ||
                  params_.constraint;
  if (!penalties_) return;
  generated_.assign(static_cast<size_t>(vocab_size), -1);
  seen_.reserve(std::min(prompt.size() + static_cast<size_t>(params_.max_tokens),
                         static_cast<size_t>(vocab_size)));
  for (const int32_t id : prompt) {
    int32_t& count = generated_[static_cast<size_t>(id)];
    if (count < 0) {
      count = 0;
      seen_.push_back(id);
    }
  }
}

bool SamplingState::is_stop(int32_t id) const {
  return std::binary_search(stop_ids_.begin(), stop_ids_.end(), id);
}

void SamplingState::edit(float* row, int32_t n, int32_t output_idx) const noexcept {
  if (!params_.allowed_token_ids.empty()) mask_all_but_allowed(row, n);
  if (params_.constraint) mask_by(params_.constraint->mask(), row, n);
  if (output_idx < params_.min_tokens)
    for (const int32_t id : stop_ids_)
      if (id < n) row[id] = kMinusInfinity;
  for (const auto& [id, bias] : params_.logit_bias)
    if (id < n) row[id] += bias;
  if (penalties_) penalize(row, n);
}

void SamplingState::add(int32_t id) {
  if (params_.constraint) params_.constraint->advance(id);
  if (!penalties_) return;
  int32_t& count = generated_[static_cast<size_t>(id)];
  if (count < 0) {
    count = 0;
    seen_.push_back(id);
  }
  ++count;
}

void SamplingState::mask_all_but_allowed(float* row, int32_t n) const noexcept {
  int32_t next = 0;
  for (const int32_t id : params_.allowed_token_ids) {
    if (id >= n) break;
    std::fill(row + next, row + id, kMinusInfinity);
    next = id + 1;
  }
  std::fill(row + next, row + n, kMinusInfinity);
}

// Repetition: Keskar et al. 2019 ("CTRL"), for ids of prompt and output; frequency and presence:
// OpenAI's API, for the output.
void SamplingState::penalize(float* row, int32_t n) const noexcept {
  const auto repetition = static_cast<float>(params_.repetition_penalty);
  const auto frequency = static_cast<float>(params_.frequency_penalty);
  const auto presence = static_cast<float>(params_.presence_penalty);
  for (const int32_t id : seen_) {
    if (id >= n) continue;
    float& x = row[id];
    x = x > 0 ? x / repetition : x * repetition;
    const int32_t count = generated_[static_cast<size_t>(id)];
    if (count > 0) x -= frequency * static_cast<float>(count) + presence;
  }
}

}  // namespace moestro::engine
