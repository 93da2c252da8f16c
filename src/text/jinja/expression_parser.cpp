#include "text/jinja/expression_parser.h"

#include <algorithm>

namespace moestro::text::jinja {
namespace {
bool is_constant_name(std::string_view name) {
  return name == "true" || name == "True" || name == "false" || name == "False" || name == "none" ||
         name == "None";
}
}  // namespace

Expr* ExpressionParser::make(ExprKind kind, uint32_t line, std::vector<const Expr*> items) {
  Expr& e = program_.exprs.emplace_back();
  e.kind = kind;
  e.line = line;
  e.items = std::move(items);
  return &e;
}

// Every finished node passes here: its depth bounds the recursion of the interpreter.
const Expr* ExpressionParser::sealed(Expr* e) {
  int depth = 0;
  for (const Expr* item : e->items) depth = std::max<int>(depth, item ? item->depth : 0);
  for (const Argument& a : e->arguments) depth = std::max<int>(depth, a.value->depth);
  if (depth + 1 > kMaxSyntaxDepth)
    fail_at(e->line, format("expression nested more than {} levels deep", kMaxSyntaxDepth));
  e->depth = static_cast<uint16_t>(depth + 1);
  return e;
}

const Expr* ExpressionParser::expression(bool with_condition) {
  const Nesting guard(nesting, kMaxSyntaxDepth, tokens_.line());
  return with_condition ? condition() : either();
}

const Expr* ExpressionParser::condition() {
  const Expr* e = either();
  while (tokens_.at_name("if")) {
    const uint32_t line = tokens_.next().line;
    const Expr* test = either();
    const Expr* otherwise = tokens_.skip_name("else") ? expression() : nullptr;
    e = sealed(make(ExprKind::kCondition, line, {e, test, otherwise}));
  }
  return e;
}

const Expr* ExpressionParser::either() {
  const Expr* left = both();
  while (tokens_.at_name("or")) {
    const uint32_t line = tokens_.next().line;
    left = sealed(make(ExprKind::kOr, line, {left, both()}));
  }
  return left;
}

const Expr* ExpressionParser::both() {
  const Expr* left = negation();
  while (tokens_.at_name("and")) {
    const uint32_t line = tokens_.next().line;
    left = sealed(make(ExprKind::kAnd, line, {left, negation()}));
  }
  return left;
}

const Expr* ExpressionParser::negation() {
  if (!tokens_.at_name("not")) return comparison();
  const Nesting guard(nesting, kMaxSyntaxDepth, tokens_.line());
  const uint32_t line = tokens_.next().line;
  return sealed(make(ExprKind::kNot, line, {negation()}));
}

const Expr* ExpressionParser::comparison() {
  static constexpr std::pair<std::string_view, CompareOp> kOps[] = {
      {"==", CompareOp::kEq}, {"!=", CompareOp::kNe}, {"<", CompareOp::kLt},
      {"<=", CompareOp::kLe}, {">", CompareOp::kGt},  {">=", CompareOp::kGe}};
  const uint32_t line = tokens_.line();
  const Expr* first = sum();
  Expr* chain = nullptr;
  for (;;) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps),
                                  [&](const auto& o) { return tokens_.at_op(o.first); });
    CompareOp kind;
    if (op != std::end(kOps)) {
      kind = op->second;
      tokens_.next();
    } else if (tokens_.skip_name("in")) {
      kind = CompareOp::kIn;
    } else if (tokens_.at_name("not") && TokenStream::is_name(tokens_.look(), "in")) {
      tokens_.next();
      tokens_.next();
      kind = CompareOp::kNotIn;
    } else {
      break;
    }
    if (!chain) chain = make(ExprKind::kCompare, line, {first});
    chain->compare_ops.push_back(kind);
    chain->items.push_back(sum());
  }
  return chain ? sealed(chain) : first;
}

const Expr* ExpressionParser::sum() {
  const Expr* left = concat();
  while (tokens_.at_op("+") || tokens_.at_op("-")) {
    const Token& op = tokens_.next();
    left =
        sealed(make(op.text == "+" ? ExprKind::kAdd : ExprKind::kSub, op.line, {left, concat()}));
  }
  return left;
}

const Expr* ExpressionParser::concat() {
  const uint32_t line = tokens_.line();
  const Expr* first = product();
  if (!tokens_.at_op("~")) return first;
  Expr* all = make(ExprKind::kConcat, line, {first});
  while (tokens_.skip_op("~")) all->items.push_back(product());
  return sealed(all);
}

const Expr* ExpressionParser::product() {
  const Expr* left = power();
  for (;;) {
    const ExprKind kind = tokens_.at_op("*")    ? ExprKind::kMul
                          : tokens_.at_op("/")  ? ExprKind::kDiv
                          : tokens_.at_op("//") ? ExprKind::kFloorDiv
                          : tokens_.at_op("%")  ? ExprKind::kMod
                                                : ExprKind::kConst;
    if (kind == ExprKind::kConst) return left;
    const uint32_t line = tokens_.next().line;
    left = sealed(make(kind, line, {left, power()}));
  }
}

const Expr* ExpressionParser::power() {
  const Expr* left = unary();
  while (tokens_.at_op("**")) {
    const uint32_t line = tokens_.next().line;
    left = sealed(make(ExprKind::kPow, line, {left, unary()}));
  }
  return left;
}

const Expr* ExpressionParser::unary(bool with_filters) {
  const Expr* e;
  if (tokens_.at_op("-") || tokens_.at_op("+")) {
    const Nesting guard(nesting, kMaxSyntaxDepth, tokens_.line());
    const Token& op = tokens_.next();
    e = sealed(
        make(op.text == "-" ? ExprKind::kNegative : ExprKind::kPositive, op.line, {unary(false)}));
  } else {
    e = primary();
  }
  e = postfix(e);
  return with_filters ? filters_and_tests(e) : e;
}

const Expr* ExpressionParser::primary() {
  const Token& token = tokens_.current();
  if (token.kind == TokenKind::kName) return name_expr();
  if (token.kind == TokenKind::kString) return string_expr();
  if (token.kind == TokenKind::kNumber) {
    Expr* e = make(ExprKind::kConst, token.line);
    e->constant = tokens_.next().number;
    return sealed(e);
  }
  if (tokens_.at_op("(")) {
    const Nesting guard(nesting, kMaxSyntaxDepth, tokens_.line());
    tokens_.next();
    const Expr* e = tuple(true, {}, true);
    tokens_.expect_op(")");
    return e;
  }
  if (tokens_.at_op("[")) return list_expr();
  if (tokens_.at_op("{")) return dict_expr();
  if (token.kind == TokenKind::kEnd)
    fail_at(token.line, "unexpected end of template, expected an expression");
  fail_at(token.line, format("unexpected '{}'", describe(token)));
}

const Expr* ExpressionParser::name_expr() {
  const Token& token = tokens_.next();
  if (is_constant_name(token.text)) {
    Expr* e = make(ExprKind::kConst, token.line);
    e->constant = token.text[0] == 'n' || token.text[0] == 'N'
                      ? Value::none()
                      : Value::boolean(token.text[0] == 't' || token.text[0] == 'T');
    return sealed(e);
  }
  Expr* e = make(ExprKind::kName, token.line);
  e->name = program_.intern(token.text);
  e->text = token.text;
  for (Statement* macro : macros) {
    macro->uses_varargs |= token.text == "varargs";
    macro->uses_kwargs |= token.text == "kwargs";
    macro->uses_caller |= token.text == "caller";
  }
  return sealed(e);
}

const Expr* ExpressionParser::string_expr() {
  const Token& token = tokens_.next();
  Expr* e = make(ExprKind::kConst, token.line);
  std::string_view text = token.text;
  if (tokens_.at(TokenKind::kString)) {  // adjacent literals are one, as in Python
    std::string joined(text);
    while (tokens_.at(TokenKind::kString)) joined += tokens_.next().text;
    text = program_.strings.emplace_back(std::move(joined));
  }
  e->constant = Value::string(text);
  return sealed(e);
}

const Expr* ExpressionParser::list_expr() {
  Expr* e = make(ExprKind::kList, tokens_.next().line);
  while (!tokens_.at_op("]")) {
    if (!e->items.empty()) tokens_.expect_op(",");
    if (tokens_.at_op("]")) break;
    e->items.push_back(expression());
  }
  tokens_.expect_op("]");
  return sealed(e);
}

const Expr* ExpressionParser::dict_expr() {
  Expr* e = make(ExprKind::kDict, tokens_.next().line);
  while (!tokens_.at_op("}")) {
    if (!e->items.empty()) tokens_.expect_op(",");
    if (tokens_.at_op("}")) break;
    e->items.push_back(expression());
    tokens_.expect_op(":");
    e->items.push_back(expression());
  }
  tokens_.expect_op("}");
  return sealed(e);
}

bool ExpressionParser::tuple_ends(std::string_view stop) const {
  return tokens_.at(TokenKind::kPrintEnd) || tokens_.at(TokenKind::kBlockEnd) ||
         tokens_.at_op(")") || (!stop.empty() && tokens_.at_name(stop));
}

const Expr* ExpressionParser::tuple(bool with_condition, std::string_view stop,
                                    bool in_parentheses) {
  const uint32_t line = tokens_.line();
  std::vector<const Expr*> items;
  bool is_tuple = false;
  for (;;) {
    if (!items.empty()) tokens_.expect_op(",");
    if (tuple_ends(stop)) break;
    items.push_back(expression(with_condition));
    if (!tokens_.at_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return items[0];
  if (!is_tuple && !in_parentheses) {
    fail_at(tokens_.line(),
            format("Expected an expression, got '{}'", describe(tokens_.current())));
  }
  return sealed(make(ExprKind::kTuple, line, std::move(items)));
}

const Expr* ExpressionParser::postfix(const Expr* e) {
  for (;;) {
    if (tokens_.at_op(".") || tokens_.at_op("["))
      e = subscript(e);
    else if (tokens_.at_op("("))
      e = call(e);
    else
      return e;
  }
}

const Expr* ExpressionParser::filters_and_tests(const Expr* e) {
  for (;;) {
    if (tokens_.at_op("|"))
      e = filters(e);
    else if (tokens_.at_name("is"))
      e = test(e);
    else if (tokens_.at_op("("))
      e = call(e);
    else
      return e;
  }
}

const Expr* ExpressionParser::subscript(const Expr* e) {
  const Token& open = tokens_.next();
  if (open.text == ".") {
    const Token& token = tokens_.next();
    if (token.kind == TokenKind::kName) {
      Expr* attribute = make(ExprKind::kAttribute, open.line, {e});
      attribute->text = token.text;
      return sealed(attribute);
    }
    if (token.kind != TokenKind::kNumber || !token.number.is(Type::kInt))
      fail_at(token.line, "expected name or number");
    Expr* index = make(ExprKind::kConst, token.line);
    index->constant = token.number;
    return sealed(make(ExprKind::kItem, open.line, {e, sealed(index)}));
  }
  if (tokens_.at_op("]"))
    return (tokens_.next(), sealed(make(ExprKind::kItem, open.line,
                                        {e, sealed(make(ExprKind::kTuple, open.line))})));
  const Expr* result = subscribed(e);
  if (tokens_.at_op(",")) {  // x[a, b]: a tuple as key
    if (result->kind != ExprKind::kItem)
      fail_at(open.line, "slices in a tuple of subscripts are not supported");
    std::vector<const Expr*> keys = {result->items[1]};
    while (tokens_.skip_op(",")) keys.push_back(expression());
    result = sealed(make(ExprKind::kItem, open.line,
                         {e, sealed(make(ExprKind::kTuple, open.line, std::move(keys)))}));
  }
  tokens_.expect_op("]");
  return result;
}

const Expr* ExpressionParser::subscribed(const Expr* e) {
  const uint32_t line = tokens_.line();
  const Expr* bounds[3] = {};
  if (!tokens_.at_op(":")) {
    bounds[0] = expression();
    if (!tokens_.at_op(":")) return sealed(make(ExprKind::kItem, line, {e, bounds[0]}));
  }
  tokens_.next();
  const auto ends = [&] { return tokens_.at_op(":") || tokens_.at_op("]") || tokens_.at_op(","); };
  if (!ends()) bounds[1] = expression();
  if (tokens_.skip_op(":") && !ends()) bounds[2] = expression();
  return sealed(make(ExprKind::kSlice, line, {e, bounds[0], bounds[1], bounds[2]}));
}

const Expr* ExpressionParser::call(const Expr* e) {
  Expr* result = make(ExprKind::kCall, tokens_.line(), {e});
  result->arguments = arguments();
  return sealed(result);
}

std::vector<Argument> ExpressionParser::arguments() {
  const uint32_t line = tokens_.line();
  tokens_.expect_op("(");
  std::vector<Argument> args;
  bool named = false, star = false, star_star = false;
  const auto ensure = [&](bool ok) {
    if (!ok) fail_at(line, "invalid syntax for function call expression");
  };
  while (!tokens_.at_op(")")) {
    if (!args.empty()) {
      tokens_.expect_op(",");
      if (tokens_.at_op(")")) break;
    }
    if (tokens_.at_op("*")) {
      ensure(!star && !star_star);
      star = true;
      tokens_.next();
      args.push_back({Argument::Kind::kStar, {}, expression()});
    } else if (tokens_.at_op("**")) {
      ensure(!star_star);
      star_star = true;
      tokens_.next();
      args.push_back({Argument::Kind::kStarStar, {}, expression()});
    } else if (tokens_.at(TokenKind::kName) && TokenStream::is_op(tokens_.look(), "=")) {
      ensure(!star_star);
      named = true;
      const std::string_view name = tokens_.next().text;
      for (const Argument& a : args) {
        if (a.kind == Argument::Kind::kNamed && a.name == name) {
          fail_at(line, format("keyword argument repeated: {}", name));
        }
      }
      tokens_.next();
      args.push_back({Argument::Kind::kNamed, name, expression()});
    } else {
      ensure(!star && !star_star && !named);
      args.push_back({Argument::Kind::kPositional, {}, expression()});
    }
  }
  tokens_.expect_op(")");
  return args;
}

std::string_view ExpressionParser::dotted_name() {
  std::string_view name = tokens_.expect_any_name();
  if (!tokens_.at_op(".")) return name;
  std::string dotted(name);
  while (tokens_.skip_op(".")) (dotted += '.') += tokens_.expect_any_name();
  return program_.strings.emplace_back(std::move(dotted));
}

const Expr* ExpressionParser::filters(const Expr* operand, bool inline_first) {
  while (inline_first || tokens_.at_op("|")) {
    if (!inline_first) tokens_.next();
    inline_first = false;
    Expr* e = make(ExprKind::kFilter, tokens_.line(), {operand});
    e->text = dotted_name();
    e->filter = find_filter(e->text);
    if (tokens_.at_op("(")) e->arguments = arguments();
    operand = sealed(e);
  }
  return operand;
}

const Expr* ExpressionParser::test(const Expr* operand) {
  const uint32_t line = tokens_.next().line;
  const bool negated = tokens_.skip_name("not");
  Expr* e = make(ExprKind::kTest, line, {operand});
  e->text = dotted_name();
  e->test = find_test(e->text);
  const Token& token = tokens_.current();
  if (tokens_.at_op("(")) {
    e->arguments = arguments();
  } else if ((token.kind == TokenKind::kName && token.text != "else" && token.text != "or" &&
              token.text != "and") ||
             token.kind == TokenKind::kString || token.kind == TokenKind::kNumber ||
             tokens_.at_op("[") || tokens_.at_op("{")) {
    if (tokens_.at_name("is")) fail_at(token.line, "You cannot chain multiple tests with is");
    e->arguments.push_back({Argument::Kind::kPositional, {}, postfix(primary())});
  }
  const Expr* result = sealed(e);
  return negated ? sealed(make(ExprKind::kNot, line, {result})) : result;
}

Target ExpressionParser::single_target(bool with_namespace) {
  const Token& token = tokens_.next();
  if (TokenStream::is_op(token, "(")) {
    const Nesting guard(nesting, kMaxSyntaxDepth, token.line);
    Target inner = target(with_namespace);
    tokens_.expect_op(")");
    return inner;
  }
  if (token.kind != TokenKind::kName || is_constant_name(token.text)) {
    fail_at(token.line, format("can't assign to '{}'", describe(token)));
  }
  Target result{Target::Kind::kName, program_.intern(token.text), {}, {}};
  if (with_namespace && tokens_.skip_op(".")) {
    result.kind = Target::Kind::kNamespace;
    result.attribute = tokens_.expect_any_name();
  }
  return result;
}

Target ExpressionParser::target(bool with_namespace, std::string_view stop) {
  std::vector<Target> items;
  bool is_tuple = false;
  for (;;) {
    if (!items.empty()) tokens_.expect_op(",");
    if (tuple_ends(stop)) break;
    items.push_back(single_target(with_namespace));
    if (!tokens_.at_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && items.size() == 1) return std::move(items[0]);
  if (items.empty())
    fail_at(tokens_.line(),
            format("Expected an expression, got '{}'", describe(tokens_.current())));
  return Target{Target::Kind::kTuple, 0, {}, std::move(items)};
}

}  // namespace moestro::text::jinja
