// Answers as JSON: whole ones, the chunks of a stream, token log-probabilities. Pure functions of
// plain data, called on the text pool.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "text/tokenizer.h"

namespace moestro::server::openai {

struct AnswerInfo {
  bool chat = false;
  std::string id, model, fingerprint;
  int64_t created = 0;
  std::string role = "assistant";
  bool return_token_ids = false, tokens_as_ids = false;
  bool logprobs = false;         // false: null
  bool usage_in_chunks = false;  // each chunk has "usage", null but for continuous usage
  const text::Tokenizer* tokenizer = nullptr;
};

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0;
  std::optional<int64_t> cached_tokens;
};

// A tool call, or what a chunk brings of one: id and name once, arguments bit by bit.
struct ToolCallPiece {
  int32_t index = 0;
  std::string id, name, arguments;
};

// A piece of one choice: all of it in a whole answer, or what one chunk brings.
struct Piece {
  int32_t index = 0;
  std::string text, reasoning;
  std::vector<ToolCallPiece> tool_calls;
  std::vector<int32_t> tokens;
  std::vector<engine::PositionLogprobs> logprobs;  // as many as tokens, or empty
  int64_t text_offset = 0;                         // code points of this choice before the piece
  std::string finish_reason;                       // empty: null
  json::value stop_reason;                         // the stop string or token id; null
  bool first = false;                              // a chat stream starts with the role
  std::optional<std::vector<int32_t>> prompt_ids;  // with return_token_ids, in the first piece
  json::value prompt_logprobs;                     // null: not asked for
};

std::string chunk_json(const AnswerInfo& info, const Piece& piece,
                       const std::optional<Usage>& usage);
std::string usage_chunk_json(const AnswerInfo& info, const Usage& usage);
std::string whole_json(const AnswerInfo& info, const std::vector<Piece>& pieces,
                       const Usage& usage);

// {"token", "logprob", "bytes", "top_logprobs"} a position.
json::value chat_logprobs(const AnswerInfo& info, const Piece& piece);
// {"text_offset", "token_logprobs", "tokens", "top_logprobs"}; a position without entries (the
// first prompt token) has nulls.
json::value completion_logprobs(const AnswerInfo& info, const Piece& piece);
// vLLM's "prompt_logprobs": null for the first token, then {"<id>": {"logprob", "rank",
// "decoded_token"}}.
json::value prompt_logprobs_json(const text::Tokenizer& tokenizer,
                                 const std::vector<engine::PositionLogprobs>& positions);

int64_t count_code_points(std::string_view utf8);

}  // namespace moestro::server::openai
