#include "text/parsers/machine.h"

#include <algorithm>

namespace moestro::text::parsers {

std::string Tags::add(std::string_view tag) {
  if (is_token_ && is_token_(tag)) {
    tokens_.emplace_back(tag);
    return kTokenMark + std::string(tag);
  }
  texts_.emplace_back(tag);
  return std::string(tag);
}

bool Tags::is_tag_token(std::string_view content) const {
  return std::find(tokens_.begin(), tokens_.end(), content) != tokens_.end();
}

bool Tags::is_part(std::string_view content) const {
  return !content.empty() && std::any_of(texts_.begin(), texts_.end(), [&](const std::string& tag) {
    return tag.find(content) != std::string::npos;
  });
}

std::optional<Found> find_first(std::string_view text, std::span<const std::string> tags) {
  std::optional<Found> best;
  for (size_t i = 0; i < tags.size(); ++i) {
    if (tags[i].empty()) continue;
    // Nothing behind the best so far matters.
    const std::string_view rest = best ? text.substr(0, best->at + tags[i].size() - 1) : text;
    const size_t at = rest.find(tags[i]);
    if (at != std::string_view::npos && (!best || at < best->at))
      best = Found{at, at + tags[i].size(), i};
  }
  return best;
}

size_t open_suffix(std::string_view text, std::span<const std::string> tags) {
  size_t most = 0;
  for (const std::string& tag : tags) {
    if (tag.empty()) continue;
    for (size_t n = std::min(text.size(), tag.size() - 1); n > most; --n)
      if (text.substr(text.size() - n) == std::string_view(tag).substr(0, n)) most = n;
  }
  return most;
}

Starts starts(std::string_view text, std::string_view tag) {
  const size_t n = std::min(text.size(), tag.size());
  if (text.substr(0, n) != tag.substr(0, n)) return Starts::kNo;
  return n == tag.size() ? Starts::kYes : Starts::kMaybe;
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

size_t count_leading_space(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && is_space(text[n])) ++n;
  return n;
}

size_t count_trailing_space(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && is_space(text[text.size() - 1 - n])) ++n;
  return n;
}

bool is_function_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return static_cast<unsigned char>(c) > ' ' && c != '<' && c != '>' && c != '"' &&
                  c != '\'' && c != '{' && c != '}' && c != kTokenMark;
         });
}

void ToolMachine::content(std::string_view text, OutputEvents& out) {
  if (!text_begun_) {
    const size_t space = count_leading_space(text);
    held_space_ += text.substr(0, space);
    text.remove_prefix(space);
    if (text.empty()) return;
    out.add(OutputEvent::Kind::kContent, held_space_);
    held_space_.clear();
    text_begun_ = true;
  }
  out.add(OutputEvent::Kind::kContent, text);
}

std::optional<Found> ToolMachine::content_until(std::span<const std::string> tags,
                                                OutputEvents& out) {
  const std::string_view text = in_.view();
  auto found = find_first(text, tags);
  const size_t certain = found    ? found->at
                         : final_ ? text.size()
                                  : text.size() - open_suffix(text, tags);
  content(text.substr(0, certain), out);
  in_.drop(certain);
  if (found) *found = {0, found->end - found->at, found->tag};
  return found;
}

bool ToolMachine::accepts(std::string_view name) const {
  return is_function_name(name) &&
         (tools_.empty() || std::any_of(tools_.begin(), tools_.end(),
                                        [&](const ToolSpec& t) { return t.name == name; }));
}

const json::value* ToolMachine::schema_of(std::string_view name) const {
  for (const ToolSpec& t : tools_)
    if (t.name == name) return &t.parameters;
  return nullptr;
}

void ToolMachine::begin_call(std::string_view name, OutputEvents& out, std::string_view id) {
  forget_space();
  out.begin_call(++call_, name, id);
}

void ToolMachine::on_finish(OutputEvents& out) {
  if (call_ < 0) out.add(OutputEvent::Kind::kContent, held_space_);
  held_space_.clear();
}

}  // namespace moestro::text::parsers
