// The expression half of Interpreter: names, displays, calls, filters, tests, attributes and items.
#include <algorithm>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {

Value Interpreter::evaluate_name(const Expr& e, Scope* scope) {
  const Value* found = scope->find(e.name);
  return found ? *found : undefined_variable(heap_, e.text);
}

Value Interpreter::evaluate_list(const Expr& e, Scope* scope) {
  List list;
  list.reserve(heap_, e.items.size());
  for (const Expr* item : e.items) list.push(heap_, evaluate(*item, scope));
  return make_list(heap_, list, e.kind == ExprKind::kTuple ? Type::kTuple : Type::kList);
}

Value Interpreter::evaluate_dict(const Expr& e, Scope* scope) {
  const Value dict = make_dict(heap_);
  for (size_t i = 0; i + 1 < e.items.size(); i += 2) {
    const Value key = evaluate(*e.items[i], scope);
    dict.dict->set(heap_, key, evaluate(*e.items[i + 1], scope));
  }
  return dict;
}

Value Interpreter::evaluate_slice(const Expr& e, Scope* scope) {
  const Value object = evaluate(*e.items[0], scope);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (e.items[i + 1]) bounds[i] = evaluate(*e.items[i + 1], scope);
  }
  return slice(heap_, object, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::evaluate_concat(const Expr& e, Scope* scope) {
  std::string_view text;
  for (const Expr* item : e.items) text = heap_.concat(text, to_str(heap_, evaluate(*item, scope)));
  return Value::string(text);
}

Value Interpreter::evaluate_compare(const Expr& e, Scope* scope) {
  const auto ordered = [&](const Value& a, const Value& b, std::string_view op, auto holds) {
    bool unordered = false;
    const int c = compare(heap_, a, b, op, &unordered);
    return !unordered && holds(c);
  };
  Value left = evaluate(*e.items[0], scope);
  for (size_t i = 0; i < e.compare_ops.size(); ++i) {
    const Value right = evaluate(*e.items[i + 1], scope);
    bool holds = false;
    switch (e.compare_ops[i]) {
      case CompareOp::kEq:
        holds = equals(heap_, left, right);
        break;
      case CompareOp::kNe:
        holds = !equals(heap_, left, right);
        break;
      case CompareOp::kLt:
        holds = ordered(left, right, "<", [](int c) { return c < 0; });
        break;
      case CompareOp::kLe:
        holds = ordered(left, right, "<=", [](int c) { return c <= 0; });
        break;
      case CompareOp::kGt:
        holds = ordered(left, right, ">", [](int c) { return c > 0; });
        break;
      case CompareOp::kGe:
        holds = ordered(left, right, ">=", [](int c) { return c >= 0; });
        break;
      case CompareOp::kIn:
        holds = contains(heap_, right, left);
        break;
      case CompareOp::kNotIn:
        holds = !contains(heap_, right, left);
        break;
    }
    if (!holds) return Value::boolean(false);
    left = right;
  }
  return Value::boolean(true);
}

Args Interpreter::evaluate_arguments(const std::vector<Argument>& arguments, Scope* scope,
                                     const NamedValue* extra) {
  List positional;
  std::span<const NamedValue> named;
  if (arguments.empty() && !extra) return {};
  std::vector<NamedValue> names;
  const auto add_name = [&](std::string_view name, const Value& value) {
    heap_.step(1 + names.size());
    for (const NamedValue& n : names) {
      if (n.name == name) fail(format("got multiple values for keyword argument '{}'", name));
    }
    names.push_back({name, value});
  };
  for (const Argument& a : arguments) {
    const Value value = evaluate(*a.value, scope);
    switch (a.kind) {
      case Argument::Kind::kPositional:
        positional.push(heap_, value);
        break;
      case Argument::Kind::kNamed:
        add_name(a.name, value);
        break;
      case Argument::Kind::kStar:
        for (const Value& v : elements(heap_, value)) positional.push(heap_, v);
        break;
      case Argument::Kind::kStarStar:
        if (!value.is(Type::kDict))
          fail(format("argument after ** must be a mapping, not {}", type_name(value)));
        for (const Dict::Entry& entry : value.dict->items()) {
          if (!entry.key.is_string()) fail("keywords must be strings");
          add_name(entry.key.text(), entry.value);
        }
        break;
    }
  }
  if (extra) add_name(extra->name, extra->value);
  if (!names.empty()) {
    NamedValue* kept = heap_.array<NamedValue>(names.size());
    std::copy(names.begin(), names.end(), kept);
    named = {kept, names.size()};
  }
  return {positional.items(), named};
}

Value Interpreter::evaluate_call(const Expr& e, Scope* scope, const NamedValue* extra) {
  const Expr& callee = *e.items[0];
  if (callee.kind == ExprKind::kAttribute) {
    // obj.method(…): the common case needs no bound method object.
    const Value object = evaluate(*callee.items[0], scope);
    if (const MethodFunction method = find_method(object, callee.text)) {
      const Args args = evaluate_arguments(e.arguments, scope, extra);
      line_ = e.line;
      return method(*this, object, args);
    }
    const Value function = attribute(object, callee.text);
    const Args args = evaluate_arguments(e.arguments, scope, extra);
    line_ = e.line;
    return call(function, args);
  }
  const Value function = evaluate(callee, scope);
  const Args args = evaluate_arguments(e.arguments, scope, extra);
  line_ = e.line;
  return call(function, args);
}

Value Interpreter::evaluate_filter(const Expr& e, Scope* scope, const Value* block) {
  const Expr* operand = e.items[0];
  check_stack();
  const Value self = !operand ? *block
                     : block && operand->kind == ExprKind::kFilter
                         ? evaluate_filter(*operand, scope, block)
                         : evaluate(*operand, scope);
  line_ = e.line;
  if (!e.filter) fail(format("No filter named '{}' found.", e.text));
  const Args args = evaluate_arguments(e.arguments, scope, nullptr);
  return e.filter(*this, self, args);
}

Value Interpreter::evaluate_test(const Expr& e, Scope* scope) {
  const Value self = evaluate(*e.items[0], scope);
  if (!e.test) fail(format("No test named '{}' found.", e.text));
  const Args args = evaluate_arguments(e.arguments, scope, nullptr);
  return Value::boolean(e.test(*this, self, args));
}

Value Interpreter::apply_filter(std::string_view name, const Value& self, const Args& args) {
  const FilterFunction filter = find_filter(name);
  if (!filter) fail(format("No filter named '{}'.", name));
  check_stack();
  heap_.step();
  return filter(*this, self, args);
}

bool Interpreter::apply_test(std::string_view name, const Value& self, const Args& args) {
  const TestFunction test = find_test(name);
  if (!test) fail(format("No test named '{}'.", name));
  check_stack();
  heap_.step();
  return test(*this, self, args);
}

Value Interpreter::loop_attribute(Loop& loop, std::string_view name) {
  if (name == "index") return Value::integer(loop.index0 + 1);
  if (name == "index0") return Value::integer(loop.index0);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "last") return Value::boolean(peek(loop).missing());
  if (name == "length") return Value::integer(loop_length(loop));
  if (name == "revindex") return Value::integer(loop_length(loop) - loop.index0);
  if (name == "revindex0") return Value::integer(loop_length(loop) - loop.index0 - 1);
  if (name == "depth") return Value::integer(loop.depth0 + 1);
  if (name == "depth0") return Value::integer(loop.depth0);
  if (name == "previtem") {
    return loop.index0 == 0 ? undefined_hint(heap_, "there is no previous item") : loop.before;
  }
  if (name == "nextitem") {
    const Value& next = peek(loop);
    return next.missing() ? undefined_hint(heap_, "there is no next item") : next;
  }
  return Value();
}

// Attributes of our own objects and of groupby's pairs; kMissing: none of that name.
Value Interpreter::object_attribute(const Value& object, std::string_view name) {
  switch (object.type) {
    case Type::kLoop:
      return loop_attribute(*static_cast<Loop*>(object.object), name);
    case Type::kCycler: {
      const auto& cycler = *static_cast<Cycler*>(object.object);
      return name == "current" ? cycler.items.data[cycler.at] : Value();
    }
    case Type::kTuple:
      if (object.flag && name == "grouper") return object.list->data[0];
      return object.flag && name == "list" ? object.list->data[1] : Value();
    case Type::kCallable:
      return object.object->kind == ObjectKind::kMacro && name == "name"
                 ? Value::string(static_cast<Macro*>(object.object)->name)
                 : Value();
    default:
      return Value();
  }
}

Value Interpreter::attribute(const Value& object, std::string_view name) {
  if (object.is(Type::kUndefined)) fail_undefined(heap_, object);
  if (object.is(Type::kNamespace)) {
    const Value* found = object.dict->find(heap_, name);
    return found ? *found : undefined_member(heap_, object, Value::string(name));
  }
  if (const MethodFunction method = find_method(object, name)) {
    return Value::of(Type::kCallable,
                     heap_.make<BoundMethod>(Object{ObjectKind::kMethod}, method, object, name));
  }
  if (const Value own = object_attribute(object, name); !own.missing()) return own;
  if (object.is(Type::kDict)) {
    if (const Value* found = object.dict->find(heap_, name)) return *found;
  }
  if (name.starts_with("__"))
    fail(format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)));
  return undefined_member(heap_, object, Value::string(name));
}

Value Interpreter::item(const Value& object, const Value& key) {
  switch (object.type) {
    case Type::kUndefined:
      fail_undefined(heap_, object);
    case Type::kDict:
      if (!key.is_sequence() || key.is(Type::kTuple)) {
        if (key.is(Type::kDict)) break;
        if (const Value* found = object.dict->find(heap_, key)) return *found;
      }
      break;
    case Type::kList:
    case Type::kTuple:
    case Type::kString:
    case Type::kRange:
      if (key.is_int()) {
        const Value found = item_at(heap_, object, key.i);
        return found.missing() ? undefined_member(heap_, object, key) : found;
      }
      break;
    default:
      break;
  }
  return key.is_string() ? attribute(object, key.text()) : undefined_member(heap_, object, key);
}

}  // namespace moestro::text::jinja
