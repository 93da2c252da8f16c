// OutputParser: splits what a model writes into reasoning, content and tool calls while it is being
// written. One machine per format of reference/models.md §7; the result does not depend on how the
// text was cut into pieces, so a stream and a whole answer are the same. Text is never lost: what
// does not hold as a call is content (white space around calls excepted). Made by server/ for one
// answer, used by one thread at a time; no call fails, whatever the text.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace moestro::text {

// A function that a request offers. parameters: its JSON schema; null: unknown.
struct ToolSpec {
  std::string name;
  json::value parameters;
};

struct OutputEvent {
  enum class Kind : uint8_t { kReasoning, kContent, kCallBegin, kArguments };
  Kind kind = Kind::kContent;
  int32_t call = -1;  // kCallBegin, kArguments: 0, 1, …
  std::string text;   // kCallBegin: the function's name; else the next piece
  std::string id;     // kCallBegin: the model's own id (Kimi), mostly empty
  bool operator==(const OutputEvent&) const = default;
};
// In order; neighbours of one kind are one event.
class OutputEvents {
 public:
  void add(OutputEvent::Kind kind, std::string_view text, int32_t call = -1);
  void begin_call(int32_t call, std::string_view name, std::string_view id = {});
  std::vector<OutputEvent>& list() { return list_; }
  const std::vector<OutputEvent>& list() const { return list_; }

 private:
  std::vector<OutputEvent> list_;
};

// Where the output begins, by what the prompt ends with.
enum class ReasoningStart : uint8_t {
  kWait,    // the model may write the opening tag itself
  kInside,  // the prompt ends with the opening tag
  kOutside  // the prompt ends with the closing tag: nothing is reasoning
};

struct OutputParserOptions {
  std::string reasoning_parser;  // names as in parser_names.h; empty: reasoning is content
  std::string tool_parser;       // empty: calls are content
  std::vector<ToolSpec> tools;   // calls of other functions are content; empty: any name will do
  ReasoningStart start = ReasoningStart::kWait;
  // Whether a tag is one token of the model's. Such a tag is only seen where push_token() brings
  // it, so text that merely looks like it stays text. Empty: tags are text.
  std::function<bool(std::string_view)> is_token;
};

class OutputParser {
 public:
  // An unknown name is kInvalidArgument and lists the known ones.
  static Result<std::unique_ptr<OutputParser>> create(const OutputParserOptions& options);
  virtual ~OutputParser() = default;

  // The next piece of text, UTF-8, cut anywhere.
  virtual void push(std::string_view text, OutputEvents& out) = 0;
  // The next token is an added one with this content. False: it is none of the format's tags, and
  // was not taken.
  virtual bool push_token(std::string_view content, OutputEvents& out) = 0;
  // The end. cut: by the limit of tokens, not by the model: an open call stays open (its arguments
  // are no JSON), where the model's own end closes it.
  virtual void finish(bool cut, OutputEvents& out) = 0;
};

// A whole answer that a grammar bound to calls (tool_choice "required", or a named function).
// name: the function whose arguments the output is; empty: an array of {"name", "parameters"}.
std::unique_ptr<OutputParser> make_forced_call_parser(std::string name);

}  // namespace moestro::text
