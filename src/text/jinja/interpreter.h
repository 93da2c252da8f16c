// Interpreter: one render of one Program. ChatTemplate::render makes one a call; filters, tests and
// methods get it as their context. Single-threaded; throws Failure.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/ast.h"
#include "text/jinja/heap.h"
#include "text/jinja/value.h"

namespace moestro::text::jinja {

// Variables of one scope, in order of first assignment. Reused by the iterations of a loop, as
// Python's frame is.
struct Scope {
  struct Variable {
    Name name;
    Value value;
  };
  Scope* parent;
  Variable* variables = nullptr;
  uint32_t size = 0;
  uint32_t capacity = 0;

  void set(Heap& heap, Name name, const Value& value);
  const Value* find(Name name) const;  // here and outwards
};

// What {{ loop }} is. The source is pulled one element at a time, so that a loop's filter sees what
// its body changed.
struct Loop : Object {
  const Statement* statement;
  Scope* scope;         // around the loop
  Scope* filter_scope;  // null: no filter
  std::span<const Value> source;
  size_t next_source;
  int64_t index0;
  int64_t depth0;
  std::optional<int64_t> length;  // known, or counted once it was asked for
  Value before, current, after;   // after: an element that was looked at early
  Value last_changed;
};

class Interpreter {
 public:
  Interpreter(const Program& program, const Budget& budget, std::optional<int64_t> now);

  // The variables a render starts with; those the program never names cost nothing.
  void define(std::string_view name, const json::value& value);
  void define_text(std::string_view name, std::string_view text);
  void define_value(std::string_view name, const Value& value);
  std::string run();
  uint32_t line() const { return line_; }  // being rendered

  Heap& heap() { return heap_; }
  std::optional<int64_t> now() const { return now_; }
  Value call(const Value& callee, const Args& args);
  Value attribute(const Value& object, std::string_view name);
  Value item(const Value& object, const Value& key);
  Value apply_filter(std::string_view name, const Value& self, const Args& args);
  bool apply_test(std::string_view name, const Value& self, const Args& args);

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  struct Frame;  // guards recursion

  Flow execute(const Body& body, Scope* scope);
  Flow execute(const Statement& s, Scope* scope);
  Flow if_statement(const Statement& s, Scope* scope);
  Flow for_statement(const Statement& s, const Value& iterable, Scope* scope, int64_t depth0);
  void set_block(const Statement& s, Scope* scope);
  void define_macro(const Statement& s, Scope* scope);
  Flow with_statement(const Statement& s, Scope* scope);
  void call_block(const Statement& s, Scope* scope);
  void print(const Value& v);
  void print_text(std::string_view text);
  void assign(const Target& target, const Value& value, Scope* scope);
  Scope* inner(Scope* scope);
  Flow capture(const Body& body, Scope* scope, Value* text);

  void check_stack() const;
  Value evaluate(const Expr& e, Scope* scope);
  Value evaluate_name(const Expr& e, Scope* scope);
  Value evaluate_list(const Expr& e, Scope* scope);
  Value evaluate_dict(const Expr& e, Scope* scope);
  Value evaluate_slice(const Expr& e, Scope* scope);
  Value evaluate_call(const Expr& e, Scope* scope, const NamedValue* extra = nullptr);
  Value evaluate_filter(const Expr& e, Scope* scope, const Value* block = nullptr);
  Value evaluate_test(const Expr& e, Scope* scope);
  Value evaluate_concat(const Expr& e, Scope* scope);
  Value evaluate_compare(const Expr& e, Scope* scope);
  Args evaluate_arguments(const std::vector<Argument>& arguments, Scope* scope,
                          const NamedValue* extra);

  Value call_macro(const Macro& macro, const Args& args);
  Value recurse(const Loop& loop, const Args& args);
  Value loop_attribute(Loop& loop, std::string_view name);
  bool pull(Loop& loop, Value* item);  // the next element that passes the filter
  const Value& peek(Loop& loop);
  int64_t loop_length(Loop& loop);
  Value object_attribute(const Value& object, std::string_view name);

  const Program& program_;
  Heap heap_;
  std::optional<int64_t> now_;
  std::string out_;
  Scope globals_{nullptr};
  Scope top_{&globals_};
  uint32_t line_ = 0;
  uint64_t calls_ = 0;  // nested macro calls and recursive loops
  const char* stack_base_ = nullptr;
};

// The functions every template has: range, dict, namespace, cycler, joiner, raise_exception,
// strftime_now.
struct GlobalFunction {
  std::string_view name;
  Function function;
};
std::span<const GlobalFunction> global_functions();

}  // namespace moestro::text::jinja
