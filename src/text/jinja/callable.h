// What a template can call: macros, built-in functions, methods of Python's types, filters and
// tests; and their arguments.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace moestro::text::jinja {

class Interpreter;
struct Statement;
struct Scope;

struct NamedValue {
  std::string_view name;
  Value value;
};
struct Args {
  std::span<const Value> positional;
  std::span<const NamedValue> named;
};

// Arguments by parameter name, Python's rules: kMissing where none was given; too many, unknown and
// doubled ones fail.
void bind_into(std::string_view function, const Args& args, std::span<const std::string_view> names,
               size_t required, std::span<Value> out);
template <size_t N>
std::array<Value, N> bind(std::string_view function, const Args& args,
                          const std::array<std::string_view, N>& names, size_t required = 0) {
  std::array<Value, N> out;
  bind_into(function, args, names, required, out);
  return out;
}
// A bound argument as a C++ value; fails with Python's message when the type is wrong.
int64_t int_argument(const Value& v, int64_t fallback);  // kMissing and None: fallback
bool bool_argument(const Value& v, bool fallback);       // truthiness
std::string_view str_argument(const Value& v, std::string_view what);

using Function = Value (*)(Interpreter&, const Args&);
using FilterFunction = Value (*)(Interpreter&, const Value& self, const Args&);
using TestFunction = bool (*)(Interpreter&, const Value& self, const Args&);
using MethodFunction = Value (*)(Interpreter&, const Value& self, const Args&);

FilterFunction find_filter(std::string_view name);  // null: none
TestFunction find_test(std::string_view name);
// A method of the Python type of `self`, null when the type has none of that name.
MethodFunction find_method(const Value& self, std::string_view name);

struct Macro : Object {
  const Statement* definition;  // kMacro, or kCallBlock for a caller
  Scope* scope;                 // where it was defined: late-bound, as Python's closures
  std::string_view name;
};
struct BuiltinFunction : Object {
  Function function;
  std::string_view name;
};
struct BoundMethod : Object {
  MethodFunction function;
  Value self;
  std::string_view name;
};

std::string macro_repr(const Value& v);

}  // namespace moestro::text::jinja
