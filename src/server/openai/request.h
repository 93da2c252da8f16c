// The requests of /v1/chat/completions and /v1/completions as native structs: JSON of a request
// ends here. parse_* check every field that the APIs of OpenAI and vLLM document: it is honoured,
// harmless by nature, or refused with a reason; unknown fields are listed, as vLLM does.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "server/openai/error.h"
#include "server/openai/fields.h"
#include "server/openai/output_constraint.h"
#include "server/server.h"

namespace moestro::server::openai {

// What both endpoints have.
struct GenerateRequest {
  std::string model;       // empty: the served one
  std::string request_id;  // the body's own "request_id"; empty: none
  int32_t n = 1;           // choices a prompt
  bool stream = false, include_usage = false, continuous_usage = false;
  engine::SamplingParams sampling;    // max_tokens is set once the prompt's length is known
  std::optional<int64_t> max_tokens;  // 0: echo only
  std::vector<std::string> stop;
  bool include_stop_in_output = false;
  bool skip_special_tokens = true;
  bool add_special_tokens = false;  // to the prompt
  bool echo = false;
  bool return_token_ids = false, tokens_as_ids = false;
  bool return_prompt_logprobs =
      false;  // sampling.prompt_logprobs is also set by echo with logprobs
  std::optional<int64_t>
      truncate_prompt_tokens;  // keep the last k; -1: as many as the context holds
  OutputConstraint constraint;
  int32_t priority = 0;
  std::string cache_salt;  // empty: none
  std::vector<std::string> unknown_fields;
};

struct CompletionRequest : GenerateRequest {
  std::vector<std::variant<std::string, std::vector<int32_t>>> prompts;  // at least one
};

enum class ToolChoice : uint8_t { kAuto, kNone, kRequired, kNamed };

struct ChatRequest : GenerateRequest {
  json::array messages;              // not empty; roles and content parts checked
  std::optional<json::array> tools;  // not empty
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string forced_tool;          // kNamed
  bool parallel_tool_calls = true;  // false: calls behind the first are left out
  bool include_reasoning = true;
  std::optional<json::array> documents;
  json::object template_kwargs;  // the server's defaults with the request's own over them
  std::optional<std::string> chat_template;
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

struct ParseContext {
  const ServerModel& model;
  const config::ServerOptions& options;
};

std::optional<ApiError> parse_completion_request(const json::object& body,
                                                 const ParseContext& context,
                                                 CompletionRequest& out);
std::optional<ApiError> parse_chat_request(const json::object& body, const ParseContext& context,
                                           ChatRequest& out);

// The part that both share; reads its fields from `fields` and leaves errors there.
void parse_shared_fields(Fields& fields, const ParseContext& context, GenerateRequest& out);
// Of an answer that a grammar ends.
void refuse_other_ends(Fields& fields, const GenerateRequest& request);

}  // namespace moestro::server::openai
