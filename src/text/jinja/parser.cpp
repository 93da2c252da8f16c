#include "text/jinja/parser.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"
#include "text/jinja/expression_parser.h"
#include "text/jinja/python_text.h"

namespace moestro::text::jinja {
namespace {

constexpr int kMaxStatementNesting = 100;
using Names = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(Program& program)
      : program_(program),
        tokens_(tokenize(program.source, program.strings)),
        expressions_(program, tokens_) {}

  void run() { program_.body = body({}); }

 private:
  Statement* make(StatementKind kind, uint32_t line) {
    Statement& s = program_.statements.emplace_back();
    s.kind = kind;
    s.line = line;
    return &s;
  }

  // Statements up to a tag that begins with one of `ends`; the stream then stands at that name.
  Body body(Names ends) {
    Body result;
    for (;;) {
      const Token& token = tokens_.current();
      if (token.kind == TokenKind::kEnd) {
        if (ends.size()) unexpected_end(ends);
        return result;
      }
      if (token.kind == TokenKind::kData) {
        Statement* s = make(StatementKind::kText, token.line);
        s->text = tokens_.next().text;
        result.push_back(s);
      } else if (token.kind == TokenKind::kPrintBegin) {
        tokens_.next();
        Statement* s = make(StatementKind::kPrint, token.line);
        s->exprs.push_back(expressions_.tuple());
        tokens_.expect(TokenKind::kPrintEnd, "end of print statement");
        result.push_back(s);
      } else {
        tokens_.expect(TokenKind::kBlockBegin, "begin of statement block");
        if (tokens_.at(TokenKind::kName) &&
            std::find(ends.begin(), ends.end(), tokens_.current().text) != ends.end()) {
          return result;
        }
        statement(result);
        tokens_.expect(TokenKind::kBlockEnd, "end of statement block");
      }
    }
  }

  // ": %} … {% end": the body of a tag whose head was just read.
  Body block(Names ends) {
    tokens_.skip_op(":");
    tokens_.expect(TokenKind::kBlockEnd, "end of statement block");
    return body(ends);
  }
  Body block_to(std::string_view end) {
    Body result = block({end});
    tokens_.next();
    return result;
  }

  [[noreturn]] void unexpected_end(Names ends) {
    fail_at(tokens_.line(),
            format("Unexpected end of template. Jinja was looking for the following tags: {}.{}",
                   quoted(ends), innermost()));
  }
  static std::string quoted(Names ends) {
    std::string text;
    for (const std::string_view end : ends)
      text += format("{}'{}'", text.empty() ? "" : " or ", end);
    return text;
  }
  std::string innermost() const {
    return open_tags_.empty()
               ? ""
               : format(" The innermost block that needs to be closed is '{}'.", open_tags_.back());
  }

  void statement(Body& out) {
    const Token& token = tokens_.current();
    if (token.kind != TokenKind::kName) fail_at(token.line, "tag name expected");
    const Nesting guard(nesting_, kMaxStatementNesting, token.line);
    open_tags_.push_back(token.text);
    dispatch(token.text, out);
    open_tags_.pop_back();
  }

  void dispatch(std::string_view tag, Body& out) {
    struct Row {
      std::string_view tag;
      const Statement* (Parser::*parse)();
    };
    static constexpr Row kRows[] = {
        {"if", &Parser::parse_if},          {"for", &Parser::parse_for},
        {"set", &Parser::parse_set},        {"macro", &Parser::parse_macro},
        {"call", &Parser::parse_call},      {"filter", &Parser::parse_filter},
        {"with", &Parser::parse_with},      {"print", &Parser::parse_print},
        {"block", &Parser::parse_block},    {"break", &Parser::parse_break},
        {"continue", &Parser::parse_break}, {"autoescape", &Parser::parse_autoescape},
    };
    for (const Row& row : kRows) {
      if (row.tag == tag) {
        out.push_back((this->*row.parse)());
        return;
      }
    }
    const uint32_t line = tokens_.line();
    if (tag == "generation") {
      tokens_.next();
      const Body inner = block_to("endgeneration");
      out.insert(out.end(), inner.begin(), inner.end());
      return;
    }
    if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") {
      throw Failure{Code::kUnsupported,
                    format("'{}' is not supported: a chat template stands alone", tag), line,
                    false};
    }
    open_tags_.pop_back();
    fail_at(line, format("Encountered unknown tag '{}'.{}", tag, innermost()));
  }

  const Statement* parse_if() {
    Statement* s = make(StatementKind::kIf, tokens_.next().line);
    for (;;) {
      const Expr* condition = expressions_.tuple(false);
      s->branches.push_back({condition, block({"elif", "else", "endif"})});
      const std::string_view tag = tokens_.next().text;
      if (tag == "elif") continue;
      if (tag == "else") s->branches.push_back({nullptr, block_to("endif")});
      return s;
    }
  }

  static bool names_loop(const Target& t, Name loop) {
    return (t.kind == Target::Kind::kName && t.name == loop) ||
           std::any_of(t.items.begin(), t.items.end(),
                       [&](const Target& i) { return names_loop(i, loop); });
  }

  const Statement* parse_for() {
    Statement* s = make(StatementKind::kFor, tokens_.next().line);
    s->targets.push_back(expressions_.target(false, "in"));
    if (names_loop(s->targets[0], program_.intern("loop"))) {
      fail_at(s->line, "Can't assign to special loop variable in for-loop");
    }
    tokens_.expect_name("in");
    s->expr = expressions_.tuple(false, "recursive");
    if (tokens_.skip_name("if")) s->condition = expressions_.expression();
    s->recursive = tokens_.skip_name("recursive");
    ++loops_;
    s->body = block({"endfor", "else"});
    --loops_;
    if (tokens_.next().text == "else") s->orelse = block_to("endfor");
    return s;
  }

  const Statement* parse_break() {
    const Token& token = tokens_.next();
    if (!loops_) fail_at(token.line, format("'{}' outside a loop", token.text));
    return make(token.text == "break" ? StatementKind::kBreak : StatementKind::kContinue,
                token.line);
  }

  const Statement* parse_set() {
    const uint32_t line = tokens_.next().line;
    Target target = expressions_.target(true);
    if (tokens_.skip_op("=")) {
      Statement* s = make(StatementKind::kSet, line);
      s->targets.push_back(std::move(target));
      s->expr = expressions_.tuple();
      return s;
    }
    Statement* s = make(StatementKind::kSetBlock, line);
    s->targets.push_back(std::move(target));
    s->expr = expressions_.filters(nullptr);
    s->body = block_to("endset");
    return s;
  }

  const Statement* parse_with() {
    Statement* s = make(StatementKind::kWith, tokens_.next().line);
    while (!tokens_.at(TokenKind::kBlockEnd) && !tokens_.at(TokenKind::kEnd)) {
      if (!s->targets.empty()) tokens_.expect_op(",");
      s->targets.push_back(expressions_.target(false, "="));
      tokens_.expect_op("=");
      s->exprs.push_back(expressions_.expression());
    }
    s->body = block_to("endwith");
    return s;
  }

  void signature(Statement* s) {
    tokens_.expect_op("(");
    while (!tokens_.at_op(")")) {
      if (!s->parameters.empty()) tokens_.expect_op(",");
      const std::string_view name = tokens_.expect_any_name();
      for (const Parameter& p : s->parameters) {
        if (p.text == name)
          fail_at(s->line, format("duplicate argument '{}' in a macro definition", name));
      }
      const Expr* fallback = nullptr;
      if (tokens_.skip_op("="))
        fallback = expressions_.expression();
      else if (!s->parameters.empty() && s->parameters.back().fallback) {
        fail_at(tokens_.line(), "non-default argument follows default argument");
      }
      s->parameters.push_back({program_.intern(name), name, fallback});
    }
    tokens_.expect_op(")");
  }

  // The body of a function of its own: loops outside cannot be left from inside.
  Body function_body(Statement* s, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    expressions_.macros.push_back(s);
    Body result = block_to(end);
    expressions_.macros.pop_back();
    loops_ = loops;
    return result;
  }

  const Statement* parse_macro() {
    Statement* s = make(StatementKind::kMacro, tokens_.next().line);
    s->text = tokens_.expect_any_name();
    s->name = program_.intern(s->text);
    signature(s);
    s->body = function_body(s, "endmacro");
    return s;
  }

  const Statement* parse_call() {
    Statement* s = make(StatementKind::kCallBlock, tokens_.next().line);
    s->text = "caller";
    if (tokens_.at_op("(")) signature(s);
    s->expr = expressions_.expression();
    if (s->expr->kind != ExprKind::kCall) fail_at(s->line, "expected call");
    s->body = function_body(s, "endcall");
    return s;
  }

  const Statement* parse_filter() {
    Statement* s = make(StatementKind::kFilterBlock, tokens_.next().line);
    s->expr = expressions_.filters(nullptr, true);
    s->body = block_to("endfilter");
    return s;
  }

  const Statement* parse_print() {
    Statement* s = make(StatementKind::kPrint, tokens_.next().line);
    while (!tokens_.at(TokenKind::kBlockEnd)) {
      if (!s->exprs.empty()) tokens_.expect_op(",");
      s->exprs.push_back(expressions_.expression());
    }
    return s;
  }

  const Statement* parse_block() {
    Statement* s = make(StatementKind::kBlock, tokens_.next().line);
    s->text = tokens_.expect_any_name();
    const bool scoped = tokens_.skip_name("scoped");
    if (scoped) s->kind = StatementKind::kScope;
    tokens_.skip_name("required");
    if (tokens_.at_op("-"))
      fail_at(s->line, "block names may not contain hyphens, use an underscore instead");
    s->body = function_body(make(StatementKind::kMacro, s->line), "endblock");
    tokens_.skip_name(s->text);
    return s;
  }

  const Statement* parse_autoescape() {
    Statement* s = make(StatementKind::kScope, tokens_.next().line);
    const Expr* on = expressions_.expression();
    if (on->kind != ExprKind::kConst || truthy(on->constant)) {
      throw Failure{Code::kUnsupported,
                    "autoescape is not supported: chat templates are plain text", s->line, false};
    }
    s->body = block_to("endautoescape");
    return s;
  }

  Program& program_;
  TokenStream tokens_;
  ExpressionParser expressions_;
  std::vector<std::string_view> open_tags_;
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

std::unique_ptr<const Program> parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    fail_at(1,
            format("the template has {} bytes, the limit is {}", source.size(), kMaxSourceBytes));
  }
  if (!is_valid_utf8(source)) fail_at(1, "the template is not valid UTF-8");
  auto program = std::make_unique<Program>();
  program->source = normalize_source(source);
  Parser(*program).run();
  return program;
}

}  // namespace moestro::text::jinja
