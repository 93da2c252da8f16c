// Filters on numbers and single values. Semantics: jinja2.filters and CPython's int(), float() and
// round().
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/repr.h"
#include "text/jinja/text_ops.h"

namespace moestro::text::jinja::filters {
namespace {

// int(d); kMissing for nan and infinities.
Value truncated(double d) {
  if (!std::isfinite(d)) return Value();
  if (std::abs(d) >= 0x1p63) fail("integer overflow: the number does not fit 64 bits");
  return Value::integer(static_cast<int64_t>(d));
}

// The decimal rounding of the exact binary value, half to even, as CPython does it.
double round_float(double d, int64_t digits) {
  if (!std::isfinite(d) || digits > 323) return d;
  if (digits < -308) return std::copysign(0.0, d);
  if (digits < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(d / scale) * scale;
  }
  char buffer[800];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), d);
  return std::strtod(buffer, nullptr);
}

int64_t round_int(int64_t v, int64_t digits) {
  if (digits >= 0) return v;
  if (digits < -18) return 0;
  int64_t unit = 1;
  for (int64_t i = 0; i < -digits; ++i) unit *= 10;
  const int64_t down = floor_div(v, unit);
  const int64_t rest = v - down * unit;
  const bool up = rest > unit - rest || (rest == unit - rest && (down & 1));
  int64_t result = 0;
  if (__builtin_mul_overflow(down + up, unit, &result))
    fail("integer overflow: the result does not fit 64 bits");
  return result;
}

}  // namespace

Value abs(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("abs", args, {});
  if (self.is(Type::kFloat)) return Value::number(std::abs(self.d));
  if (self.is(Type::kBigInt)) return self;
  if (self.is_int()) return self.i < 0 ? negative(in.heap(), self) : Value::integer(self.i);
  if (self.is(Type::kUndefined)) fail_undefined(in.heap(), self);
  fail(format("bad operand type for abs(): '{}'", type_name(self)));
}

Value default_value(Interpreter&, const Value& self, const Args& args) {
  const auto [fallback, boolean] = bind<2>("default", args, {"default_value", "boolean"});
  const bool use = self.is(Type::kUndefined) || (bool_argument(boolean, false) && !truthy(self));
  if (!use) return self;
  return fallback.missing() ? Value::string({}) : fallback;
}

Value to_int(Interpreter& in, const Value& self, const Args& args) {
  const auto [fallback, base] = bind<2>("int", args, {"default", "base"});
  const Value otherwise = fallback.missing() ? Value::integer(0) : fallback;
  switch (self.type) {
    case Type::kUndefined:
      fail_undefined(in.heap(), self);
    case Type::kBool:
    case Type::kInt:
      return Value::integer(self.i);
    case Type::kBigInt:
      return self;
    case Type::kFloat: {
      const Value v = truncated(self.d);
      return v.missing() ? otherwise : v;
    }
    case Type::kString: {
      if (const Value v = parse_int_text(self.text(), int_argument(base, 10)); !v.missing())
        return v;
      const Value number = parse_float_text(self.text());
      const Value v = number.missing() ? Value() : truncated(number.d);
      return v.missing() ? otherwise : v;
    }
    default:
      return otherwise;
  }
}

Value to_float(Interpreter& in, const Value& self, const Args& args) {
  const auto [fallback] = bind<1>("float", args, {"default"});
  if (self.is(Type::kUndefined)) fail_undefined(in.heap(), self);
  if (self.is_number()) return Value::number(to_double(self));
  if (self.is_string()) {
    if (const Value v = parse_float_text(self.text()); !v.missing()) return v;
  }
  return fallback.missing() ? Value::number(0.0) : fallback;
}

Value round(Interpreter& in, const Value& self, const Args& args) {
  const auto [precision, method_arg] = bind<2>("round", args, {"precision", "method"});
  const std::string_view method =
      method_arg.missing() ? "common" : str_argument(method_arg, "method");
  if (method != "common" && method != "ceil" && method != "floor")
    fail("method must be common, ceil or floor");
  if (self.is(Type::kUndefined)) fail_undefined(in.heap(), self);
  if (!self.is_number()) fail(format("type {} doesn't define __round__ method", type_name(self)));
  const int64_t digits = int_argument(precision, 0);
  if (method == "common") {
    if (self.is(Type::kBigInt)) return self;
    if (self.is_int()) return Value::integer(round_int(self.i, digits));
    return Value::number(round_float(self.d, digits));
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = to_double(self) * scale;
  if (!std::isfinite(scaled)) fail("cannot convert float infinity or NaN to integer");
  // math.ceil gives an int, which has no negative zero.
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  return Value::number((whole + 0.0) / scale);
}

Value filesizeformat(Interpreter& in, const Value& self, const Args& args) {
  const auto [binary] = bind<1>("filesizeformat", args, {"binary"});
  const Value number = self.is_string() ? parse_float_text(self.text()) : self;
  if (!number.is_number()) fail("filesizeformat wants a number");
  const double bytes = to_double(number);
  const bool two = bool_argument(binary, false);
  const double base = two ? 1024 : 1000;
  if (bytes == 1) return Value::string("1 Byte");
  if (!std::isfinite(bytes)) fail("filesizeformat wants a finite number");
  if (bytes < base) {
    const Value whole = truncated(bytes);
    return make_string(in.heap(), format("{} Bytes", whole.i));
  }
  double unit = base;
  size_t prefix = 0;
  for (; prefix < 7; ++prefix, unit *= base) {
    if (bytes < unit * base) break;
  }
  char buffer[400];
  std::snprintf(buffer, sizeof buffer, "%.1f %c%s", base * bytes / (unit * base),
                (two ? "KMGTPEZY" : "kMGTPEZY")[prefix], two ? "iB" : "B");
  return make_string(in.heap(), buffer);
}

}  // namespace moestro::text::jinja::filters
