#include "engine/request.h"

#include <cmath>
#include <string_view>

#include "base/format.h"

namespace moestro::engine {
namespace {

Status check_range(std::string_view field, double value, double low, double high) {
  if (value >= low && value <= high) return {};  // false for NaN
  return invalid_argument(format("{} is {}; it must be in [{}, {}]", field, value, low, high));
}

Status check_range(std::string_view field, int32_t value, int32_t low, int32_t high) {
  if (value >= low && value <= high) return {};
  return invalid_argument(format("{} is {}; it must be in [{}, {}]", field, value, low, high));
}

Status check_id(std::string_view field, int32_t id, int32_t vocab_size) {
  if (id >= 0 && id < vocab_size) return {};
  return invalid_argument(format("{} has token id {}; ids are in [0, {})", field, id, vocab_size));
}

Status check_count(std::string_view field, size_t count, int32_t vocab_size) {
  if (count <= static_cast<size_t>(vocab_size)) return {};
  return invalid_argument(format("{} has {} entries; at most {} (the vocabulary) make sense", field,
                                 count, vocab_size));
}

}  // namespace

Status SamplingParams::validate(int32_t vocab_size) const {
  constexpr int32_t kMaxInt = INT32_MAX;
  if (!(temperature >= 0) || std::isinf(temperature))
    return invalid_argument(
        format("temperature is {}; it must be finite and at least 0", temperature));
  if (top_k < 0)
    return invalid_argument(format("top_k is {}; it must be at least 0 (0: all tokens)", top_k));
  if (!(top_p > 0 && top_p <= 1))
    return invalid_argument(format("top_p is {}; it must be in (0, 1]", top_p));
  MOESTRO_TRY(check_range("min_p", min_p, 0.0, 1.0));
  MOESTRO_TRY(check_range("presence_penalty", presence_penalty, -2.0, 2.0));
  MOESTRO_TRY(check_range("frequency_penalty", frequency_penalty, -2.0, 2.0));
  // Beyond these a penalised logit leaves float32's range.
  MOESTRO_TRY(check_range("repetition_penalty", repetition_penalty, 1e-6, 1e6));
  MOESTRO_TRY(check_range("max_tokens", max_tokens, 1, kMaxInt));
  MOESTRO_TRY(check_range("min_tokens", min_tokens, 0, kMaxInt));
  if (min_tokens > max_tokens)
    return invalid_argument(
        format("min_tokens is {}; it must not exceed max_tokens ({})", min_tokens, max_tokens));
  MOESTRO_TRY(check_range("logprobs", logprobs, -1, kMaxLogprobs));
  MOESTRO_TRY(check_range("prompt_logprobs", prompt_logprobs, -1, kMaxLogprobs));
  MOESTRO_TRY(check_count("stop_token_ids", stop_token_ids.size(), vocab_size));
  for (const int32_t id : stop_token_ids) MOESTRO_TRY(check_id("stop_token_ids", id, vocab_size));
  MOESTRO_TRY(check_count("logit_bias", logit_bias.size(), vocab_size));
  for (const auto& [id, bias] : logit_bias) {
    MOESTRO_TRY(check_id("logit_bias", id, vocab_size));
    MOESTRO_TRY(check_range(format("logit_bias of token id {}", id), bias, -100.0, 100.0));
  }
  MOESTRO_TRY(check_count("allowed_token_ids", allowed_token_ids.size(), vocab_size));
  for (const int32_t id : allowed_token_ids)
    MOESTRO_TRY(check_id("allowed_token_ids", id, vocab_size));
  return {};
}

}  // namespace moestro::engine
