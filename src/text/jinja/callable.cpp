#include "text/jinja/callable.h"

#include <algorithm>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {

void bind_into(std::string_view function, const Args& args, std::span<const std::string_view> names,
               size_t required, std::span<Value> out) {
  if (args.positional.size() > names.size()) {
    fail(format("{}() takes at most {} argument(s) ({} given)", function, names.size(),
                args.positional.size()));
  }
  std::copy(args.positional.begin(), args.positional.end(), out.begin());
  for (const NamedValue& named : args.named) {
    const auto it = std::find(names.begin(), names.end(), named.name);
    if (it == names.end())
      fail(format("{}() got an unexpected keyword argument '{}'", function, named.name));
    Value& slot = out[static_cast<size_t>(it - names.begin())];
    if (!slot.missing())
      fail(format("{}() got multiple values for argument '{}'", function, named.name));
    slot = named.value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (out[i].missing()) fail(format("{}() missing required argument: '{}'", function, names[i]));
  }
}

int64_t int_argument(const Value& v, int64_t fallback) {
  if (v.missing() || v.is(Type::kNone)) return fallback;
  if (v.is_int()) return v.i;
  fail(format("'{}' object cannot be interpreted as an integer", type_name(v)));
}

bool bool_argument(const Value& v, bool fallback) { return v.missing() ? fallback : truthy(v); }

std::string_view str_argument(const Value& v, std::string_view what) {
  if (v.is_string()) return v.text();
  fail(format("{} must be str, not {}", what, type_name(v)));
}

std::string macro_repr(const Value& v) {
  std::string out = "<Macro ";
  append_quoted(static_cast<Macro*>(v.object)->name, out);
  return out + '>';
}

}  // namespace moestro::text::jinja
