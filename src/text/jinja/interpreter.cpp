#include "text/jinja/interpreter.h"

#include <algorithm>
#include <utility>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/operators.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {
namespace {
// Of the thread's stack, whose usual size is 8 MiB: the last defence behind max_depth.
constexpr ptrdiff_t kMaxStackBytes = 3 << 20;
}  // namespace

// One more level of recursion: fails before the stack or max_depth is used up.
struct Interpreter::Frame {
  explicit Frame(Interpreter& interpreter) : in(interpreter) {
    if (++in.calls_ > in.heap_.budget().max_depth) {
      fail(format("macros or recursive loops nested more than {} levels deep (limit max_depth)",
                  in.heap_.budget().max_depth));
    }
  }
  ~Frame() { --in.calls_; }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  Interpreter& in;
};

void Scope::set(Heap& heap, Name name, const Value& value) {
  for (uint32_t i = 0; i < size; ++i) {
    if (variables[i].name == name) {
      variables[i].value = value;
      return;
    }
  }
  if (size == capacity) {
    const uint32_t n = capacity ? capacity * 2 : 4;
    Variable* grown = heap.array<Variable>(n);
    if (size) std::memcpy(static_cast<void*>(grown), variables, size * sizeof(Variable));
    variables = grown;
    capacity = n;
  }
  variables[size++] = {name, value};
}

const Value* Scope::find(Name name) const {
  for (const Scope* s = this; s; s = s->parent) {
    for (uint32_t i = 0; i < s->size; ++i) {
      if (s->variables[i].name == name) return &s->variables[i].value;
    }
  }
  return nullptr;
}

Interpreter::Interpreter(const Program& program, const Budget& budget, std::optional<int64_t> now)
    : program_(program), heap_(budget), now_(now) {
  for (const GlobalFunction& f : global_functions()) {
    if (!program_.name_ids.contains(f.name)) continue;
    define_value(
        f.name, Value::of(Type::kCallable, heap_.make<BuiltinFunction>(
                                               Object{ObjectKind::kFunction}, f.function, f.name)));
  }
}

void Interpreter::define_value(std::string_view name, const Value& value) {
  if (const auto it = program_.name_ids.find(name); it != program_.name_ids.end())
    globals_.set(heap_, it->second, value);
}
void Interpreter::define_text(std::string_view name, std::string_view text) {
  define_value(name, Value::string(text));
}
void Interpreter::define(std::string_view name, const json::value& value) {
  if (program_.name_ids.contains(name)) define_value(name, from_json(heap_, value));
}

std::string Interpreter::run() {
  stack_base_ = static_cast<const char*>(__builtin_frame_address(0));
  execute(program_.body, &top_);
  return std::move(out_);
}

Scope* Interpreter::inner(Scope* scope) { return heap_.make<Scope>(scope); }

void Interpreter::print_text(std::string_view text) {
  if (text.size() > heap_.budget().max_output_bytes - out_.size()) {
    fail(format("the rendered text is longer than {} bytes (limit max_output_bytes)",
                heap_.budget().max_output_bytes));
  }
  heap_.step_bytes(text.size());
  out_ += text;
}

void Interpreter::print(const Value& v) {
  if (!v.is(Type::kUndefined)) print_text(to_str(heap_, v));
}

// Runs the body with its output set aside as a value.
Interpreter::Flow Interpreter::capture(const Body& body, Scope* scope, Value* text) {
  const size_t begin = out_.size();
  const Flow flow = execute(body, scope);
  *text = make_string(heap_, std::string_view(out_).substr(begin));
  out_.resize(begin);
  return flow;
}

Interpreter::Flow Interpreter::execute(const Body& body, Scope* scope) {
  for (const Statement* s : body) {
    if (const Flow flow = execute(*s, scope); flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Statement& s, Scope* scope) {
  heap_.step();
  line_ = s.line;
  switch (s.kind) {
    case StatementKind::kText:
      print_text(s.text);
      return Flow::kNext;
    case StatementKind::kPrint:
      for (const Expr* e : s.exprs) print(evaluate(*e, scope));
      return Flow::kNext;
    case StatementKind::kIf:
      return if_statement(s, scope);
    case StatementKind::kFor:
      return for_statement(s, evaluate(*s.expr, scope), scope, 0);
    case StatementKind::kSet:
      assign(s.targets[0], evaluate(*s.expr, scope), scope);
      return Flow::kNext;
    case StatementKind::kSetBlock: {
      Value text;
      const Flow flow = capture(s.body, inner(scope), &text);
      if (flow != Flow::kNext) return flow;
      if (s.expr) text = evaluate_filter(*s.expr, scope, &text);
      assign(s.targets[0], text, scope);
      return Flow::kNext;
    }
    case StatementKind::kWith:
      return with_statement(s, scope);
    case StatementKind::kMacro:
      define_macro(s, scope);
      return Flow::kNext;
    case StatementKind::kCallBlock:
      call_block(s, scope);
      return Flow::kNext;
    case StatementKind::kFilterBlock: {
      Value text;
      const Flow flow = capture(s.body, inner(scope), &text);
      if (flow == Flow::kNext) print(evaluate_filter(*s.expr, scope, &text));
      return flow;
    }
    case StatementKind::kScope:
      return execute(s.body, inner(scope));
    case StatementKind::kBlock:
      return execute(s.body, inner(&top_));
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::if_statement(const Statement& s, Scope* scope) {
  for (const Statement::Branch& branch : s.branches) {
    if (!branch.condition || truthy(evaluate(*branch.condition, scope)))
      return execute(branch.body, scope);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::with_statement(const Statement& s, Scope* scope) {
  Scope* own = inner(scope);
  for (size_t i = 0; i < s.targets.size(); ++i)
    assign(s.targets[i], evaluate(*s.exprs[i], scope), own);
  return execute(s.body, own);
}

void Interpreter::define_macro(const Statement& s, Scope* scope) {
  scope->set(
      heap_, s.name,
      Value::of(Type::kCallable, heap_.make<Macro>(Object{ObjectKind::kMacro}, &s, scope, s.text)));
}

void Interpreter::call_block(const Statement& s, Scope* scope) {
  const NamedValue caller{
      "caller",
      Value::of(Type::kCallable, heap_.make<Macro>(Object{ObjectKind::kMacro}, &s, scope, s.text))};
  print(evaluate_call(*s.expr, scope, &caller));
}

Interpreter::Flow Interpreter::for_statement(const Statement& s, const Value& iterable,
                                             Scope* scope, int64_t depth0) {
  if (iterable.is(Type::kLoop)) fail("a loop over 'loop' itself is not supported");
  Loop& loop = *heap_.make<Loop>();
  loop.kind = ObjectKind::kLoop;
  loop.statement = &s;
  loop.scope = scope;
  loop.filter_scope = s.condition ? inner(scope) : nullptr;
  loop.source = elements(heap_, iterable);
  loop.index0 = -1;
  loop.depth0 = depth0;
  if (!s.condition) loop.length = static_cast<int64_t>(loop.source.size());
  static constexpr std::string_view kLoopName = "loop";
  const auto name = program_.name_ids.find(kLoopName);
  Scope* own = inner(scope);
  bool completed = false;
  for (;;) {
    Value item = loop.after;
    loop.after = Value();
    if (item.missing() && !pull(loop, &item)) break;
    heap_.step();
    ++loop.index0;
    loop.before = loop.current;
    loop.current = item;
    own->size = 0;
    if (name != program_.name_ids.end())
      own->set(heap_, name->second, Value::of(Type::kLoop, &loop));
    assign(s.targets[0], item, own);
    const Flow flow = execute(s.body, own);
    completed |= flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  // As Jinja2 compiles it: iterations that all end in break or continue count as none.
  if (!completed && !s.orelse.empty()) return execute(s.orelse, inner(scope));
  return Flow::kNext;
}

bool Interpreter::pull(Loop& loop, Value* item) {
  while (loop.next_source < loop.source.size()) {
    *item = loop.source[loop.next_source++];
    if (!loop.filter_scope) return true;
    heap_.step();
    loop.filter_scope->size = 0;
    assign(loop.statement->targets[0], *item, loop.filter_scope);
    if (truthy(evaluate(*loop.statement->condition, loop.filter_scope))) return true;
  }
  *item = Value();
  return false;
}

const Value& Interpreter::peek(Loop& loop) {
  if (loop.after.missing()) pull(loop, &loop.after);
  return loop.after;
}

int64_t Interpreter::loop_length(Loop& loop) {
  if (!loop.length) {
    // As LoopContext.length: the rest is filtered now, once.
    List rest;
    Value item;
    while (pull(loop, &item)) rest.push(heap_, item);
    loop.length = static_cast<int64_t>(rest.size) + loop.index0 + 1 + !loop.after.missing();
    loop.source = rest.items();
    loop.next_source = 0;
    loop.filter_scope = nullptr;
  }
  return *loop.length;
}

void Interpreter::assign(const Target& target, const Value& value, Scope* scope) {
  switch (target.kind) {
    case Target::Kind::kName:
      scope->set(heap_, target.name, value);
      return;
    case Target::Kind::kNamespace: {
      const Value* ns = scope->find(target.name);
      if (!ns || !ns->is(Type::kNamespace)) fail("cannot assign attribute on non-namespace object");
      ns->dict->set(heap_, Value::string(target.attribute), value);
      return;
    }
    case Target::Kind::kTuple: {
      if (!is_iterable(value))
        fail(format("cannot unpack non-iterable {} object", type_name(value)));
      const std::span<const Value> items = elements(heap_, value);
      if (items.size() > target.items.size())
        fail(format("too many values to unpack (expected {})", target.items.size()));
      if (items.size() < target.items.size()) {
        fail(format("not enough values to unpack (expected {}, got {})", target.items.size(),
                    items.size()));
      }
      for (size_t i = 0; i < items.size(); ++i) assign(target.items[i], items[i], scope);
      return;
    }
  }
}

Value Interpreter::recurse(const Loop& loop, const Args& args) {
  if (!loop.statement->recursive)
    fail("The loop must have the 'recursive' marker to be called recursively.");
  const auto [iterable] = bind<1>("loop", args, {"iterable"}, 1);
  const Frame frame(*this);
  const uint32_t line = line_;
  const size_t begin = out_.size();
  for_statement(*loop.statement, iterable, loop.scope, loop.depth0 + 1);
  const Value text = make_string(heap_, std::string_view(out_).substr(begin));
  out_.resize(begin);
  line_ = line;
  return text;
}

Value Interpreter::call_macro(const Macro& macro, const Args& args) {
  const Frame frame(*this);
  const Statement& s = *macro.definition;
  const uint32_t line = line_;
  Scope* scope = inner(macro.scope);
  std::vector<bool> used(args.named.size());
  const auto take = [&](std::string_view name) -> const Value* {
    for (size_t i = 0; i < args.named.size(); ++i) {
      if (args.named[i].name == name && !used[i]) {
        used[i] = true;
        return &args.named[i].value;
      }
    }
    return nullptr;
  };
  bool has_caller_parameter = false;
  std::vector<const Parameter*> absent;
  for (size_t i = 0; i < s.parameters.size(); ++i) {
    const Parameter& p = s.parameters[i];
    has_caller_parameter |= p.text == "caller";
    const Value* given = i < args.positional.size() ? &args.positional[i] : take(p.text);
    if (given)
      scope->set(heap_, p.name, *given);
    else
      absent.push_back(&p);
  }
  if (s.uses_caller && !has_caller_parameter) {
    const Value* caller = take("caller");
    scope->set(heap_, program_.name_ids.at("caller"),
               caller ? *caller : undefined_hint(heap_, "No caller defined"));
  }
  if (s.uses_kwargs) {
    const Value kwargs = make_dict(heap_);
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) kwargs.dict->set(heap_, Value::string(args.named[i].name), args.named[i].value);
    }
    scope->set(heap_, program_.name_ids.at("kwargs"), kwargs);
  } else if (const auto it = std::find(used.begin(), used.end(), false); it != used.end()) {
    fail(format("macro '{}' takes no keyword argument '{}'", macro.name,
                args.named[static_cast<size_t>(it - used.begin())].name));
  }
  if (s.uses_varargs) {
    const size_t n = std::min(args.positional.size(), s.parameters.size());
    scope->set(heap_, program_.name_ids.at("varargs"),
               make_list(heap_, args.positional.subspan(n), Type::kTuple));
  } else if (args.positional.size() > s.parameters.size()) {
    fail(format("macro '{}' takes not more than {} argument(s)", macro.name, s.parameters.size()));
  }
  for (const Parameter* p : absent) {
    const Value value =
        p->fallback
            ? evaluate(*p->fallback, scope)
            : undefined_hint(heap_, heap_.copy(format("parameter '{}' was not provided", p->text)));
    scope->set(heap_, p->name, value);
  }
  Value text;
  capture(s.body, scope, &text);
  line_ = line;
  return text;
}

Value Interpreter::call(const Value& callee, const Args& args) {
  check_stack();
  heap_.step();
  if (callee.is(Type::kLoop)) return recurse(*static_cast<Loop*>(callee.object), args);
  if (callee.is(Type::kUndefined)) fail_undefined(heap_, callee);
  if (!callee.is(Type::kCallable)) fail(format("'{}' object is not callable", type_name(callee)));
  switch (callee.object->kind) {
    case ObjectKind::kMacro:
      return call_macro(*static_cast<Macro*>(callee.object), args);
    case ObjectKind::kFunction:
      return static_cast<BuiltinFunction*>(callee.object)->function(*this, args);
    case ObjectKind::kMethod: {
      const auto& method = *static_cast<BoundMethod*>(callee.object);
      return method.function(*this, method.self, args);
    }
    case ObjectKind::kJoiner: {
      auto& joiner = *static_cast<Joiner*>(callee.object);
      return Value::string(std::exchange(joiner.used, true) ? joiner.separator
                                                            : std::string_view());
    }
    default:
      fail("object is not callable");
  }
}

void Interpreter::check_stack() const {
  if (stack_base_ - static_cast<const char*>(__builtin_frame_address(0)) > kMaxStackBytes) {
    fail("the template is nested too deeply");
  }
}

Value Interpreter::evaluate(const Expr& e, Scope* scope) {
  heap_.step();
  check_stack();
  switch (e.kind) {
    case ExprKind::kConst:
      return e.constant;
    case ExprKind::kName:
      return evaluate_name(e, scope);
    case ExprKind::kTuple:
    case ExprKind::kList:
      return evaluate_list(e, scope);
    case ExprKind::kDict:
      return evaluate_dict(e, scope);
    case ExprKind::kAttribute:
      return attribute(evaluate(*e.items[0], scope), e.text);
    case ExprKind::kItem: {
      const Value object = evaluate(*e.items[0], scope);
      return item(object, evaluate(*e.items[1], scope));
    }
    case ExprKind::kSlice:
      return evaluate_slice(e, scope);
    case ExprKind::kCall:
      return evaluate_call(e, scope);
    case ExprKind::kFilter:
      return evaluate_filter(e, scope);
    case ExprKind::kTest:
      return evaluate_test(e, scope);
    case ExprKind::kNot:
      return Value::boolean(!truthy(evaluate(*e.items[0], scope)));
    case ExprKind::kNegative:
      return negative(heap_, evaluate(*e.items[0], scope));
    case ExprKind::kPositive:
      return positive(heap_, evaluate(*e.items[0], scope));
    case ExprKind::kAnd: {
      const Value left = evaluate(*e.items[0], scope);
      return truthy(left) ? evaluate(*e.items[1], scope) : left;
    }
    case ExprKind::kOr: {
      const Value left = evaluate(*e.items[0], scope);
      return truthy(left) ? left : evaluate(*e.items[1], scope);
    }
    case ExprKind::kCondition:
      if (truthy(evaluate(*e.items[1], scope))) return evaluate(*e.items[0], scope);
      if (e.items[2]) return evaluate(*e.items[2], scope);
      return undefined_hint(
          heap_, "the inline if-expression evaluated to false and no else section was defined.");
    case ExprKind::kConcat:
      return evaluate_concat(e, scope);
    case ExprKind::kCompare:
      return evaluate_compare(e, scope);
    default: {
      const Value left = evaluate(*e.items[0], scope);
      const Value right = evaluate(*e.items[1], scope);
      return binary(heap_, e.kind, left, right);
    }
  }
}

}  // namespace moestro::text::jinja
