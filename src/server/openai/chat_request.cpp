#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "server/limits.h"
#include "server/openai/request.h"

namespace moestro::server::openai {
namespace {

// Text parts only; other kinds name themselves in the refusal.
std::optional<ApiError> check_part(const json::value& part, const std::string& name) {
  const json::object* o = part.if_object();
  if (part.is_string()) return std::nullopt;  // vLLM takes plain strings as text parts
  if (!o)
    return bad_request(name, format("{} must be an object, got {}", name, json::kind_name(part)));
  const json::value* type = json::find(*o, "type");
  if (!type || !type->is_string())
    return bad_request(name + ".type", format("{}.type must be a string", name));
  const std::string_view kind = json::view(type->get_string());
  if (kind == "text" || kind == "input_text" || kind == "output_text") {
    const json::value* text = json::find(*o, "text");
    if (!text || !text->is_string())
      return bad_request(name + ".text", format("{}.text must be a string", name));
    return std::nullopt;
  }
  if (kind == "refusal") {
    const json::value* text = json::find(*o, "refusal");
    if (!text || !text->is_string())
      return bad_request(name + ".refusal", format("{}.refusal must be a string", name));
    return std::nullopt;
  }
  return not_supported(
      name + ".type",
      format("content parts of type {} are not supported: this model reads text only",
             json::quote(kind.substr(0, 64))));
}

std::optional<ApiError> check_message(const json::value& message, const std::string& name) {
  const json::object* o = message.if_object();
  if (!o)
    return bad_request(name,
                       format("{} must be an object, got {}", name, json::kind_name(message)));
  const json::value* role = json::find(*o, "role");
  if (!role || !role->is_string() || role->get_string().empty())
    return bad_request(name + ".role", format("{}.role must be a string", name));
  const json::value* content = json::find(*o, "content");
  const std::string_view who = json::view(role->get_string());
  if (!content) {
    if (who == "user" || who == "system" || who == "developer")
      return bad_request(name + ".content",
                         format("{}.content is required for role {}", name, who));
  } else if (const json::array* parts = content->if_array()) {
    for (size_t i = 0; i < parts->size(); ++i) {
      if (auto error = check_part((*parts)[i], format("{}.content[{}]", name, i))) return error;
    }
  } else if (!content->is_string()) {
    return bad_request(name + ".content",
                       format("{}.content must be a string or an array of parts, got {}", name,
                              json::kind_name(*content)));
  }
  if (const json::value* calls = json::find(*o, "tool_calls"); calls && !calls->is_array()) {
    return bad_request(name + ".tool_calls", format("{}.tool_calls must be an array", name));
  }
  if (json::find(*o, "audio"))
    return not_supported(name + ".audio",
                         "audio in messages is not supported: this model reads text only");
  return std::nullopt;
}

void parse_messages(Fields& f, ChatRequest& out) {
  const json::array* messages = f.array("messages");
  if (!messages) {
    if (!f.error()) f.fail("messages", "messages is required: an array of at least one message");
    return;
  }
  if (messages->empty()) return f.fail("messages", "messages must hold at least one message");
  for (size_t i = 0; i < messages->size(); ++i) {
    if (auto error = check_message((*messages)[i], format("messages[{}]", i)))
      return f.fail(std::move(*error));
  }
  out.messages = *messages;
}

bool has_tool(const ChatRequest& request, std::string_view name) {
  return request.tools &&
         std::any_of(request.tools->begin(), request.tools->end(), [&](const json::value& tool) {
           return json::view(tool.at("function").at("name").get_string()) == name;
         });
}

void parse_tool_choice(Fields& f, ChatRequest& out) {
  const json::value* choice = f.any("tool_choice");
  if (!choice) return;
  if (const json::object* o = choice->if_object()) {
    const json::value* function = json::find(*o, "function");
    const json::value* name = function && function->is_object()
                                  ? json::find(function->get_object(), "name")
                                  : json::find(*o, "name");
    if (!name || !name->is_string())
      return f.fail("tool_choice",
                    "tool_choice must be {\"type\": \"function\", \"function\": {\"name\": …}}");
    out.forced_tool = std::string(json::view(name->get_string()));
    out.tool_choice = ToolChoice::kNamed;
    if (!has_tool(out, out.forced_tool))
      f.fail("tool_choice", format("tool_choice names {}, which is not among the tools",
                                   json::quote(out.forced_tool.substr(0, 100))));
    return;
  }
  const std::string_view mode =
      choice->is_string() ? json::view(choice->get_string()) : std::string_view();
  if (mode == "none") {
    out.tool_choice = ToolChoice::kNone;
  } else if (mode == "auto" || mode == "required") {
    if (!out.tools) f.fail("tool_choice", format("tool_choice \"{}\" needs tools", mode));
    if (mode == "required") out.tool_choice = ToolChoice::kRequired;
  } else {
    f.fail("tool_choice", "tool_choice must be \"none\", \"auto\", \"required\" or an object");
  }
}

void parse_tools(Fields& f, ChatRequest& out) {
  if (const json::array* tools = f.array("tools"); tools && !tools->empty()) {
    for (size_t i = 0; i < tools->size(); ++i) {
      const json::object* tool = (*tools)[i].if_object();
      const json::value* type = tool ? json::find(*tool, "type") : nullptr;
      const json::value* function = tool ? json::find(*tool, "function") : nullptr;
      const json::value* name =
          function && function->is_object() ? json::find(function->get_object(), "name") : nullptr;
      const bool ok = type && type->is_string() && json::view(type->get_string()) == "function" &&
                      name && name->is_string();
      if (!ok)
        return f.fail(
            "tools",
            format("tools[{}] must be {{\"type\": \"function\", \"function\": {{\"name\": …}}}}",
                   i));
    }
    out.tools = *tools;
  }
  parse_tool_choice(f, out);
}

void parse_template_fields(Fields& f, const ParseContext& c, ChatRequest& out) {
  const auto add_prompt = f.boolean("add_generation_prompt");
  out.continue_final_message = f.boolean("continue_final_message").value_or(false);
  if (out.continue_final_message && add_prompt.value_or(false)) {
    f.fail("continue_final_message",
           "continue_final_message and add_generation_prompt cannot both be true");
  }
  out.add_generation_prompt = add_prompt.value_or(!out.continue_final_message);
  out.template_kwargs = c.options.default_chat_template_kwargs;
  if (const json::object* kwargs = f.object("chat_template_kwargs")) {
    for (const auto& [key, value] : *kwargs) out.template_kwargs[key] = value;
  }
  if (const json::array* documents = f.array("documents")) out.documents = *documents;
  if (const auto source = f.string("chat_template")) {
    if (!c.options.trust_request_chat_template) {
      f.fail("chat_template",
             "a template in the request is refused unless the server runs with "
             "--trust-request-chat-template");
    } else if (source->size() > kMaxTemplateBytes) {
      f.fail("chat_template", format("chat_template has {} bytes, the limit is {}", source->size(),
                                     kMaxTemplateBytes));
    } else {
      out.chat_template = *source;
    }
  }
  // A template variable for the models that know it; "none" also switches thinking off where that
  // is the template's own word for it.
  if (const auto effort = f.string("reasoning_effort")) {
    const text::ChatTemplate* t = c.model.chat_template.get();
    if (t && t->mentions("reasoning_effort")) {
      out.template_kwargs["reasoning_effort"] = *effort;
    } else if (t && t->mentions("enable_thinking")) {
      if (!out.template_kwargs.contains("enable_thinking"))
        out.template_kwargs["enable_thinking"] = *effort != "none";
    } else {
      f.fail(not_supported(
          "reasoning_effort",
          "reasoning_effort is not supported: this model's chat template knows no such setting"));
    }
  }
}

void parse_chat_logprobs(Fields& f, const ParseContext& c, ChatRequest& out) {
  const int64_t limit =
      c.model.max_logprobs < 0 ? c.model.tokenizer->vocab_size() : c.model.max_logprobs;
  const bool wanted = f.boolean("logprobs").value_or(false);
  const auto top = f.integer("top_logprobs", 0, limit);
  if (top && *top > 0 && !wanted) f.fail("top_logprobs", "top_logprobs needs logprobs to be true");
  if (wanted) out.sampling.logprobs = static_cast<int32_t>(top.value_or(0));
}

}  // namespace

std::optional<ApiError> parse_chat_request(const json::object& body, const ParseContext& c,
                                           ChatRequest& out) {
  Fields f(body);
  parse_shared_fields(f, c, out);
  parse_messages(f, out);
  parse_tools(f, out);
  parse_template_fields(f, c, out);
  parse_chat_logprobs(f, c, out);
  out.add_special_tokens = f.boolean("add_special_tokens").value_or(false);
  const auto old_name = f.integer("max_tokens", 1, std::numeric_limits<int32_t>::max());
  const auto new_name = f.integer("max_completion_tokens", 1, std::numeric_limits<int32_t>::max());
  out.max_tokens = new_name ? new_name : old_name;
  f.refuse("functions", "use tools");
  f.refuse("function_call", "use tool_choice");
  f.refuse("audio", "this model writes text only");
  f.refuse("modalities", "this model writes text only", json::array{"text"});
  f.refuse("prediction", "there is no predicted output");
  f.refuse("web_search_options", "there is no web search");
  f.refuse("verbosity", "the model has no such setting", "medium");
  if (out.tool_choice == ToolChoice::kRequired || out.tool_choice == ToolChoice::kNamed)
    refuse_other_ends(f, out);
  out.include_reasoning = f.boolean("include_reasoning").value_or(true);
  out.parallel_tool_calls = f.boolean("parallel_tool_calls").value_or(true);
  out.unknown_fields = f.unknown();
  return f.error();
}

}  // namespace moestro::server::openai
