// What goes into the engine and what comes out: Request and TokenEvent, plain data that crosses the
// engine's two queues. Made by server/ and app/, read by the engine thread.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/status.h"
#include "engine/token_constraint.h"

namespace moestro::engine {

// Most alternatives a token may ask for ("--max-logprobs" bounds a server's clients below this).
inline constexpr int32_t kMaxLogprobs = 128;

inline constexpr size_t kMaxCacheSaltBytes = 1024;

// Applied to the logits of a position in vLLM's order: allowed ids, min_tokens' mask, bias,
// repetition, frequency and presence penalty; then greedy choice, or temperature, min_p, top_k,
// top_p and a draw.
struct SamplingParams {
  double temperature = 1.0;                                // below 1e-5: greedy
  int32_t top_k = 0;                                       // 0: all
  double top_p = 1.0;                                      // (0, 1]
  double min_p = 0.0;                                      // [0, 1]
  double presence_penalty = 0.0, frequency_penalty = 0.0;  // [-2, 2], over generated tokens
  double repetition_penalty = 1.0;  // [1e-6, 1e6], over prompt and generated tokens
  std::optional<uint64_t>
      seed;                 // the same seed and logits give the same tokens, whatever else runs
  int32_t max_tokens = 16;  // new tokens, >= 1 (the engine also stops at max_model_len)
  int32_t min_tokens = 0;   // no stop of any kind before
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;  // beside the model's own EOS ids
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<int32_t> allowed_token_ids;       // empty: all
  std::shared_ptr<TokenConstraint> constraint;  // of this request alone; null: none
  int32_t logprobs =
      -1;  // -1: none; k <= kMaxLogprobs: the sampled token's and the k best, of the raw logits
  int32_t prompt_logprobs = -1;  // the same for every prompt token but the first

  // Each field checked on its own (NaN, ranges, counts), naming the field, its value and the range.
  // vocab_size bounds ids.
  Status validate(int32_t vocab_size) const;
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kDeadline, kError };

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
  int32_t rank = 0;  // 1: the most likely; among equals the lower id comes first
};

// The sampled token first, then the k best in order.
struct PositionLogprobs {
  std::vector<TokenLogprob> entries;
};

// Some progress of one request: zero or more new tokens, and once, last, a finish reason.
struct TokenEvent {
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs;  // as many as tokens, or empty
  std::vector<PositionLogprobs>
      prompt_logprobs;  // once, with the first event, if asked for; entry 0 is empty
  int32_t num_prompt_tokens = 0;
  int32_t num_cached_tokens = 0;  // of these, found in the prefix cache
  FinishReason finish = FinishReason::kNone;
  int32_t stop_token = -1;  // the EOS or stop token that ended it (it is the last of `tokens`)
  Status error;             // kError: why
};

using RequestId = uint64_t;

struct Request {
  std::string client_id;        // for logs and messages: "chatcmpl-…"
  std::vector<int32_t> prompt;  // 1 .. max_model_len - 1 ids, all in [0, vocab_size)
  SamplingParams sampling;
  int32_t priority = 0;    // lower runs first; 0 unless EngineOptions::priority_scheduling
  std::string cache_salt;  // prefixes are shared only with requests of the same salt
  Deadline deadline;
  // Called on the engine thread; must not block or throw (hand over to your own thread). After an
  // event with a finish reason it is never called again and is destroyed.
  std::function<void(TokenEvent&&)> on_event;
  // If set: raw logits of prompt rows [first_position, first_position + rows), float32 [rows,
  // vocab], valid during the call.
  std::function<void(int32_t first_position, int32_t rows, int32_t vocab, const float* logits)>
      on_prompt_logits;
};

}  // namespace moestro::engine
