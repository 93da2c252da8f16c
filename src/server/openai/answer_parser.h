// AnswerParser: one chat choice's text on its way into the answer, split into reasoning, content
// and tool calls where the model and the request want that. One object a choice, used in the order
// of its events.
#pragma once
#include <memory>

#include "engine/text_stream.h"
#include "server/openai/answer.h"
#include "server/openai/request.h"
#include "server/server.h"
#include "text/parsers/output_parser.h"

namespace moestro::server::openai {

class AnswerParser {
 public:
  // Nothing to parse: nullptr, the text is the content.
  static Result<std::unique_ptr<AnswerParser>> create(const ChatRequest& request,
                                                      const ServerModel& model,
                                                      text::ReasoningStart start);

  // Puts what the delta brings into the piece, and "tool_calls" for a last one's "stop".
  void push(const engine::TextDelta& delta, Piece& piece);

 private:
  AnswerParser(std::unique_ptr<text::OutputParser> parser, const ChatRequest& request,
               const ServerModel& model);
  text::OutputEvents as_forced_calls(const text::OutputEvents& events, engine::FinishReason finish);
  void add(const text::OutputEvent& event, Piece& piece);

  std::unique_ptr<text::OutputParser> parser_;
  std::unique_ptr<text::OutputParser> forced_;  // tool_choice binds the answer to calls
  const text::Tokenizer& tokenizer_;
  const bool skip_special_tokens_, include_reasoning_, parallel_calls_;
  bool any_call_ = false;
};

}  // namespace moestro::server::openai
