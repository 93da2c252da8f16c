#include "server/openai/prompt.h"

#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "server/limits.h"

namespace moestro::server::openai {
namespace {

constexpr int64_t kDefaultCompletionTokens =
    16;  // the API's own default of /v1/completions; chat answers use what is left

// Never part of a real message; a template that keeps it verbatim kept the content, one that trims
// dropped the space.
constexpr std::string_view kContinueTag = "<<moestro-continue-7f3a9c51> ";

text::ChatTemplate::Input template_input(const ServerModel& m) {
  text::ChatTemplate::Input input;
  input.bos_token = m.bos_token;
  input.eos_token = m.eos_token;
  input.pad_token = m.pad_token;
  input.unk_token = m.unk_token;
  return input;
}

// A template that walks over parts prints their text; one that takes strings prints the list
// itself, or fails.
ContentFormat detect_content_format(const ServerModel& m) {
  if (!m.chat_template) return ContentFormat::kString;
  const std::string_view word = "moestroprobe";
  json::array parts{json::object{{"type", "text"}, {"text", word}}};
  const json::value messages =
      json::array{json::object{{"role", "user"}, {"content", std::move(parts)}}};
  text::ChatTemplate::Input input = template_input(m);
  input.messages = &messages;
  const Result<std::string> text = m.chat_template->render(input);
  if (!text.ok()) return ContentFormat::kString;
  const bool found = text->find(word) != std::string::npos;
  const bool dumped =
      text->find("'text'") != std::string::npos || text->find("\"text\"") != std::string::npos;
  return found && !dumped ? ContentFormat::kParts : ContentFormat::kString;
}

std::string_view part_text(const json::value& part) {
  if (part.is_string()) return json::view(part.get_string());
  const json::value* text = json::find(part.get_object(), "text");
  if (!text) text = json::find(part.get_object(), "refusal");
  return json::view(text->get_string());  // check_part saw it
}

std::string joined_text(const json::value& content) {
  if (content.is_string()) return std::string(json::view(content.get_string()));
  std::string text;
  if (const json::array* parts = content.if_array()) {
    for (size_t i = 0; i < parts->size(); ++i) {
      if (i > 0) text += '\n';
      text += part_text((*parts)[i]);
    }
  }
  return text;
}

json::value content_for_template(const json::value* content, ContentFormat wanted) {
  if (wanted == ContentFormat::kString)
    return content ? json::value(joined_text(*content)) : json::value("");
  json::array parts;
  if (content && content->is_array()) {
    for (const json::value& part : content->get_array())
      parts.push_back(json::object{{"type", "text"}, {"text", part_text(part)}});
  } else if (content) {
    parts.push_back(json::object{{"type", "text"}, {"text", joined_text(*content)}});
  }
  return parts;
}

json::value messages_for_template(const ChatRequest& request, ContentFormat wanted,
                                  std::string_view suffix_of_last) {
  json::array messages = request.messages;
  for (json::value& m : messages) {
    json::object& o = m.get_object();
    o["content"] = content_for_template(json::find(o, "content"), wanted);
  }
  if (!suffix_of_last.empty()) {
    json::object& last = messages.back().get_object();
    json::value& content = last["content"];
    if (json::array* parts = content.if_array()) {
      if (parts->empty()) parts->push_back(json::object{{"type", "text"}, {"text", ""}});
      json::string& text = parts->back().get_object()["text"].get_string();
      text.append(suffix_of_last.begin(), suffix_of_last.end());
    } else {
      content.get_string().append(suffix_of_last.begin(), suffix_of_last.end());
    }
  }
  return text::with_parsed_tool_arguments(messages);
}

// The rendered text up to the end of the last message's content.
std::optional<ApiError> cut_after_content(std::string& text) {
  const std::string_view bare = kContinueTag.substr(0, kContinueTag.size() - 1);
  const size_t at = text.rfind(bare);
  if (at == std::string::npos) {
    return bad_request(
        "continue_final_message",
        "continue_final_message: the chat template does not show the content of the last message");
  }
  const bool kept = text.compare(at, kContinueTag.size(), kContinueTag) == 0;
  text.resize(at);
  if (!kept) {  // the template trims contents: so would it this one
    while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\t' ||
                             text.back() == '\r'))
      text.pop_back();
  }
  return std::nullopt;
}

ApiError too_long(size_t tokens, bool at_least, const ServerModel& m) {
  return bad_request("",
                     format("This model's maximum context length is {} tokens, but the prompt has "
                            "{}{} tokens. Shorten the prompt, or start the "
                            "server with a larger --max-model-len.",
                            m.max_model_len, at_least ? "at least " : "", tokens),
                     "context_length_exceeded");
}

std::optional<ApiError> tokenize(std::string_view text, const GenerateRequest& request,
                                 const PromptContext& c, std::vector<int32_t>& ids) {
  // Longer than any tokenization of a fitting prompt: not worth the seconds that tokenizing
  // megabytes takes.
  const size_t least = text.size() / c.max_token_bytes;
  if (!request.truncate_prompt_tokens && least > static_cast<size_t>(c.model.max_model_len))
    return too_long(least, true, c.model);
  ids = c.model.tokenizer->encode(text, request.add_special_tokens);
  return std::nullopt;
}

std::optional<ApiError> finish_ids(const GenerateRequest& request, std::string_view field,
                                   const ServerModel& m, std::vector<int32_t>& ids) {
  if (request.truncate_prompt_tokens) {
    const int64_t k = *request.truncate_prompt_tokens;
    const auto keep = static_cast<size_t>(k < 0 ? m.max_model_len - 1 : k);
    if (ids.size() > keep) ids.erase(ids.begin(), ids.end() - static_cast<ptrdiff_t>(keep));
  }
  if (ids.empty())
    return bad_request(std::string(field), "the prompt is empty: it must have at least one token");
  return std::nullopt;
}

// What the prompt's end says about the answer. A message that goes on may be inside its reasoning;
// else only a tag at the very end counts, for a user's text may hold one too.
text::ReasoningStart reasoning_start(std::string_view prompt, bool goes_on) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const std::string_view end = trim(prompt);
  if (end.ends_with(kOpen)) return text::ReasoningStart::kInside;
  if (end.ends_with(kClose)) return text::ReasoningStart::kOutside;
  if (!goes_on) return text::ReasoningStart::kWait;
  const size_t open = prompt.rfind(kOpen), close = prompt.rfind(kClose);
  const bool inside =
      open != std::string_view::npos && (close == std::string_view::npos || close < open);
  return inside ? text::ReasoningStart::kInside : text::ReasoningStart::kOutside;
}

}  // namespace

PromptContext make_prompt_context(const ServerModel& model, const config::ServerOptions& options) {
  PromptContext c{.model = model, .options = options};
  const std::string& wanted = options.chat_template_content_format;
  c.content_format = wanted == "openai"   ? ContentFormat::kParts
                     : wanted == "string" ? ContentFormat::kString
                                          : detect_content_format(model);
  for (int32_t id = 0; id < model.tokenizer->vocab_size(); ++id) {
    c.max_token_bytes = std::max({c.max_token_bytes, model.tokenizer->token_bytes(id).size(),
                                  model.tokenizer->token_content(id).size()});
  }
  return c;
}

std::optional<ApiError> make_chat_prompt(const ChatRequest& request, const PromptContext& c,
                                         Deadline deadline, Prompt& out) {
  const ServerModel& m = c.model;
  std::unique_ptr<text::ChatTemplate> own;
  const text::ChatTemplate* chosen =
      request.tools && m.tool_template ? m.tool_template.get() : m.chat_template.get();
  if (request.chat_template) {
    auto compiled = text::ChatTemplate::compile(*request.chat_template);
    if (!compiled.ok()) return from_status(compiled.status(), "chat_template");
    own = std::move(*compiled);
    chosen = own.get();
  }
  if (!chosen)
    return bad_request(
        "messages",
        "this model has no chat template: give one with --chat-template, or use /v1/completions");

  const json::value messages = messages_for_template(
      request, c.content_format, request.continue_final_message ? kContinueTag : "");
  const bool show_tools = request.tools && !(request.tool_choice == ToolChoice::kNone &&
                                             c.options.exclude_tools_when_tool_choice_none);
  const json::value tools = show_tools ? json::value(*request.tools) : json::value();
  const json::value documents = request.documents ? json::value(*request.documents) : json::value();
  text::ChatTemplate::Input input = template_input(m);
  input.messages = &messages;
  input.tools = show_tools ? &tools : nullptr;
  input.documents = request.documents ? &documents : nullptr;
  input.add_generation_prompt = request.add_generation_prompt;
  input.kwargs = request.template_kwargs.empty() ? nullptr : &request.template_kwargs;
  text::ChatTemplate::Limits limits;
  limits.deadline =
      std::min(deadline, Deadline::after(std::chrono::duration_cast<std::chrono::nanoseconds>(
                             std::chrono::duration<double>(kTemplateSeconds))));
  Result<std::string> rendered = chosen->render(input, limits);
  if (!rendered.ok()) return from_status(rendered.status(), "messages");
  std::string text = std::move(*rendered);
  if (request.continue_final_message) {
    if (auto error = cut_after_content(text)) return error;
  }
  if (request.echo) {
    const json::object& last = request.messages.back().get_object();
    const json::value* content = json::find(last, "content");
    if (content && request.continue_final_message) out.chat_echo = joined_text(*content);
  }
  out.reasoning_start = reasoning_start(text, request.continue_final_message);
  if (auto error = tokenize(text, request, c, out.ids)) return error;
  return finish_ids(request, "messages", m, out.ids);
}

std::optional<ApiError> make_completion_prompt(const CompletionRequest& request, size_t prompt_idx,
                                               const PromptContext& c, Prompt& out) {
  const auto& prompt = request.prompts[prompt_idx];
  if (const std::string* text = std::get_if<std::string>(&prompt)) {
    if (auto error = tokenize(*text, request, c, out.ids)) return error;
  } else {
    out.ids = std::get<std::vector<int32_t>>(prompt);
  }
  if (auto error = finish_ids(request, "prompt", c.model, out.ids)) return error;
  if (request.echo) {
    const std::string* text = std::get_if<std::string>(&prompt);
    out.text = text && !request.truncate_prompt_tokens
                   ? *text
                   : c.model.tokenizer->decode(out.ids, request.skip_special_tokens);
  }
  return std::nullopt;
}

std::optional<ApiError> fit_to_context(const GenerateRequest& request, bool chat,
                                       size_t prompt_tokens, const ServerModel& m,
                                       int32_t& max_tokens) {
  const auto context = static_cast<int64_t>(m.max_model_len);
  const auto used = static_cast<int64_t>(prompt_tokens);
  if (used >= context) return too_long(prompt_tokens, false, m);
  const int64_t room = context - used;
  const int64_t wanted =
      request.max_tokens.value_or(chat ? room : std::min(kDefaultCompletionTokens, room));
  if (used + wanted > context) {
    return bad_request(chat ? "max_completion_tokens" : "max_tokens",
                       format("This model's maximum context length is {} tokens, but the request "
                              "asks for {}: {} in the prompt and {} in the answer. "
                              "Shorten one of them.",
                              context, used + wanted, used, wanted),
                       "context_length_exceeded");
  }
  max_tokens = static_cast<int32_t>(std::max<int64_t>(
      1, std::min<int64_t>(wanted,
                           m.defaults.max_tokens.value_or(std::numeric_limits<int32_t>::max()))));
  if (request.sampling.min_tokens > max_tokens) {
    return bad_request("min_tokens",
                       format("min_tokens is {}, more than the {} tokens that the answer may have",
                              request.sampling.min_tokens, max_tokens));
  }
  return std::nullopt;
}

}  // namespace moestro::server::openai
