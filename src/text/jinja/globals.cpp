// The functions every template has. Semantics: jinja2.defaults and jinja2.sandbox, and
// transformers' two additions.
#include <chrono>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/repr.h"
#include "text/jinja/strftime.h"

namespace moestro::text::jinja {
namespace {

constexpr int64_t kMaxRange = 100000;  // the sandbox's

Value range(Interpreter& in, const Args& args) {
  if (args.positional.empty()) fail("range expected at least 1 argument, got 0");
  const auto [a, b, c] = bind<3>("range", args, {"start", "stop", "step"}, 1);
  for (const Value& v : args.positional) {
    if (v.is(Type::kUndefined)) fail_undefined(in.heap(), v);
    if (!v.is_int()) fail(format("'{}' object cannot be interpreted as an integer", type_name(v)));
  }
  const int64_t start = b.missing() ? 0 : a.i;
  const int64_t stop = b.missing() ? a.i : b.i;
  const int64_t step = c.missing() ? 1 : c.i;
  if (step == 0) fail("range() arg 3 must not be zero");
  Range* made = in.heap().make<Range>(Object{ObjectKind::kRange}, start, stop, step);
  if (made->count() > kMaxRange) {
    fail(format("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange));
  }
  return Value::of(Type::kRange, made);
}

void fill(Interpreter& in, Dict& dict, const Args& args, std::string_view name) {
  if (args.positional.size() > 1)
    fail(format("{} expected at most 1 argument, got {}", name, args.positional.size()));
  if (!args.positional.empty()) fill_dict(in.heap(), dict, args.positional[0]);
  for (const NamedValue& named : args.named)
    dict.set(in.heap(), Value::string(named.name), named.value);
}

Value dict(Interpreter& in, const Args& args) {
  const Value made = make_dict(in.heap());
  fill(in, *made.dict, args, "dict");
  return made;
}

Value make_namespace(Interpreter& in, const Args& args) {
  Value made = make_dict(in.heap());
  fill(in, *made.dict, args, "namespace");
  made.type = Type::kNamespace;
  return made;
}

Value cycler(Interpreter& in, const Args& args) {
  if (args.positional.empty()) fail("at least one item has to be provided");
  const Value items = make_list(in.heap(), args.positional);
  return Value::of(Type::kCycler,
                   in.heap().make<Cycler>(Object{ObjectKind::kCycler}, *items.list, size_t{0}));
}

Value joiner(Interpreter& in, const Args& args) {
  const auto [separator] = bind<1>("joiner", args, {"sep"});
  const std::string_view text = separator.missing() ? ", " : to_str(in.heap(), separator);
  return Value::of(Type::kCallable,
                   in.heap().make<Joiner>(Object{ObjectKind::kJoiner}, text, false));
}

Value lipsum(Interpreter&, const Args&) { fail("lipsum() is not supported: its text is random"); }

Value raise_exception(Interpreter& in, const Args& args) {
  const auto [message] = bind<1>("raise_exception", args, {"message"}, 1);
  throw Failure{Code::kInvalidArgument, std::string(to_str(in.heap(), message)), 0, true};
}

Value strftime_now(Interpreter& in, const Args& args) {
  const auto [pattern] = bind<1>("strftime_now", args, {"format"}, 1);
  const auto system_now = [] {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const std::string_view text = str_argument(pattern, "strftime() argument 1");
  in.heap().require(text.size() * 16);
  in.heap().step_bytes(text.size() * 64);
  return make_string(in.heap(), format_time(in.now() ? *in.now() : system_now(), text));
}

constexpr GlobalFunction kFunctions[] = {
    {"range", range},
    {"dict", dict},
    {"namespace", make_namespace},
    {"cycler", cycler},
    {"joiner", joiner},
    {"lipsum", lipsum},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
};

}  // namespace

std::span<const GlobalFunction> global_functions() { return kFunctions; }

}  // namespace moestro::text::jinja
