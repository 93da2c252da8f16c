#include "text/chat_template.h"

#include <new>
#include <utility>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace moestro::text {

struct ChatTemplate::Program {
  std::unique_ptr<const jinja::Program> code;
};

namespace {

// What the server sets itself; a request may not replace it.
constexpr std::string_view kReserved[] = {"messages", "tools", "documents",
                                          "add_generation_prompt"};

Status status_of(const jinja::Failure& failure, uint32_t line) {
  if (failure.verbatim) return {failure.code, failure.message};
  return {failure.code,
          format("template line {}: {}", failure.line ? failure.line : line, failure.message)};
}

void define_inputs(jinja::Interpreter& interpreter, const ChatTemplate::Input& input) {
  const json::value none;
  const auto token = [&](std::string_view name, const std::optional<std::string>& text) {
    if (text) interpreter.define_text(name, *text);
  };
  token("bos_token", input.bos_token);
  token("eos_token", input.eos_token);
  token("pad_token", input.pad_token);
  token("unk_token", input.unk_token);
  if (input.kwargs) {
    for (const auto& member : *input.kwargs)
      interpreter.define({member.key().data(), member.key().size()}, member.value());
  }
  interpreter.define("messages", input.messages ? *input.messages : none);
  interpreter.define("tools", input.tools ? *input.tools : none);
  interpreter.define("documents", input.documents ? *input.documents : none);
  interpreter.define_value("add_generation_prompt",
                           jinja::Value::boolean(input.add_generation_prompt));
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<const Program> program) : program_(std::move(program)) {}
ChatTemplate::~ChatTemplate() = default;

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::compile(std::string_view source) {
  try {
    auto program = std::make_unique<Program>();
    program->code = jinja::parse(source);
    return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(program)));
  } catch (const jinja::Failure& failure) {
    return status_of(failure, 1);
  } catch (const std::bad_alloc&) {
    return Status(Code::kResourceExhausted, "no memory to compile the chat template");
  }
}

Result<std::string> ChatTemplate::render(const Input& input, const Limits& limits) const {
  if (input.kwargs) {
    for (const std::string_view name : kReserved) {
      if (input.kwargs->contains({name.data(), name.size()})) {
        return invalid_argument(
            format("chat_template_kwargs may not set '{}': the request has a field for it", name));
      }
    }
  }
  std::optional<jinja::Interpreter> interpreter;
  try {
    interpreter.emplace(*program_->code,
                        jinja::Budget{limits.max_steps, limits.max_output_bytes,
                                      limits.max_memory_bytes, limits.max_depth, limits.deadline},
                        input.now);
    define_inputs(*interpreter, input);
    return interpreter->run();
  } catch (const jinja::Failure& failure) {
    return status_of(failure, interpreter ? interpreter->line() : 0);
  } catch (const std::bad_alloc&) {
    return Status(Code::kResourceExhausted, "no memory to render the chat template");
  }
}

bool ChatTemplate::mentions(std::string_view variable) const {
  return program_->code->name_ids.contains(variable);
}

json::value with_parsed_tool_arguments(const json::value& messages) {
  json::value result = messages;
  if (!result.is_array()) return result;
  for (json::value& message : result.get_array()) {
    json::value* calls =
        message.is_object() ? message.get_object().if_contains("tool_calls") : nullptr;
    if (!calls || !calls->is_array()) continue;
    for (json::value& call : calls->get_array()) {
      json::value* function =
          call.is_object() ? call.get_object().if_contains("function") : nullptr;
      json::value* arguments = function && function->is_object()
                                   ? function->get_object().if_contains("arguments")
                                   : nullptr;
      if (!arguments || !arguments->is_string()) continue;
      Result<json::value> parsed = json::parse(json::view(arguments->get_string()));
      if (parsed.ok() && parsed->is_object()) *arguments = std::move(parsed).value();
    }
  }
  return result;
}

namespace {

// "<s>", or {"content": "<s>", …} as an AddedToken is saved.
std::optional<std::string> special_token(const json::object& config, std::string_view key) {
  const json::value* v = json::find(config, key);
  if (v && v->is_object()) v = json::find(v->get_object(), "content");
  if (!v || !v->is_string()) return std::nullopt;
  return std::string(json::view(v->get_string()));
}

// A string, or a list of {"name", "template"}.
Status read_config_templates(const json::value& v, ChatTemplateFiles& files) {
  constexpr std::string_view kWanted =
      "\"chat_template\" must be a string or a list of {name, template}";
  if (v.is_string()) files.source = json::view(v.get_string());
  if (v.is_string()) return {};
  if (!v.is_array()) return data_loss(std::string(kWanted));
  for (const json::value& entry : v.get_array()) {
    const json::object* o = entry.if_object();
    if (!o) return data_loss(std::string(kWanted));
    MOESTRO_ASSIGN(const std::string name, json::get_string(*o, "name", ""));
    MOESTRO_ASSIGN(std::string source, json::get_string(*o, "template", ""));
    if (name == "default") files.source = std::move(source);
    if (name == "tool_use") files.tool_source = std::move(source);
  }
  return {};
}

}  // namespace

Result<ChatTemplateFiles> chat_template_files(std::string_view tokenizer_config_json,
                                              std::string chat_template_jinja) {
  ChatTemplateFiles files;
  if (!tokenizer_config_json.empty()) {
    MOESTRO_ASSIGN(const json::value config, json::parse(tokenizer_config_json));
    if (!config.is_object()) return data_loss("must be a JSON object");
    const json::object& o = config.get_object();
    files.bos_token = special_token(o, "bos_token");
    files.eos_token = special_token(o, "eos_token");
    files.pad_token = special_token(o, "pad_token");
    files.unk_token = special_token(o, "unk_token");
    if (const json::value* v = json::find(o, "chat_template")) {
      MOESTRO_TRY(read_config_templates(*v, files));
    }
  }
  if (!chat_template_jinja.empty()) {
    files.source = std::move(chat_template_jinja);
    files.tool_source.clear();
  }
  return files;
}

}  // namespace moestro::text
