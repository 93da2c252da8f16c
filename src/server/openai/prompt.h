// From a parsed request to token ids: chat templates, tokenizing, and whether prompt and answer fit
// the context. Called on the text pool.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/openai/error.h"
#include "server/openai/request.h"
#include "server/server.h"
#include "text/parsers/output_parser.h"

namespace moestro::server::openai {

// How a template wants the content of a message.
enum class ContentFormat { kString, kParts };

// What is worked out once per model.
struct PromptContext {
  const ServerModel& model;
  const config::ServerOptions& options;
  ContentFormat content_format =
      ContentFormat::kString;  // of the model's template, unless the flag fixes it
  size_t max_token_bytes = 1;  // of text that one token can stand for
};
PromptContext make_prompt_context(const ServerModel& model, const config::ServerOptions& options);

struct Prompt {
  std::vector<int32_t> ids;
  std::string text;  // what echo shows; set for completions with echo
  text::ReasoningStart reasoning_start = text::ReasoningStart::kWait;  // of chat answers
  std::string chat_echo;  // the last message's content, for chat with echo
};

std::optional<ApiError> make_chat_prompt(const ChatRequest& request, const PromptContext& context,
                                         Deadline deadline, Prompt& out);
std::optional<ApiError> make_completion_prompt(const CompletionRequest& request, size_t prompt_idx,
                                               const PromptContext& context, Prompt& out);

// sampling.max_tokens for a prompt of so many tokens; an error names both numbers when they exceed
// the context.
std::optional<ApiError> fit_to_context(const GenerateRequest& request, bool chat,
                                       size_t prompt_tokens, const ServerModel& model,
                                       int32_t& max_tokens);

}  // namespace moestro::server::openai
