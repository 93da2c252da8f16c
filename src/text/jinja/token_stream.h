// TokenStream: the parser's cursor over the tokens, with the checks and errors that both halves of
// the parser share.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/lexer.h"

namespace moestro::text::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  uint32_t line() const { return current().line; }
  const Token& next() {
    const Token& token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_op(std::string_view op) const { return is_op(current(), op); }
  bool at_name(std::string_view name) const { return is_name(current(), name); }
  static bool is_op(const Token& t, std::string_view op) {
    return t.kind == TokenKind::kOperator && t.text == op;
  }
  static bool is_name(const Token& t, std::string_view name) {
    return t.kind == TokenKind::kName && t.text == name;
  }
  bool skip_op(std::string_view op) { return at_op(op) && (next(), true); }
  bool skip_name(std::string_view name) { return at_name(name) && (next(), true); }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) unexpected(op);
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) unexpected(name);
  }
  std::string_view expect_any_name() {
    if (!at(TokenKind::kName)) unexpected("name");
    return next().text;
  }
  void expect(TokenKind kind, std::string_view shown) {
    if (!at(kind)) unexpected(shown);
    next();
  }
  [[noreturn]] void unexpected(std::string_view wanted) const {
    if (at(TokenKind::kEnd))
      fail_at(line(), format("unexpected end of template, expected '{}'", wanted));
    fail_at(line(), format("expected token '{}', got '{}'", wanted, describe(current())));
  }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

// Counts nesting on the parser's own stack.
class Nesting {
 public:
  Nesting(int& depth, int limit, uint32_t line) : depth_(depth) {
    if (++depth_ > limit) {
      --depth_;
      fail_at(line, format("nested more than {} levels deep", limit));
    }
  }
  ~Nesting() { --depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& depth_;
};

}  // namespace moestro::text::jinja
