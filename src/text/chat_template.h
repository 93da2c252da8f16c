// ChatTemplate: a published chat template (Jinja2), compiled once and rendered for each request as
// transformers does it: immutable sandbox, trim_blocks, lstrip_blocks, loopcontrols, {% generation
// %}, its tojson, raise_exception and strftime_now. Called by server/ and app/ on the text pool; a
// compiled template is immutable, so render() may run on any number of threads at once. A template
// sees its Input and nothing else: no files, no environment, no clock but `now`.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/deadline.h"
#include "base/json.h"
#include "base/status.h"

namespace moestro::text {

class ChatTemplate {
 public:
  // kInvalidArgument names the line: "template line 12: expected token 'block_end', got 'x'".
  // Constructs that reach outside the template (include, import, extends) are kUnsupported.
  static Result<std::unique_ptr<ChatTemplate>> compile(std::string_view source);
  ~ChatTemplate();

  struct Input {
    const json::value* messages = nullptr;   // array of message objects; must outlive the call
    const json::value* tools = nullptr;      // null: the template sees None
    const json::value* documents = nullptr;  // null: the template sees None
    bool add_generation_prompt = true;
    // chat_template_kwargs of the request, null: none. They may override the special tokens, but
    // not the four above.
    const json::object* kwargs = nullptr;
    // A token that the tokenizer lacks is undefined in the template.
    std::optional<std::string> bos_token, eos_token, pad_token, unk_token;
    std::optional<int64_t>
        now;  // Unix seconds, shown by strftime_now as UTC; absent: the system clock
  };
  // What one render may use. Every real template stays a hundredfold below the defaults.
  struct Limits {
    uint64_t max_steps = 20'000'000;         // nodes evaluated and elements touched, about a second
    uint64_t max_output_bytes = 64u << 20;   // of the rendered text
    uint64_t max_memory_bytes = 256u << 20;  // of all values that the render makes
    uint64_t max_depth = 200;                // nested macro calls and recursive loops
    Deadline deadline;
  };
  // kInvalidArgument: raise_exception (exactly its message), an error in the template ("template
  // line 3: …"), or a budget of `limits` was used up (the message names it); kDeadlineExceeded.
  Result<std::string> render(const Input& input, const Limits& limits) const;
  Result<std::string> render(const Input& input) const { return render(input, Limits()); }

  // Whether the source names this variable anywhere, e.g. "tools" or "enable_thinking".
  bool mentions(std::string_view variable) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);
  std::unique_ptr<const Program> program_;
};

// The messages of an OpenAI request as templates want them: tool_calls[].function.arguments, a JSON
// string there, becomes the object it holds (a string that is no JSON object stays as it is).
json::value with_parsed_tool_arguments(const json::value& messages);

// The templates and special tokens that a model's files hold.
struct ChatTemplateFiles {
  std::string source;       // empty: the model has none
  std::string tool_source;  // the "tool_use" variant; empty: `source` serves tools too
  std::optional<std::string> bos_token, eos_token, pad_token, unk_token;
};
// The content of tokenizer_config.json ("chat_template": the text, or a list of {name, template}
// with "default" and "tool_use") and of chat_template.jinja, which takes the place of both; empty:
// there is no such file. No JSON object, or a "chat_template" of another kind: kDataLoss.
Result<ChatTemplateFiles> chat_template_files(std::string_view tokenizer_config_json,
                                              std::string chat_template_jinja);

}  // namespace moestro::text
