#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/printf_format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {
namespace {

std::string_view symbol(ExprKind op) {
  switch (op) {
    case ExprKind::kAdd:
      return "+";
    case ExprKind::kSub:
      return "-";
    case ExprKind::kMul:
      return "*";
    case ExprKind::kDiv:
      return "/";
    case ExprKind::kFloorDiv:
      return "//";
    case ExprKind::kMod:
      return "%";
    default:
      return "** or pow()";
  }
}

[[noreturn]] void overflow() { fail("integer overflow: the result does not fit 64 bits"); }

[[noreturn]] void bad_operands(Heap& heap, ExprKind op, const Value& a, const Value& b) {
  if (a.is(Type::kUndefined)) fail_undefined(heap, a);
  if (b.is(Type::kUndefined)) fail_undefined(heap, b);
  if (op == ExprKind::kAdd && a.is_string()) {
    fail(format("can only concatenate str (not \"{}\") to str", type_name(b)));
  }
  if (op == ExprKind::kAdd && a.is_sequence()) {
    fail(format("can only concatenate {} (not \"{}\") to {}", type_name(a), type_name(b),
                type_name(a)));
  }
  fail(format("unsupported operand type(s) for {}: '{}' and '{}'", symbol(op), type_name(a),
              type_name(b)));
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) overflow();
    exponent >>= 1;
    if (exponent && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return result;
}

Value integers(ExprKind op, int64_t a, int64_t b) {
  int64_t r = 0;
  switch (op) {
    case ExprKind::kAdd:
      return Value::integer(checked_add(a, b));
    case ExprKind::kSub:
      if (__builtin_sub_overflow(a, b, &r)) overflow();
      return Value::integer(r);
    case ExprKind::kMul:
      if (__builtin_mul_overflow(a, b, &r)) overflow();
      return Value::integer(r);
    case ExprKind::kDiv:
      if (b == 0) fail("division by zero");
      return Value::number(
          static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
    case ExprKind::kFloorDiv:
      if (b == 0) fail("integer division or modulo by zero");
      if (b == -1) return integers(ExprKind::kSub, 0, a);
      return Value::integer(floor_div(a, b));
    case ExprKind::kMod:
      if (b == 0) fail("integer modulo by zero");
      if (b == -1) return Value::integer(0);
      return Value::integer(a - floor_div(a, b) * b);
    default:
      if (b < 0) {
        if (a == 0) fail("0.0 cannot be raised to a negative power");
        return Value::number(std::pow(static_cast<double>(a), static_cast<double>(b)));
      }
      if ((a == 0 || a == 1) && b > 0) return Value::integer(a);
      if (a == -1) return Value::integer(b & 1 ? -1 : 1);
      return Value::integer(power(a, b));
  }
}

// CPython's float_divmod.
double python_mod(double a, double b) {
  double mod = std::fmod(a, b);
  if (mod != 0) {
    if ((b < 0) != (mod < 0)) mod += b;
  } else {
    mod = std::copysign(0.0, b);
  }
  return mod;
}

double python_floor_div(double a, double b) {
  const double mod = std::fmod(a, b);
  double div = (a - mod) / b;
  if (mod != 0 && (b < 0) != (mod < 0)) div -= 1;
  if (div == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(div);
  return div - floored > 0.5 ? floored + 1 : floored;
}

Value floats(ExprKind op, double a, double b) {
  switch (op) {
    case ExprKind::kAdd:
      return Value::number(a + b);
    case ExprKind::kSub:
      return Value::number(a - b);
    case ExprKind::kMul:
      return Value::number(a * b);
    case ExprKind::kDiv:
      if (b == 0) fail("float division by zero");
      return Value::number(a / b);
    case ExprKind::kFloorDiv:
      if (b == 0) fail("float floor division by zero");
      return Value::number(python_floor_div(a, b));
    case ExprKind::kMod:
      if (b == 0) fail("float modulo");
      return Value::number(python_mod(a, b));
    default:
      if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
      if (a < 0 && b != std::floor(b) && std::isfinite(b))
        fail("complex numbers are not supported");
      const double r = std::pow(a, b);
      if (std::isinf(r) && std::isfinite(a) && std::isfinite(b))
        fail("(34, 'Numerical result out of range')");
      return Value::number(r);
  }
}

Value repeat_list(Heap& heap, const Value& v, int64_t n) {
  const std::span<const Value> items = v.list->items();
  if (n <= 0 || items.empty()) return make_list(heap, List{}, v.type);
  if (static_cast<uint64_t>(n) > heap.budget().max_memory_bytes / sizeof(Value) / items.size()) {
    heap.require(heap.budget().max_memory_bytes + 1);
  }
  List list;
  list.reserve(heap, items.size() * static_cast<size_t>(n));
  heap.step(list.capacity);
  for (int64_t i = 0; i < n; ++i) {
    for (const Value& item : items) list.push(heap, item);
  }
  return make_list(heap, list, v.type);
}

Value multiply_sequence(Heap& heap, const Value& v, const Value& n) {
  if (v.is_string()) {
    const Value result = repeat(heap, v.text(), n.i);
    return Value::string(result.text(), v.flag);
  }
  return repeat_list(heap, v, n.i);
}

Value add_strings(Heap& heap, const Value& a, const Value& b) {
  if (a.flag == b.flag) return Value::string(heap.concat(a.text(), b.text()), a.flag);
  // Markup + str escapes the str.
  const Value& plain = a.flag ? b : a;
  const std::string_view escaped = heap.copy(escape_html(plain.text()));
  return Value::string(a.flag ? heap.concat(a.text(), escaped) : heap.concat(escaped, b.text()),
                       true);
}

}  // namespace

int64_t checked_add(int64_t a, int64_t b) {
  int64_t r = 0;
  if (__builtin_add_overflow(a, b, &r)) overflow();
  return r;
}

int64_t floor_div(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

double to_double(const Value& v) {
  if (v.is(Type::kFloat)) return v.d;
  return v.is(Type::kBigInt) ? static_cast<double>(v.u) : static_cast<double>(v.i);
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Value repeat(Heap& heap, std::string_view text, int64_t n) {
  if (n <= 0 || text.empty()) return Value::string({});
  if (static_cast<uint64_t>(n) > heap.budget().max_memory_bytes / text.size()) {
    heap.require(heap.budget().max_memory_bytes + 1);
  }
  const size_t size = text.size() * static_cast<size_t>(n);
  heap.step_bytes(size);
  char* out = heap.array<char>(size);
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(out + static_cast<size_t>(i) * text.size(), text.data(), text.size());
  return Value::string({out, size});
}

Value binary(Heap& heap, ExprKind op, const Value& a, const Value& b) {
  if (a.is_int() && b.is_int()) return integers(op, a.i, b.i);
  if (a.is(Type::kBigInt) || b.is(Type::kBigInt)) {
    if (a.is_int() || b.is_int() || (a.is(Type::kBigInt) && b.is(Type::kBigInt))) {
      if (op != ExprKind::kMod || !a.is_string()) overflow();
    }
  }
  if (a.is_number() && b.is_number()) return floats(op, to_double(a), to_double(b));
  if (op == ExprKind::kAdd) {
    if (a.is_string() && b.is_string()) return add_strings(heap, a, b);
    if (a.type == b.type && a.is_sequence()) {
      List list;
      list.reserve(heap, a.list->size + b.list->size);
      heap.step(list.capacity);
      for (const Value& v : a.list->items()) list.push(heap, v);
      for (const Value& v : b.list->items()) list.push(heap, v);
      return make_list(heap, list, a.type);
    }
  } else if (op == ExprKind::kMul) {
    if ((a.is_string() || a.is_sequence()) && b.is_int()) return multiply_sequence(heap, a, b);
    if ((b.is_string() || b.is_sequence()) && a.is_int()) return multiply_sequence(heap, b, a);
    if ((a.is_string() || a.is_sequence()) && !b.is(Type::kUndefined)) {
      fail(format("can't multiply sequence by non-int of type '{}'", type_name(b)));
    }
  } else if (op == ExprKind::kMod && a.is_string()) {
    if (b.is(Type::kUndefined)) fail_undefined(heap, b);  // its __rmod__
    return make_string(heap, printf_format(heap, a.text(), b));
  }
  bad_operands(heap, op, a, b);
}

Value negative(Heap& heap, const Value& v) {
  if (v.is_int()) return integers(ExprKind::kSub, 0, v.i);
  if (v.is(Type::kFloat)) return Value::number(-v.d);
  if (v.is(Type::kBigInt)) {
    if (v.u == uint64_t{1} << 63) return Value::integer(INT64_MIN);
    overflow();
  }
  if (v.is(Type::kUndefined)) fail_undefined(heap, v);
  fail(format("bad operand type for unary -: '{}'", type_name(v)));
}

Value positive(Heap& heap, const Value& v) {
  if (v.is(Type::kBool)) return Value::integer(v.i);
  if (v.is_number()) return v;
  if (v.is(Type::kUndefined)) fail_undefined(heap, v);
  fail(format("bad operand type for unary +: '{}'", type_name(v)));
}

namespace {
std::optional<int64_t> slice_bound(const Value& v) {
  if (v.missing() || v.is(Type::kNone)) return std::nullopt;
  if (v.is_int()) return v.i;
  if (v.is(Type::kBigInt)) return INT64_MAX;
  fail("slice indices must be integers or None or have an __index__ method");
}
}  // namespace

SliceRange slice_indices(const Value& start, const Value& stop, const Value& step, int64_t n) {
  int64_t by = slice_bound(step).value_or(1);
  if (by == 0) fail("slice step cannot be zero");
  by = std::max(by, -INT64_MAX);
  const int64_t low = by < 0 ? -1 : 0;
  const int64_t high = by < 0 ? n - 1 : n;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t fallback) {
    if (!bound) return fallback;
    const int64_t b = *bound < 0 ? *bound + n : *bound;  // n >= 0: cannot overflow
    return std::clamp(b, low, high);
  };
  const int64_t begin = clamp(slice_bound(start), by < 0 ? high : low);
  const int64_t end = clamp(slice_bound(stop), by < 0 ? low : high);
  int64_t count = 0;
  if (by > 0 && begin < end) count = (end - begin - 1) / by + 1;
  if (by < 0 && begin > end) count = (begin - end - 1) / -by + 1;
  return {begin, count, by};
}

namespace {
Value slice_text(Heap& heap, const Value& v, const Value& start, const Value& stop,
                 const Value& step) {
  const std::string_view text = v.text();
  heap.step_bytes(text.size());
  const auto n = static_cast<int64_t>(count_code_points(text));
  const SliceRange r = slice_indices(start, stop, step, n);
  if (r.count == 0) return Value::string({}, v.flag);
  if (r.step == 1) {
    const size_t begin = offset_of(text, static_cast<size_t>(r.start));
    const size_t size = offset_of(text.substr(begin), static_cast<size_t>(r.count));
    return Value::string(text.substr(begin, size), v.flag);
  }
  const std::span<const Value> characters = elements(heap, v);
  std::string out;
  for (int64_t i = 0; i < r.count; ++i)
    out += characters[static_cast<size_t>(r.start + i * r.step)].text();
  return Value::string(heap.copy(out), v.flag);
}
}  // namespace

Value slice(Heap& heap, const Value& v, const Value& start, const Value& stop, const Value& step) {
  if (v.is_string()) return slice_text(heap, v, start, stop, step);
  if (v.is_sequence()) {
    const SliceRange r = slice_indices(start, stop, step, static_cast<int64_t>(v.list->size));
    List list;
    list.reserve(heap, static_cast<size_t>(r.count));
    heap.step(static_cast<uint64_t>(r.count));
    for (int64_t i = 0; i < r.count; ++i) list.push(heap, v.list->data[r.start + i * r.step]);
    return make_list(heap, list, v.type);
  }
  if (v.is(Type::kRange)) {
    const auto* range = static_cast<Range*>(v.object);
    const SliceRange r = slice_indices(start, stop, step, range->count());
    const int64_t begin = range->start + r.start * range->step;
    int64_t by = 0;
    if (__builtin_mul_overflow(range->step, r.step, &by)) by = range->step;
    return Value::of(Type::kRange,
                     heap.make<Range>(Object{ObjectKind::kRange}, begin, begin + r.count * by, by));
  }
  if (v.is(Type::kUndefined)) fail_undefined(heap, v);
  if (v.is(Type::kDict)) fail("unhashable type: 'slice'");
  fail(format("'{}' object is not subscriptable", type_name(v)));
}

Value item_at(Heap& heap, const Value& sequence, int64_t index) {
  const int64_t n = length(heap, sequence);
  const int64_t i = index < 0 ? index + n : index;
  if (i < 0 || i >= n) return Value();
  if (sequence.is_sequence()) return sequence.list->data[i];
  if (sequence.is(Type::kRange)) {
    const auto* r = static_cast<Range*>(sequence.object);
    return Value::integer(r->start + i * r->step);
  }
  const std::string_view text = sequence.text();
  const size_t at = offset_of(text, static_cast<size_t>(i));
  return Value::string(text.substr(at, decode(text, at).size), sequence.flag);
}

}  // namespace moestro::text::jinja
