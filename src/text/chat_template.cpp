#include "text/chat_template.h"

#include <filesystem>
#include <fstream>
#include <new>
#include <sstream>
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

Result<std::string> read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (file.bad() || text.fail()) return data_loss(format("cannot read {}", path.string()));
  return std::move(text).str();
}

// "<s>", or {"content": "<s>", …} as an AddedToken is saved.
std::optional<std::string> special_token(const json::object& config, std::string_view key) {
  const json::value* v = json::find(config, key);
  if (v && v->is_object()) v = json::find(v->get_object(), "content");
  if (!v || !v->is_string()) return std::nullopt;
  return std::string(json::view(v->get_string()));
}

// A string, or a list of {"name", "template"}.
void read_config_templates(const json::value& v, ChatTemplateFiles& files) {
  if (v.is_string()) files.source = json::view(v.get_string());
  if (!v.is_array()) return;
  for (const json::value& entry : v.get_array()) {
    const json::object* o = entry.if_object();
    const json::value* name = o ? json::find(*o, "name") : nullptr;
    const json::value* source = o ? json::find(*o, "template") : nullptr;
    if (!name || !name->is_string() || !source || !source->is_string()) continue;
    if (json::view(name->get_string()) == "default")
      files.source = json::view(source->get_string());
    if (json::view(name->get_string()) == "tool_use")
      files.tool_source = json::view(source->get_string());
  }
}

}  // namespace

Result<ChatTemplateFiles> read_chat_template(const std::string& model_folder) {
  const std::filesystem::path folder(model_folder);
  ChatTemplateFiles files;
  std::error_code ignored;
  if (const auto path = folder / "tokenizer_config.json"; std::filesystem::exists(path, ignored)) {
    MOESTRO_ASSIGN(const json::value config, json::parse_file(path.string()));
    if (!config.is_object()) return data_loss(format("{} is no JSON object", path.string()));
    const json::object& o = config.get_object();
    files.bos_token = special_token(o, "bos_token");
    files.eos_token = special_token(o, "eos_token");
    files.pad_token = special_token(o, "pad_token");
    files.unk_token = special_token(o, "unk_token");
    if (const json::value* v = json::find(o, "chat_template")) read_config_templates(*v, files);
  }
  if (const auto path = folder / "chat_template.jinja"; std::filesystem::exists(path, ignored)) {
    MOESTRO_ASSIGN(files.source, read_text(path));
    files.tool_source.clear();
  }
  if (const auto path = folder / "additional_chat_templates" / "tool_use.jinja";
      std::filesystem::exists(path, ignored)) {
    MOESTRO_ASSIGN(files.tool_source, read_text(path));
  }
  return files;
}

}  // namespace moestro::text
