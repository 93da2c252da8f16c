#include "config/yaml.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::config {
namespace {

constexpr int kMaxDepth = 32;

struct Line {
  int number = 0;
  int indent = 0;
  std::string content;  // trimmed, without comment
};

struct Scalar {
  json::value value;
  std::string text;
};

Status at_line(int line, std::string_view message) {
  return invalid_argument(format("line {}: {}", line, message));
}

// Cuts a comment: '#' at the start or after white space, outside quotes.
std::string_view without_comment(std::string_view line) {
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote) {
      if (c == '\\' && quote == '"')
        ++i;
      else if (c == quote && c == '\'' && i + 1 < line.size() && line[i + 1] == quote)
        ++i;  // a doubled quote is one of the text
      else if (c == quote)
        quote = 0;
    } else if ((c == '"' || c == '\'') &&
               (i == 0 || std::string_view(" [{,:").find(line[i - 1]) != std::string_view::npos)) {
      quote = c;
    } else if (c == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) {
      return line.substr(0, i);
    }
  }
  return line;
}

json::value typed(std::string_view text) {
  const std::string word = lower(text);
  if (word.empty() || word == "null" || word == "~") return json::value(nullptr);
  if (word == "true" || word == "yes" || word == "on") return json::value(true);
  if (word == "false" || word == "no" || word == "off") return json::value(false);
  if (const auto number = parse_int(text)) return json::value(*number);
  if (const bool numeric =
          std::string_view("-+.0123456789").find(word.front()) != std::string_view::npos;
      numeric) {
    if (const auto number = parse_double(text)) return json::value(*number);
  }
  return json::value(text);
}

class Parser {
 public:
  Result<std::vector<YamlEntry>> parse(std::string_view text);

 private:
  Status split_lines(std::string_view text);
  Result<json::value> parse_block(int indent, int depth);
  Result<json::value> parse_sequence(int indent, int depth);
  // Appends the entries of the mapping at `indent`.
  Status parse_mapping(int indent, int depth, std::vector<YamlEntry>& entries);
  Result<json::value> parse_nested(int parent_indent, int depth);
  Result<Scalar> parse_inline(std::string_view text, int line);

  // Flow collections: [a, b] and {a: 1}.
  Result<json::value> parse_flow(std::string_view& rest, int line, int depth);
  Result<Scalar> parse_quoted(std::string_view& rest, int line);

  std::vector<Line> lines_;
  size_t next_ = 0;
};

Status Parser::split_lines(std::string_view text) {
  int number = 0;
  for (std::string_view raw : split(text, '\n')) {
    ++number;
    if (raw.ends_with('\r')) raw.remove_suffix(1);
    const std::string_view line = without_comment(raw);
    if (trim(line).empty()) continue;
    if (line == "---" && lines_.empty()) continue;
    if (line == "---" || line == "...") return at_line(number, "only one document");
    const size_t indent = line.find_first_not_of(' ');
    if (line[indent] == '\t') return at_line(number, "a tab in the indentation; use spaces");
    lines_.push_back({number, static_cast<int>(indent), std::string(trim(line))});
  }
  return {};
}

bool is_item(const Line& line) { return line.content == "-" || line.content.starts_with("- "); }

// The position of the colon that ends a key, or npos.
size_t key_end(std::string_view content) {
  size_t from = 0;
  if (content.starts_with('"') || content.starts_with('\'')) {
    from = content.find(content.front(), 1);
    if (from == std::string_view::npos) return from;
  }
  for (size_t i = from; i < content.size(); ++i) {
    if (content[i] == ':' && (i + 1 == content.size() || content[i + 1] == ' ')) return i;
  }
  return std::string_view::npos;
}

Result<Scalar> Parser::parse_quoted(std::string_view& rest, int line) {
  const char quote = rest.front();
  std::string text;
  for (size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] == quote) {
      if (quote == '\'' && i + 1 < rest.size() && rest[i + 1] == '\'') {
        text += rest[i++];
        continue;
      }
      const std::string_view literal = rest.substr(0, i + 1);
      rest.remove_prefix(i + 1);
      if (quote == '\'') return Scalar{json::value(text), text};
      Result<json::value> value = json::parse(literal);  // the escapes of JSON
      if (!value.ok()) return at_line(line, "an escape in double quotes that is not one of JSON's");
      std::string unquoted(json::view(value.value().as_string()));
      return Scalar{std::move(value).value(), std::move(unquoted)};
    }
    if (quote == '"' && rest[i] == '\\')
      ++i;
    else
      text += rest[i];
  }
  return at_line(line, "a quote that does not end on its line");
}

Result<json::value> Parser::parse_flow(std::string_view& rest, int line, int depth) {
  if (depth > kMaxDepth) return at_line(line, format("deeper than {} levels", kMaxDepth));
  rest = trim(rest);
  if (rest.empty()) return at_line(line, "a bracket that does not end on its line");
  if (rest.front() == '"' || rest.front() == '\'') {
    MOESTRO_ASSIGN(Scalar scalar, parse_quoted(rest, line));
    return std::move(scalar.value);
  }
  if (rest.front() != '[' && rest.front() != '{') {
    const size_t end = std::min(rest.find_first_of(",]}"), rest.size());
    const std::string_view word = trim(rest.substr(0, end));
    rest.remove_prefix(end);
    return typed(word);
  }
  const bool is_list = rest.front() == '[';
  const char close = is_list ? ']' : '}';
  rest.remove_prefix(1);
  json::array list;
  json::object object;
  while (true) {
    rest = trim(rest);
    if (rest.empty()) return at_line(line, "a bracket that does not end on its line");
    if (rest.front() == close) break;
    std::string key;
    if (!is_list) {
      const size_t colon = key_end(rest.substr(0, std::min(rest.find_first_of(",}"), rest.size())));
      const bool quoted = rest.front() == '"' || rest.front() == '\'';
      if (quoted) {
        MOESTRO_ASSIGN(Scalar name, parse_quoted(rest, line));
        key = name.text;
        rest = trim(rest);
        if (!rest.starts_with(':')) return at_line(line, "no ':' after a key");
        rest.remove_prefix(1);
      } else {
        if (colon == std::string_view::npos) return at_line(line, "no ': ' after a key");
        key = trim(rest.substr(0, colon));
        rest.remove_prefix(colon + 1);
      }
    }
    MOESTRO_ASSIGN(json::value value, parse_flow(rest, line, depth + 1));
    if (is_list)
      list.push_back(std::move(value));
    else
      object.insert_or_assign(key, std::move(value));
    rest = trim(rest);
    if (rest.starts_with(','))
      rest.remove_prefix(1);
    else if (!rest.empty() && rest.front() != close)
      return at_line(line, "no ',' between values");
  }
  rest.remove_prefix(1);
  return is_list ? json::value(std::move(list)) : json::value(std::move(object));
}

Result<Scalar> Parser::parse_inline(std::string_view text, int line) {
  const char first = text.front();
  if (first == '&' || first == '*' || first == '!')
    return at_line(line, "anchors, aliases and tags are not supported");
  if (first == '|' || first == '>') return at_line(line, "block text is not supported; use quotes");
  if (first == '[' || first == '{') {
    std::string_view rest = text;
    MOESTRO_ASSIGN(json::value value, parse_flow(rest, line, 0));
    if (!trim(rest).empty())
      return at_line(line, format("'{}' after the closing bracket", trim(rest)));
    return Scalar{std::move(value), {}};
  }
  if (first == '"' || first == '\'') {
    std::string_view rest = text;
    MOESTRO_ASSIGN(Scalar scalar, parse_quoted(rest, line));
    if (!trim(rest).empty())
      return at_line(line, format("'{}' after the closing quote", trim(rest)));
    return scalar;
  }
  return Scalar{typed(text), std::string(text)};
}

// What stands below a key or a dash that has nothing on its own line: deeper lines, or null.
Result<json::value> Parser::parse_nested(int parent_indent, int depth) {
  if (next_ >= lines_.size()) return json::value(nullptr);
  const Line& line = lines_[next_];
  const bool list_at_parent = line.indent == parent_indent && is_item(line);
  if (line.indent <= parent_indent && !list_at_parent) return json::value(nullptr);
  return parse_block(line.indent, depth + 1);
}

Result<json::value> Parser::parse_block(int indent, int depth) {
  if (depth > kMaxDepth)
    return at_line(lines_[next_].number, format("deeper than {} levels", kMaxDepth));
  if (is_item(lines_[next_])) return parse_sequence(indent, depth);
  std::vector<YamlEntry> entries;
  MOESTRO_TRY(parse_mapping(indent, depth, entries));
  json::object object;
  for (YamlEntry& entry : entries) object.insert_or_assign(entry.key, std::move(entry.value));
  return json::value(std::move(object));
}

Result<json::value> Parser::parse_sequence(int indent, int depth) {
  json::array list;
  while (next_ < lines_.size() && lines_[next_].indent == indent && is_item(lines_[next_])) {
    Line& line = lines_[next_];
    const std::string_view after_dash = std::string_view(line.content).substr(1);
    const std::string item(trim(after_dash));
    if (item.empty()) {
      ++next_;
      if (next_ < lines_.size() && lines_[next_].indent > indent) {
        MOESTRO_ASSIGN(json::value value, parse_block(lines_[next_].indent, depth + 1));
        list.push_back(std::move(value));
      } else {
        list.push_back(json::value(nullptr));
      }
      continue;
    }
    const bool plain = std::string_view("[{\"'").find(item.front()) == std::string_view::npos;
    if (plain &&
        key_end(item) !=
            std::string_view::npos) {  // "- key: value": a mapping that starts behind the dash
      line.indent += 1 + static_cast<int>(after_dash.find_first_not_of(' '));
      line.content = item;
      MOESTRO_ASSIGN(json::value value, parse_block(line.indent, depth + 1));
      list.push_back(std::move(value));
      continue;
    }
    MOESTRO_ASSIGN(Scalar scalar, parse_inline(item, line.number));
    list.push_back(std::move(scalar.value));
    ++next_;
  }
  return json::value(std::move(list));
}

Status Parser::parse_mapping(int indent, int depth, std::vector<YamlEntry>& entries) {
  while (next_ < lines_.size() && lines_[next_].indent >= indent) {
    const Line& line = lines_[next_];
    if (line.indent > indent)
      return at_line(line.number, "indented deeper than the lines above it");
    if (is_item(line)) return at_line(line.number, "a list item where a key was expected");
    const size_t colon = key_end(line.content);
    if (colon == std::string_view::npos)
      return at_line(line.number, format("'{}' is not 'key: value'", line.content));
    std::string_view key = trim(std::string_view(line.content).substr(0, colon));
    if (key.size() >= 2 && (key.front() == '"' || key.front() == '\'') &&
        key.back() == key.front()) {
      key = key.substr(1, key.size() - 2);
    }
    YamlEntry entry{.key = std::string(key), .value = {}, .text = {}, .line = line.number};
    for (const YamlEntry& other : entries) {
      if (other.key == entry.key)
        return at_line(line.number, format("'{}' is given twice", entry.key));
    }
    const std::string_view rest = trim(std::string_view(line.content).substr(colon + 1));
    ++next_;
    if (rest.empty()) {
      MOESTRO_ASSIGN(entry.value, parse_nested(indent, depth));
    } else {
      MOESTRO_ASSIGN(Scalar scalar, parse_inline(rest, line.number));
      entry.value = std::move(scalar.value);
      entry.text = std::move(scalar.text);
    }
    entries.push_back(std::move(entry));
  }
  return {};
}

Result<std::vector<YamlEntry>> Parser::parse(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (!is_valid_utf8(text)) return invalid_argument("not UTF-8");
  MOESTRO_TRY(split_lines(text));
  std::vector<YamlEntry> entries;
  if (lines_.empty()) return entries;
  MOESTRO_TRY(parse_mapping(lines_.front().indent, 0, entries));
  if (next_ < lines_.size())
    return at_line(lines_[next_].number, "indented less than the first line");
  return entries;
}

}  // namespace

Result<std::vector<YamlEntry>> parse_yaml(std::string_view text) { return Parser().parse(text); }

}  // namespace moestro::config
