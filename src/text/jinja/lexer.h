// Lexer: template source to tokens, with Jinja2's whitespace rules (trim_blocks, lstrip_blocks, "-"
// and "+") already applied. Called by the parser only. Follows jinja2.lexer, so that every template
// splits as it does there.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace moestro::text::jinja {

enum class TokenKind : uint8_t {
  kData,
  kPrintBegin,  // {{
  kPrintEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,
  kNumber,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  uint32_t line;
  std::string_view text;  // name, operator, data, string with its escapes resolved
  Value number;           // kNumber
};

// "\r\n" and "\r" become "\n", and one newline at the very end goes.
std::string normalize_source(std::string_view source);
// `source` must be normalised and outlive the tokens; `strings` takes the strings that had escapes.
std::vector<Token> tokenize(std::string_view source, std::deque<std::string>& strings);
std::string describe(const Token& token);

}  // namespace moestro::text::jinja
