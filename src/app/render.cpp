// moestro render: a conversation as the chat template renders it, byte for byte what transformers'
// apply_chat_template gives. The input is taken as it is: arguments of tool calls stay strings
// where they are strings.
#include <algorithm>
#include <ctime>
#include <iostream>
#include <iterator>

#include "app/model_host.h"
#include "app/model_text.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"

namespace moestro::app {
namespace {

constexpr std::string_view kKnownKeys[] = {"messages",
                                           "tools",
                                           "documents",
                                           "add_generation_prompt",
                                           "chat_template_kwargs",
                                           "bos_token",
                                           "eos_token",
                                           "pad_token",
                                           "unk_token",
                                           "now"};

Result<json::object> read_conversation(const std::string& path) {
  json::value file;
  if (path == "-") {
    MOESTRO_ASSIGN(file, json::parse(std::string(std::istreambuf_iterator<char>(std::cin), {})));
  } else {
    MOESTRO_ASSIGN(file, json::parse_file(path));
  }
  if (!file.is_object()) return invalid_argument(format("{}: not a JSON object", path));
  for (const auto& entry : file.get_object())
    if (std::find(std::begin(kKnownKeys), std::end(kKnownKeys), std::string_view(entry.key())) ==
        std::end(kKnownKeys))
      return invalid_argument(
          format("{}: unknown key \"{}\"; template variables go into chat_template_kwargs", path,
                 std::string_view(entry.key())));
  return std::move(file.get_object());
}

// Unix seconds, or "2026-01-31T23:59:59" in UTC.
Result<std::optional<int64_t>> read_now(const json::object& o) {
  const json::value* v = json::find(o, "now");
  if (!v) return std::optional<int64_t>();
  if (v->is_int64()) return std::optional(v->get_int64());
  std::tm tm{};
  if (v->is_string()) {
    const char* end = ::strptime(v->get_string().c_str(), "%Y-%m-%dT%H:%M:%S", &tm);
    if (end && (*end == 0 || std::string_view(end) == "Z"))
      return std::optional(static_cast<int64_t>(::timegm(&tm)));
  }
  return invalid_argument(format(
      "now: {} is neither Unix seconds nor a time like 2026-01-31T23:59:59", json::dump(*v)));
}

Status read_token(const json::object& o, std::string_view key, std::optional<std::string>& token) {
  const json::value* v = o.if_contains(key);
  if (!v) return {};
  token.reset();  // null: the tokenizer has none
  if (v->is_null()) return {};
  if (!v->is_string())
    return invalid_argument(format("{}: {} is no string", key, json::kind_name(*v)));
  token = json::view(v->get_string());
  return {};
}

Result<ModelText> templates(const config::Options& options) {
  if (options.server.chat_template && options.model.model.empty())
    return open_templates(options, *checkpoint::embedded_model_files("no model", {}), "--template");
  MOESTRO_ASSIGN(const auto files, open_files(options));
  return open_templates(options, *files, "--template");
}

}  // namespace

Status run_render(const config::CommandLine& line) {
  const config::Options& options = line.options;
  MOESTRO_ASSIGN(const json::object conversation, read_conversation(*options.tool.input));
  MOESTRO_ASSIGN(const ModelText text, templates(options));
  text::ChatTemplate::Input input = text.template_input();
  input.messages = json::find(conversation, "messages");
  if (!input.messages || !input.messages->is_array())
    return invalid_argument(format("{}: no list \"messages\"", *options.tool.input));
  input.tools = json::find(conversation, "tools");
  input.documents = json::find(conversation, "documents");
  MOESTRO_ASSIGN(input.add_generation_prompt,
                 json::get_bool(conversation, "add_generation_prompt", false));
  if (const json::value* kwargs = json::find(conversation, "chat_template_kwargs")) {
    if (!kwargs->is_object())
      return invalid_argument(
          format("chat_template_kwargs: {}, not an object", json::kind_name(*kwargs)));
    input.kwargs = &kwargs->get_object();
  }
  MOESTRO_TRY(read_token(conversation, "bos_token", input.bos_token));
  MOESTRO_TRY(read_token(conversation, "eos_token", input.eos_token));
  MOESTRO_TRY(read_token(conversation, "pad_token", input.pad_token));
  MOESTRO_TRY(read_token(conversation, "unk_token", input.unk_token));
  MOESTRO_ASSIGN(input.now, read_now(conversation));
  const text::ChatTemplate* chosen =
      input.tools && text.tool_template ? text.tool_template.get() : text.chat_template.get();
  if (!chosen) return not_found("the model has no chat template; --template FILE gives one");
  const Result<std::string> prompt = chosen->render(input);
  // The command line and the input were fine: what the template says is a failure of the run.
  if (!prompt.ok()) return {Code::kInternal, prompt.status().message()};
  if (options.json)
    print_json(json::object{{"prompt", *prompt}});
  else
    print(*prompt);
  return {};
}

}  // namespace moestro::app
