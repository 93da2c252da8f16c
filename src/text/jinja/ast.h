// The syntax tree of a template, made once by the parser, then read by any number of renders at
// once. Nodes are owned by the Program in flat lists, so deep trees are destroyed without
// recursion; depth is bounded by kMaxSyntaxDepth.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja/callable.h"
#include "text/jinja/value.h"

namespace moestro::text::jinja {

constexpr int kMaxSyntaxDepth = 200;

using Name = uint32_t;  // index into Program::names

enum class ExprKind : uint8_t {
  kConst,
  kName,
  kTuple,
  kList,
  kDict,       // items: key, value, key, value, …
  kAttribute,  // items[0].text
  kItem,       // items[0][items[1]]
  kSlice,      // items[0][items[1]:items[2]:items[3]], each of the three may be null
  kCall,       // items[0](arguments)
  kFilter,     // items[0] | text(arguments); items[0] null: the body of a filter block
  kTest,       // items[0] is text(arguments)
  kNot,
  kNegative,
  kPositive,
  kAnd,
  kOr,
  kCondition,  // items[0] if items[1] else items[2]; items[2] may be null
  kConcat,     // ~
  kCompare,    // items[0] compare_ops[0] items[1] compare_ops[1] items[2] …
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
};

enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr;
struct Argument {
  enum class Kind : uint8_t { kPositional, kNamed, kStar, kStarStar };
  Kind kind;
  std::string_view name;  // kNamed
  const Expr* value;
};

struct Expr {
  ExprKind kind;
  uint16_t depth = 1;
  uint32_t line = 0;
  Value constant;                   // kConst
  Name name = 0;                    // kName
  std::string_view text;            // attribute, filter or test name
  FilterFunction filter = nullptr;  // null: no such filter, an error when it is reached
  TestFunction test = nullptr;
  std::vector<const Expr*> items;
  std::vector<Argument> arguments;
  std::vector<CompareOp> compare_ops;
};

// What `for`, `set` and `with` assign to.
struct Target {
  enum class Kind : uint8_t { kName, kNamespace, kTuple };
  Kind kind;
  Name name = 0;
  std::string_view attribute;  // kNamespace
  std::vector<Target> items;   // kTuple
};

enum class StatementKind : uint8_t {
  kText,
  kPrint,        // exprs
  kIf,           // branches; the last may have no condition
  kFor,          // target in expr (if condition) body else orelse
  kSet,          // target = expr
  kSetBlock,     // target = body | expr (filter chain or null)
  kWith,         // targets = exprs, body
  kMacro,        // name(parameters), body
  kCallBlock,    // expr is a call; parameters, body
  kFilterBlock,  // expr is a filter chain, body
  kScope,        // body in its own scope: autoescape false
  kBlock,        // body, seeing only the template's top level
  kBreak,
  kContinue,
};

struct Statement;
using Body = std::vector<const Statement*>;

struct Parameter {
  Name name;
  std::string_view text;
  const Expr* fallback;  // null: none
};

struct Statement {
  StatementKind kind;
  uint32_t line = 0;
  std::string_view text;
  const Expr* expr = nullptr;
  const Expr* condition = nullptr;
  bool recursive = false;
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;  // kMacro, kCallBlock
  Name name = 0;
  std::vector<const Expr*> exprs;
  std::vector<Target> targets;
  std::vector<Parameter> parameters;
  struct Branch {
    const Expr* condition;
    Body body;
  };
  std::vector<Branch> branches;
  Body body;
  Body orelse;
};

struct Program {
  std::string source;  // newlines normalised; texts of the tree point into it
  std::deque<Expr> exprs;
  std::deque<Statement> statements;
  std::deque<std::string> strings;  // constants with escapes
  std::deque<std::string> names;
  std::unordered_map<std::string_view, Name> name_ids;
  Body body;

  Name intern(std::string_view text) {
    if (const auto it = name_ids.find(text); it != name_ids.end()) return it->second;
    names.emplace_back(text);
    const Name id = static_cast<Name>(names.size() - 1);
    name_ids.emplace(names.back(), id);
    return id;
  }
};

}  // namespace moestro::text::jinja
