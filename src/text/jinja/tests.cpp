// The tests: what may follow "is". Semantics: jinja2.tests.
#include <cmath>
#include <unordered_map>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {
namespace {

void no_arguments(const Args& args) { (void)bind<0>("test", args, {}); }
Value one_argument(const Args& args) { return bind<1>("test", args, {"other"}, 1)[0]; }

bool remainder_is(Interpreter& in, const Value& self, int64_t by, int64_t wanted) {
  const Value rest = binary(in.heap(), ExprKind::kMod, self, Value::integer(by));
  return equals(in.heap(), rest, Value::integer(wanted));
}

bool same_object(const Value& a, const Value& b) {
  if (a.type != b.type) return false;
  switch (a.type) {
    case Type::kUndefined:
    case Type::kNone:
      return a.type == Type::kNone || a.undefined == b.undefined;
    case Type::kBool:
    case Type::kInt:
      return a.i == b.i;
    case Type::kFloat:
      return a.d == b.d;
    case Type::kString:
      return a.text() == b.text();
    default:
      return a.list == b.list;
  }
}

template <class F>
bool ordered(Interpreter& in, const Value& self, const Args& args, std::string_view op, F holds) {
  bool unordered = false;
  const int c = compare(in.heap(), self, one_argument(args), op, &unordered);
  return !unordered && holds(c);
}

// str.islower and str.isupper: at least one cased character, none of the other case.
bool has_case(Interpreter& in, const Value& self, bool upper) {
  const std::string_view text = to_str(in.heap(), self);
  in.heap().step_bytes(text.size());
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode(text, i);
    i += c.size;
    if (is_title(c.value) || (upper ? is_lower(c.value) : is_upper(c.value))) return false;
    found |= upper ? is_upper(c.value) : is_lower(c.value);
  }
  return found;
}

bool is_sequence(const Value& v) {
  switch (v.type) {
    case Type::kUndefined:
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kRange:
      return true;
    default:
      return false;
  }
}

using In = Interpreter&;
using Self = const Value&;
using Given = const Args&;

const std::unordered_map<std::string_view, TestFunction>& tests() {
  static const std::unordered_map<std::string_view, TestFunction> kTests = [] {
    std::unordered_map<std::string_view, TestFunction> t;
    t["odd"] = [](In in, Self v, Given a) { return no_arguments(a), remainder_is(in, v, 2, 1); };
    t["even"] = [](In in, Self v, Given a) { return no_arguments(a), remainder_is(in, v, 2, 0); };
    t["divisibleby"] = [](In in, Self v, Given a) {
      const Value rest =
          binary(in.heap(), ExprKind::kMod, v, bind<1>("divisibleby", a, {"num"}, 1)[0]);
      return equals(in.heap(), rest, Value::integer(0));
    };
    t["defined"] = [](In, Self v, Given a) { return no_arguments(a), !v.is(Type::kUndefined); };
    t["undefined"] = [](In, Self v, Given a) { return no_arguments(a), v.is(Type::kUndefined); };
    t["filter"] = [](In, Self v, Given a) {
      return no_arguments(a), v.is_string() && find_filter(v.text());
    };
    t["test"] = [](In, Self v, Given a) {
      return no_arguments(a), v.is_string() && find_test(v.text());
    };
    t["none"] = [](In, Self v, Given a) { return no_arguments(a), v.is(Type::kNone); };
    t["boolean"] = [](In, Self v, Given a) { return no_arguments(a), v.is(Type::kBool); };
    t["true"] = [](In, Self v, Given a) { return no_arguments(a), v.is(Type::kBool) && v.i; };
    t["false"] = [](In, Self v, Given a) { return no_arguments(a), v.is(Type::kBool) && !v.i; };
    t["integer"] = [](In, Self v, Given a) {
      return no_arguments(a), v.is(Type::kInt) || v.is(Type::kBigInt);
    };
    t["float"] = [](In, Self v, Given a) { return no_arguments(a), v.is(Type::kFloat); };
    t["number"] = [](In, Self v, Given a) { return no_arguments(a), v.is_number(); };
    t["string"] = [](In, Self v, Given a) { return no_arguments(a), v.is_string(); };
    t["mapping"] = [](In, Self v, Given a) { return no_arguments(a), v.is(Type::kDict); };
    t["sequence"] = [](In, Self v, Given a) { return no_arguments(a), is_sequence(v); };
    t["iterable"] = [](In, Self v, Given a) { return no_arguments(a), is_iterable(v); };
    t["callable"] = [](In, Self v, Given a) {
      return no_arguments(a), v.is(Type::kCallable) || v.is(Type::kLoop) || v.is(Type::kUndefined);
    };
    t["escaped"] = [](In, Self v, Given a) { return no_arguments(a), v.is_markup(); };
    t["lower"] = [](In in, Self v, Given a) { return no_arguments(a), has_case(in, v, false); };
    t["upper"] = [](In in, Self v, Given a) { return no_arguments(a), has_case(in, v, true); };
    t["sameas"] = [](In, Self v, Given a) { return same_object(v, one_argument(a)); };
    t["in"] = [](In in, Self v, Given a) {
      return contains(in.heap(), bind<1>("in", a, {"seq"}, 1)[0], v);
    };
    t["=="] = t["eq"] =
        t["equalto"] = [](In in, Self v, Given a) { return equals(in.heap(), v, one_argument(a)); };
    t["!="] =
        t["ne"] = [](In in, Self v, Given a) { return !equals(in.heap(), v, one_argument(a)); };
    t[">"] = t["gt"] = t["greaterthan"] = [](In in, Self v, Given a) {
      return ordered(in, v, a, ">", [](int c) { return c > 0; });
    };
    t[">="] = t["ge"] = [](In in, Self v, Given a) {
      return ordered(in, v, a, ">=", [](int c) { return c >= 0; });
    };
    t["<"] = t["lt"] = t["lessthan"] = [](In in, Self v, Given a) {
      return ordered(in, v, a, "<", [](int c) { return c < 0; });
    };
    t["<="] = t["le"] = [](In in, Self v, Given a) {
      return ordered(in, v, a, "<=", [](int c) { return c <= 0; });
    };
    return t;
  }();
  return kTests;
}

}  // namespace

TestFunction find_test(std::string_view name) {
  const auto it = tests().find(name);
  return it == tests().end() ? nullptr : it->second;
}

}  // namespace moestro::text::jinja
