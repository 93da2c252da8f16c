#include "text/jinja/printf_format.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/format.h"
#include "base/strings.h"
#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

// A format spec, [[fill]align][sign][#][0][width][,][.precision][type], or what a "%" conversion
// says.
struct Spec {
  std::string fill = " ";
  char align = '\0';
  char sign = '-';
  bool alternate = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

std::string pad(Heap& heap, std::string text, const Spec& spec, char default_align) {
  const auto size = static_cast<int64_t>(count_code_points(text));
  if (size >= spec.width) return text;
  const char align = spec.align ? spec.align : default_align;
  const int64_t total = spec.width - size;
  heap.step_bytes(static_cast<size_t>(total));
  const int64_t before = align == '>' || align == '=' ? total : align == '^' ? total / 2 : 0;
  std::string left, right;
  for (int64_t i = 0; i < before; ++i) left += spec.fill;
  for (int64_t i = before; i < total; ++i) right += spec.fill;
  if (align == '=') {  // the padding goes between the sign and the digits
    size_t at = text.starts_with('-') || text.starts_with('+') || text.starts_with(' ') ? 1 : 0;
    if (text.size() > at + 1 && text[at] == '0' &&
        std::string_view("xXob").find(text[at + 1]) != std::string_view::npos)
      at += 2;
    return text.substr(0, at) + left + text.substr(at);
  }
  return left + text + right;
}

std::string with_sign(bool negative, char sign, std::string digits) {
  if (negative) return "-" + digits;
  return sign == '+' || sign == ' ' ? sign + digits : digits;
}

std::string group_digits(const std::string& digits, char separator) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i && (whole - i) % 3 == 0) out += separator;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

std::string integer_text(uint64_t magnitude, char type, bool alternate) {
  const int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  char buffer[72];
  std::string digits(buffer, std::to_chars(buffer, buffer + sizeof buffer, magnitude, base).ptr);
  if (type == 'X')
    std::transform(digits.begin(), digits.end(), digits.begin(),
                   [](char c) { return static_cast<char>(c >= 'a' ? c - 32 : c); });
  if (alternate && base != 10) digits = std::string("0") + type + digits;
  return digits;
}

std::string float_text(double magnitude, char type, int64_t precision, bool alternate) {
  if (std::isnan(magnitude)) return type == 'E' || type == 'F' || type == 'G' ? "NAN" : "nan";
  if (std::isinf(magnitude)) return type == 'E' || type == 'F' || type == 'G' ? "INF" : "inf";
  const char pattern[] = {'%',
                          alternate ? '#' : '.',
                          alternate ? '.' : '*',
                          alternate ? '*' : type,
                          alternate ? type : '\0',
                          '\0'};
  const int digits = static_cast<int>(std::min<int64_t>(precision, 400));
  char buffer[1024];
  const int n = std::snprintf(buffer, sizeof buffer, pattern, digits, magnitude);
  return {buffer, static_cast<size_t>(std::clamp(n, 0, static_cast<int>(sizeof buffer) - 1))};
}

std::string format_integer(Heap& heap, const Value& v, const Spec& spec) {
  const bool negative = !v.is(Type::kBigInt) && v.i < 0;
  const uint64_t magnitude = v.is(Type::kBigInt) ? v.u
                             : negative          ? 0 - static_cast<uint64_t>(v.i)
                                                 : static_cast<uint64_t>(v.i);
  if (spec.type == 'c') {
    std::string out;
    if (negative || magnitude > 0x10ffff || (magnitude >= 0xd800 && magnitude < 0xe000))
      fail("%c arg not in range(0x110000)");
    encode(static_cast<char32_t>(magnitude), out);
    return pad(heap, out, spec, '<');
  }
  std::string digits = integer_text(magnitude, spec.type, spec.alternate);
  if (spec.grouping) digits = group_digits(digits, spec.grouping);
  if (spec.precision > static_cast<int64_t>(digits.size())) {  // "%.5d"
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  return pad(heap, with_sign(negative, spec.sign, std::move(digits)), spec, '>');
}

std::string format_float(Heap& heap, double d, const Spec& spec) {
  const bool negative = std::signbit(d) && !std::isnan(d);
  const double magnitude = std::abs(d);
  std::string digits;
  if (spec.type == '%') {
    digits =
        float_text(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, spec.alternate) +
        "%";
  } else if (!spec.type && spec.precision < 0) {
    digits = python_repr(magnitude);
  } else if (!spec.type) {
    digits = float_text(magnitude, 'g', std::max<int64_t>(spec.precision, 1), false);
    if (digits.find_first_not_of("0123456789") == std::string::npos) digits += ".0";
  } else {
    digits =
        float_text(magnitude, spec.type, spec.precision < 0 ? 6 : spec.precision, spec.alternate);
  }
  if (spec.grouping) digits = group_digits(digits, spec.grouping);
  return pad(heap, with_sign(negative, spec.sign, std::move(digits)), spec, '>');
}

std::string format_text(Heap& heap, std::string_view text, const Spec& spec, char default_align) {
  if (spec.precision >= 0)
    text = text.substr(0, offset_of(text, static_cast<size_t>(spec.precision)));
  return pad(heap, std::string(text), spec, default_align);
}

// Digits at `at`, moved past; -1: none.
int64_t read_number(std::string_view text, size_t& at) {
  int64_t n = -1;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    n = std::max<int64_t>(n, 0) * 10 + (text[at] - '0');
    if (n > kMaxWidth)
      fail(format("a width or precision in a format is larger than {}", kMaxWidth));
  }
  return n;
}

// ---- "%" ----

class Printf {
 public:
  Printf(Heap& heap, std::string_view pattern, const Value& args)
      : heap_(heap), pattern_(pattern), args_(args) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const size_t percent = pattern_.find('%', at_);
      out_ += pattern_.substr(at_, percent - at_);
      if (percent == std::string_view::npos) break;
      at_ = percent + 1;
      conversion();
      heap_.step();
      check_size(heap_, out_);
    }
    const bool unused = args_.is(Type::kTuple)
                            ? used_ < args_.list->size
                            : !used_ && !args_.is(Type::kDict) && !args_.is(Type::kList);
    if (unused && !by_key_) fail("not all arguments converted during string formatting");
    return std::move(out_);
  }

 private:
  Value next() {
    if (!key_.missing()) return std::exchange(key_, Value());
    if (args_.is(Type::kTuple)) {
      if (used_ >= args_.list->size) fail("not enough arguments for format string");
      return args_.list->data[used_++];
    }
    if (used_++) fail("not enough arguments for format string");
    return args_;
  }
  char peek() const {
    if (at_ >= pattern_.size()) fail("incomplete format");
    return pattern_[at_];
  }
  int64_t star_or_number() {
    if (at_ >= pattern_.size() || pattern_[at_] != '*') return read_number(pattern_, at_);
    ++at_;
    const Value v = next();
    if (!v.is_int()) fail("* wants int");
    if (v.i > kMaxWidth || v.i < -kMaxWidth)
      fail(format("a width or precision in a format is larger than {}", kMaxWidth));
    return v.i;
  }
  void mapping_key() {
    size_t depth = 1;
    const size_t begin = ++at_;
    for (; at_ < pattern_.size() && depth; ++at_)
      depth += pattern_[at_] == '(' ? 1 : pattern_[at_] == ')' ? -1 : 0;
    if (depth) fail("incomplete format key");
    if (!args_.is(Type::kDict)) fail("format requires a mapping");
    const std::string_view name = pattern_.substr(begin, at_ - 1 - begin);
    const Value* found = args_.dict->find(heap_, name);
    if (!found) fail(format("KeyError: '{}'", name));
    key_ = *found;
    by_key_ = true;
  }
  void conversion() {
    Spec spec;
    if (peek() == '(') mapping_key();
    bool zero = false;
    for (;; ++at_) {
      const char c = peek();
      if (c == '-')
        spec.align = '<';
      else if (c == '+')
        spec.sign = '+';
      else if (c == ' ')
        spec.sign = spec.sign == '+' ? '+' : ' ';
      else if (c == '#')
        spec.alternate = true;
      else if (c == '0')
        zero = true;
      else
        break;
    }
    spec.width = star_or_number();
    if (spec.width < -1) {
      spec.align = '<';
      spec.width = -spec.width;
    }
    if (peek() == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(star_or_number(), 0);
    }
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
    spec.type = peek();
    ++at_;
    if (spec.type == '%') {
      out_ += '%';
      return;
    }
    if (zero && spec.align != '<' &&
        std::string_view("diouxXeEfFgG").find(spec.type) != std::string_view::npos) {
      spec.align = '=';
      spec.fill = "0";
    }
    convert(spec);
  }
  void convert(Spec spec) {
    switch (spec.type) {
      case 's':
        out_ += format_text(heap_, to_str(heap_, next()), spec, '>');
        return;
      case 'r':
      case 'a':
        out_ += format_text(heap_, repr(heap_, next()), spec, '>');
        return;
      case 'd':
      case 'i':
      case 'u': {
        Value v = next();
        if (v.is(Type::kFloat)) v = truncated(v.d);
        if (!v.is_int() && !v.is(Type::kBigInt))
          fail(format("%{} format: a real number is required, not {}", spec.type, type_name(v)));
        spec.type = 'd';
        out_ += format_integer(heap_, v, spec);
        return;
      }
      case 'x':
      case 'X':
      case 'o': {
        const Value v = next();
        if (!v.is_int() && !v.is(Type::kBigInt))
          fail(format("%{} format: an integer is required, not {}", spec.type, type_name(v)));
        out_ += format_integer(heap_, v, spec);
        return;
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        const Value v = next();
        if (!v.is_number()) fail(format("must be real number, not {}", type_name(v)));
        out_ += format_float(heap_, to_double(v), spec);
        return;
      }
      case 'c': {
        const Value v = next();
        if (v.is_string() && count_code_points(v.text()) == 1)
          out_ += format_text(heap_, v.text(), spec, '>');
        else if (v.is_int()) {
          if (!spec.align) spec.align = '>';
          out_ += format_integer(heap_, v, spec);
        } else
          fail("%c requires int or char");
        return;
      }
      default:
        fail(format("unsupported format character '{}'", spec.type));
    }
  }
  static Value truncated(double d) {
    if (!std::isfinite(d)) fail("cannot convert float NaN or infinity to integer");
    if (std::abs(d) >= 9.2e18) fail("integer overflow: the result does not fit 64 bits");
    return Value::integer(static_cast<int64_t>(d));
  }

  Heap& heap_;
  std::string_view pattern_;
  const Value& args_;
  std::string out_;
  size_t at_ = 0;
  size_t used_ = 0;
  bool by_key_ = false;
  Value key_;
};

// ---- str.format ----

Spec parse_spec(std::string_view text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!text.empty()) {
    const size_t first = decode(text, 0).size;
    if (first < text.size() && is_align(text[first])) {
      spec.fill = text.substr(0, first);
      spec.align = text[first];
      at = first + 1;
    } else if (is_align(text[0])) {
      spec.align = text[at++];
    }
  }
  const auto peek = [&] { return at < text.size() ? text[at] : '\0'; };
  if (peek() == '+' || peek() == '-' || peek() == ' ') spec.sign = text[at++];
  if (peek() == '#') spec.alternate = (++at, true);
  if (peek() == '0' && !spec.align) {
    spec.align = '=';
    spec.fill = "0";
  }
  spec.width = std::max<int64_t>(read_number(text, at), 0);
  if (peek() == ',' || peek() == '_') spec.grouping = text[at++];
  if (peek() == '.') {
    ++at;
    spec.precision = read_number(text, at);
    if (spec.precision < 0) fail("Format specifier missing precision");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) fail("Invalid format specifier");
  return spec;
}

class Formatter {
 public:
  Formatter(Interpreter& in, const Args& args) : in_(in), args_(args) {}

  std::string run(std::string_view pattern, int depth) {
    if (depth > 2) fail("Max string recursion exceeded");
    std::string out;
    for (size_t i = 0; i < pattern.size(); ++i) {
      const char c = pattern[i];
      if (c != '{' && c != '}') {
        out += c;
        continue;
      }
      if (i + 1 < pattern.size() && pattern[i + 1] == c) {
        out += c;
        ++i;
        continue;
      }
      if (c == '}') fail("Single '}' encountered in format string");
      const size_t end = field_end(pattern, i + 1);
      out += field(pattern.substr(i + 1, end - i - 1), depth);
      in_.heap().step();
      check_size(in_.heap(), out);
      i = end;
    }
    return out;
  }

 private:
  static size_t field_end(std::string_view pattern, size_t at) {
    size_t depth = 1;
    for (; at < pattern.size(); ++at) {
      if (pattern[at] == '{') ++depth;
      if (pattern[at] == '}' && --depth == 0) return at;
    }
    fail("expected '}' before end of string");
  }

  std::string field(std::string_view text, int depth) {
    const size_t name_end = std::min(text.find_first_of("!:"), text.size());
    std::string_view rest = text.substr(name_end);
    char conversion = '\0';
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':'))
        fail("expected ':' after conversion specifier");
      conversion = rest[1];
      rest.remove_prefix(2);
    }
    const std::string spec = rest.empty() ? std::string() : run(rest.substr(1), depth + 1);
    Value v = lookup(text.substr(0, name_end));
    if (conversion == 'r' || conversion == 'a')
      v = make_string(in_.heap(), repr(in_.heap(), v));
    else if (conversion == 's')
      v = Value::string(to_str(in_.heap(), v));
    else if (conversion)
      fail(format("Unknown conversion specifier '{}'", conversion));
    return format_value(in_.heap(), v, spec);
  }

  // "0", "name", "", followed by ".attribute" and "[item]".
  Value lookup(std::string_view name) {
    size_t at = std::min(name.find_first_of(".["), name.size());
    Value v = argument(name.substr(0, at));
    while (at < name.size()) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        if (end == at + 1) fail("Empty attribute in format string");
        v = in_.attribute(v, in_.heap().copy(name.substr(at + 1, end - at - 1)));
        at = end;
      } else {
        const size_t end = name.find(']', at);
        if (end == std::string_view::npos || name[at] != '[') fail("Missing ']' in format string");
        const std::string_view key = name.substr(at + 1, end - at - 1);
        const auto index = parse_int(key);
        v = in_.item(v,
                     index && *index >= 0 ? Value::integer(*index) : make_string(in_.heap(), key));
        at = end + 1;
      }
    }
    return v;
  }

  Value argument(std::string_view name) {
    if (name.empty()) {
      if (automatic_ < 0)
        fail("cannot switch from manual field specification to automatic field numbering");
      return positional(automatic_++);
    }
    if (const auto index = parse_int(name); index && *index >= 0) {
      if (automatic_ > 0)
        fail("cannot switch from manual field specification to automatic field numbering");
      automatic_ = -1;
      return positional(*index);
    }
    for (const NamedValue& named : args_.named) {
      if (named.name == name) return named.value;
    }
    fail(format("KeyError: '{}'", name));
  }

  Value positional(int64_t index) const {
    if (static_cast<uint64_t>(index) >= args_.positional.size()) {
      fail(format("Replacement index {} out of range for positional args tuple", index));
    }
    return args_.positional[static_cast<size_t>(index)];
  }

  Interpreter& in_;
  const Args& args_;
  int64_t automatic_ = 0;
};

}  // namespace

std::string printf_format(Heap& heap, std::string_view pattern, const Value& args) {
  return Printf(heap, pattern, args).run();
}

std::string str_format(Interpreter& in, std::string_view pattern, const Args& args) {
  return Formatter(in, args).run(pattern, 0);
}

std::string format_value(Heap& heap, const Value& v, std::string_view spec_text) {
  if (spec_text.empty()) return std::string(to_str(heap, v));
  Spec spec = parse_spec(spec_text);
  const auto unknown = [&] {
    fail(format("Unknown format code '{}' for object of type '{}'", spec.type, type_name(v)));
  };
  if (v.is_string()) {
    if (spec.type && spec.type != 's') unknown();
    if (spec.align == '=') {
      if (spec.fill != "0") fail("'=' alignment not allowed in string format specifier");
      spec.align = '<';
    }
    return format_text(heap, v.text(), spec, '<');
  }
  if (v.is(Type::kFloat)) {
    if (spec.type && std::string_view("eEfFgG%n").find(spec.type) == std::string_view::npos)
      unknown();
    return format_float(heap, v.d, spec);
  }
  if (v.is_int() || v.is(Type::kBigInt)) {
    if (spec.type && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos) {
      return format_float(heap, to_double(v), spec);
    }
    if (spec.type && std::string_view("bcdoxXn").find(spec.type) == std::string_view::npos)
      unknown();
    if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
    return format_integer(heap, v, spec);
  }
  fail(format("unsupported format string passed to {}.__format__", type_name(v)));
}

}  // namespace moestro::text::jinja
