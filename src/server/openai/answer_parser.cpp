#include "server/openai/answer_parser.h"

#include "base/format.h"
#include "server/random_id.h"

namespace moestro::server::openai {
namespace {

using Kind = text::OutputEvent::Kind;

std::vector<text::ToolSpec> tool_specs(const json::array& tools) {
  std::vector<text::ToolSpec> specs;
  for (const json::value& tool : tools) {  // parse_tools has checked them
    const json::object& function = tool.at("function").get_object();
    const json::value* parameters = json::find(function, "parameters");
    specs.push_back({std::string(json::view(function.at("name").get_string())),
                     parameters ? *parameters : json::value()});
  }
  return specs;
}

}  // namespace

Result<std::unique_ptr<AnswerParser>> AnswerParser::create(const ChatRequest& request,
                                                           const ServerModel& model,
                                                           text::ReasoningStart start) {
  text::OutputParserOptions options;
  options.reasoning_parser = model.reasoning_parser;
  options.start = start;
  if (request.tools && request.tool_choice == ToolChoice::kAuto) {
    options.tool_parser = model.tool_parser;
    options.tools = tool_specs(*request.tools);
  }
  const bool forced =
      request.tool_choice == ToolChoice::kRequired || request.tool_choice == ToolChoice::kNamed;
  if (options.reasoning_parser.empty() && options.tool_parser.empty() && !forced)
    return std::unique_ptr<AnswerParser>();
  options.is_token = [&model](std::string_view tag) {
    const auto id = model.tokenizer->token_id(tag);
    return id && model.tokenizer->is_added(*id);
  };
  MOESTRO_ASSIGN(auto parser, text::OutputParser::create(options));
  std::unique_ptr<AnswerParser> made(new AnswerParser(std::move(parser), request, model));
  if (forced) made->forced_ = text::make_forced_call_parser(request.forced_tool);
  return made;
}

AnswerParser::AnswerParser(std::unique_ptr<text::OutputParser> parser, const ChatRequest& request,
                           const ServerModel& model)
    : parser_(std::move(parser)),
      tokenizer_(*model.tokenizer),
      skip_special_tokens_(request.skip_special_tokens),
      include_reasoning_(request.include_reasoning),
      parallel_calls_(request.parallel_tool_calls) {}

void AnswerParser::push(const engine::TextDelta& delta, Piece& piece) {
  text::OutputEvents events;
  const std::string_view text = delta.text;
  size_t at = 0;
  for (const engine::TextDelta::AddedToken& token : delta.added) {
    parser_->push(text.substr(at, token.begin - at), events);
    at = token.end;
    const std::string_view content = text.substr(token.begin, token.end - token.begin);
    if (parser_->push_token(content, events)) continue;
    if (!skip_special_tokens_ || !tokenizer_.is_special(token.id)) parser_->push(content, events);
  }
  parser_->push(text.substr(at), events);
  if (delta.finish != engine::FinishReason::kNone)
    parser_->finish(delta.finish == engine::FinishReason::kLength, events);
  if (forced_) events = as_forced_calls(events, delta.finish);
  for (const text::OutputEvent& e : events.list()) add(e, piece);
  if (any_call_ && delta.finish == engine::FinishReason::kStop) piece.finish_reason = "tool_calls";
}

// What is content to the parser is the calls' text.
text::OutputEvents AnswerParser::as_forced_calls(const text::OutputEvents& events,
                                                 engine::FinishReason finish) {
  text::OutputEvents out;
  for (const text::OutputEvent& e : events.list()) {
    if (e.kind == Kind::kContent) {
      forced_->push(e.text, out);
    } else {
      out.add(e.kind, e.text);
    }
  }
  if (finish != engine::FinishReason::kNone)
    forced_->finish(finish == engine::FinishReason::kLength, out);
  return out;
}

void AnswerParser::add(const text::OutputEvent& event, Piece& piece) {
  if (event.kind == Kind::kContent) {
    piece.text += event.text;
  } else if (event.kind == Kind::kReasoning) {
    if (include_reasoning_) piece.reasoning += event.text;
  } else if (event.call == 0 || parallel_calls_) {
    any_call_ = true;
    if (piece.tool_calls.empty() || piece.tool_calls.back().index != event.call)
      piece.tool_calls.push_back({event.call, {}, {}, {}});
    ToolCallPiece& call = piece.tool_calls.back();
    if (event.kind == Kind::kCallBegin) {
      call.id = event.id.empty() ? "call_" + random_id() : event.id;
      call.name = event.text;
    } else {
      call.arguments += event.text;
    }
  }
}

}  // namespace moestro::server::openai
