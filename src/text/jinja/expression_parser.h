// ExpressionParser: what stands inside {{ }} and in tags, following jinja2.parser. The statement
// half is in parser.cpp.
#pragma once
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/token_stream.h"

namespace moestro::text::jinja {

class ExpressionParser {
 public:
  ExpressionParser(Program& program, TokenStream& tokens) : program_(program), tokens_(tokens) {}

  const Expr* expression(bool with_condition = true);
  // Expressions joined by commas are a tuple; `stop` is a name that ends it ("in", "recursive").
  const Expr* tuple(bool with_condition = true, std::string_view stop = {},
                    bool in_parentheses = false);
  const Expr* primary();
  const Expr* filters(const Expr* operand,
                      bool inline_first = false);  // operand null: the body of a block
  Target target(bool with_namespace, std::string_view stop = {});

  // The macros around the current point; those that name varargs, kwargs or caller are marked.
  std::vector<Statement*> macros;
  int nesting = 0;

 private:
  Expr* make(ExprKind kind, uint32_t line, std::vector<const Expr*> items = {});
  const Expr* sealed(Expr* e);
  bool tuple_ends(std::string_view stop) const;
  const Expr* condition();
  const Expr* either();
  const Expr* both();
  const Expr* negation();
  const Expr* comparison();
  const Expr* sum();
  const Expr* concat();
  const Expr* product();
  const Expr* power();
  const Expr* unary(bool with_filters = true);
  const Expr* name_expr();
  const Expr* string_expr();
  const Expr* list_expr();
  const Expr* dict_expr();
  const Expr* postfix(const Expr* e);
  const Expr* filters_and_tests(const Expr* e);
  const Expr* subscript(const Expr* e);
  const Expr* subscribed(const Expr* e);
  const Expr* call(const Expr* e);
  const Expr* test(const Expr* e);
  std::vector<Argument> arguments();
  std::string_view dotted_name();
  Target single_target(bool with_namespace);

  Program& program_;
  TokenStream& tokens_;
};

}  // namespace moestro::text::jinja
