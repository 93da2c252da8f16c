// Methods of str. Views of the original text wherever the result is a part of it.
#include <algorithm>
#include <unordered_map>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/printf_format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/text_ops.h"

namespace moestro::text::jinja {
namespace {

using In = Interpreter&;
using Self = const Value&;
using Given = const Args&;

Value part(Self self, std::string_view text) { return Value::string(text, self.flag); }

template <std::string (*F)(std::string_view)>
Value mapped(In in, Self self, Given args) {
  (void)bind<0>("str method", args, {});
  in.heap().step_bytes(self.length * size_t{4});
  return part(self, in.heap().copy(F(self.text())));
}

template <Side S>
Value stripped(In in, Self self, Given args) {
  const auto [chars] = bind<1>("strip", args, {"chars"});
  in.heap().step_bytes(self.length);
  if (chars.missing() || chars.is(Type::kNone)) return part(self, strip(self.text(), S));
  const std::string_view set = str_argument(chars, "strip arg");
  in.heap().step_bytes(set.size());
  return part(self, strip(self.text(), set, S));
}

template <bool (*F)(char32_t)>
Value all_are(In in, Self self, Given args) {
  (void)bind<0>("str method", args, {});
  in.heap().step_bytes(self.length);
  for (size_t i = 0; i < self.length;) {
    const CodePoint c = decode(self.text(), i);
    if (!F(c.value)) return Value::boolean(false);
    i += c.size;
  }
  return Value::boolean(self.length != 0);
}

bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c); }

template <bool Upper>
Value cased(In in, Self self, Given args) {
  return Value::boolean(find_test(Upper ? "upper" : "lower")(in, self, args));
}

Value is_title_case(In, Self self, Given args) {
  (void)bind<0>("istitle", args, {});
  bool previous_cased = false, found = false;
  for (size_t i = 0; i < self.length;) {
    const CodePoint c = decode(self.text(), i);
    i += c.size;
    const bool up = is_upper(c.value) || is_title(c.value);
    const bool low = is_lower(c.value);
    if ((up && previous_cased) || (low && !previous_cased)) return Value::boolean(false);
    previous_cased = up || low;
    found |= previous_cased;
  }
  return Value::boolean(found);
}

Value is_ascii(In in, Self self, Given args) {
  (void)bind<0>("isascii", args, {});
  in.heap().step_bytes(self.length);
  return Value::boolean(std::all_of(self.s, self.s + self.length,
                                    [](char c) { return static_cast<uint8_t>(c) < 0x80; }));
}
Value is_printable_text(In in, Self self, Given args) {
  return self.length ? all_are<is_printable>(in, self, args) : Value::boolean(true);
}

// ---- splitting ----

Value make_parts(In in, Self self, const std::vector<std::string_view>& parts) {
  List list;
  list.reserve(in.heap(), parts.size());
  for (const std::string_view p : parts) list.push(in.heap(), part(self, p));
  return make_list(in.heap(), list);
}

size_t skip_space(std::string_view text, size_t at, bool space) {
  while (at < text.size()) {
    const CodePoint c = decode(text, at);
    if (is_space(c.value) != space) break;
    at += c.size;
  }
  return at;
}

std::vector<std::string_view> split_space(std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  for (size_t at = skip_space(text, 0, true); at < text.size(); at = skip_space(text, at, true)) {
    if (max >= 0 && static_cast<int64_t>(parts.size()) == max) {
      parts.push_back(text.substr(at));
      break;
    }
    const size_t end = skip_space(text, at, false);
    parts.push_back(text.substr(at, end - at));
    at = end;
  }
  return parts;
}

std::vector<std::string_view> rsplit_space(std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  text = strip(text, Side::kRight);
  while (!text.empty()) {
    if (max >= 0 && static_cast<int64_t>(parts.size()) == max) {
      parts.push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      const CodePoint c = decode_before(text, begin);
      if (is_space(c.value)) break;
      begin -= c.size;
    }
    parts.push_back(text.substr(begin));
    text = strip(text.substr(0, begin), Side::kRight);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value split(In in, Self self, Given args) {
  const auto [separator, max_arg] = bind<2>("split", args, {"sep", "maxsplit"});
  const int64_t max = int_argument(max_arg, -1);
  in.heap().step_bytes(self.length);
  if (separator.missing() || separator.is(Type::kNone))
    return make_parts(in, self, split_space(self.text(), max));
  const std::string_view sep = str_argument(separator, "sep");
  if (sep.empty()) fail("empty separator");
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (max < 0 || static_cast<int64_t>(parts.size()) < max) {
    const size_t at = find_text(in.heap(), self.text(), sep, begin);
    if (at == std::string_view::npos) break;
    parts.push_back(self.text().substr(begin, at - begin));
    begin = at + sep.size();
  }
  parts.push_back(self.text().substr(begin));
  return make_parts(in, self, parts);
}

Value rsplit(In in, Self self, Given args) {
  const auto [separator, max_arg] = bind<2>("rsplit", args, {"sep", "maxsplit"});
  const int64_t max = int_argument(max_arg, -1);
  in.heap().step_bytes(self.length);
  if (separator.missing() || separator.is(Type::kNone))
    return make_parts(in, self, rsplit_space(self.text(), max));
  const std::string_view sep = str_argument(separator, "sep");
  if (sep.empty()) fail("empty separator");
  std::vector<std::string_view> parts;
  std::string_view rest = self.text();
  while (max < 0 || static_cast<int64_t>(parts.size()) < max) {
    const size_t at = rfind_text(in.heap(), rest, sep);
    if (at == std::string_view::npos) break;
    parts.push_back(rest.substr(at + sep.size()));
    rest = rest.substr(0, at);
  }
  parts.push_back(rest);
  std::reverse(parts.begin(), parts.end());
  return make_parts(in, self, parts);
}

Value splitlines(In in, Self self, Given args) {
  const auto [keep] = bind<1>("splitlines", args, {"keepends"});
  return make_parts(in, self, split_lines(in.heap(), self.text(), bool_argument(keep, false)));
}

template <bool FromRight>
Value partition(In in, Self self, Given args) {
  const auto [separator] = bind<1>("partition", args, {"sep"}, 1);
  const std::string_view sep = str_argument(separator, "sep");
  if (sep.empty()) fail("empty separator");
  const std::string_view text = self.text();
  const size_t at =
      FromRight ? rfind_text(in.heap(), text, sep) : find_text(in.heap(), text, sep, 0);
  Value items[3];
  if (at == std::string_view::npos) {
    items[0] = items[1] = items[2] = part(self, {});
    items[FromRight ? 2 : 0] = self;
  } else {
    items[0] = part(self, text.substr(0, at));
    items[1] = part(self, text.substr(at, sep.size()));
    items[2] = part(self, text.substr(at + sep.size()));
  }
  return make_list(in.heap(), std::span<const Value>(items), Type::kTuple);
}

// ---- searching, with Python's optional [start, end) in characters ----

struct Window {
  std::string_view text;
  size_t offset;  // characters before it
  bool valid;     // start is not beyond the end of the string
};

Window window(In in, Self self, const Value& start, const Value& stop) {
  if ((start.missing() || start.is(Type::kNone)) && (stop.missing() || stop.is(Type::kNone)))
    return {self.text(), 0, true};
  in.heap().step_bytes(self.length);
  const auto n = static_cast<int64_t>(count_code_points(self.text()));
  const SliceRange r = slice_indices(start, stop, Value(), n);
  const bool beyond = start.is_int() && start.i > n;
  const bool crossed = stop.is_int() && r.start > (stop.i < 0 ? stop.i + n : stop.i);
  const size_t begin = offset_of(self.text(), static_cast<size_t>(r.start));
  const std::string_view tail = self.text().substr(begin);
  return {tail.substr(0, offset_of(tail, static_cast<size_t>(r.count))),
          static_cast<size_t>(r.start), !beyond && !crossed};
}

template <bool Suffix>
Value has_affix(In in, Self self, Given args) {
  const auto [affix, start, stop] =
      bind<3>(Suffix ? "endswith" : "startswith", args, {"affix", "start", "end"}, 1);
  const Window w = window(in, self, start, stop);
  const auto matches = [&](const Value& v) {
    const std::string_view wanted =
        str_argument(v, Suffix ? "endswith first arg" : "startswith first arg");
    in.heap().step_bytes(wanted.size());
    return w.valid && (Suffix ? w.text.ends_with(wanted) : w.text.starts_with(wanted));
  };
  if (!affix.is(Type::kTuple)) return Value::boolean(matches(affix));
  for (const Value& v : affix.list->items()) {
    if (matches(v)) return Value::boolean(true);
  }
  return Value::boolean(false);
}

template <bool FromRight, bool MustFind>
Value find(In in, Self self, Given args) {
  const auto [wanted, start, stop] = bind<3>("find", args, {"sub", "start", "end"}, 1);
  const std::string_view sub = str_argument(wanted, "sub");
  const Window w = window(in, self, start, stop);
  const size_t at = !w.valid    ? std::string_view::npos
                    : FromRight ? rfind_text(in.heap(), w.text, sub)
                                : find_text(in.heap(), w.text, sub, 0);
  if (at == std::string_view::npos) {
    if (MustFind) fail("substring not found");
    return Value::integer(-1);
  }
  return Value::integer(static_cast<int64_t>(w.offset + count_code_points(w.text.substr(0, at))));
}

Value count(In in, Self self, Given args) {
  const auto [wanted, start, stop] = bind<3>("count", args, {"sub", "start", "end"}, 1);
  const std::string_view sub = str_argument(wanted, "sub");
  const Window w = window(in, self, start, stop);
  if (!w.valid) return Value::integer(0);
  if (sub.empty()) return Value::integer(static_cast<int64_t>(count_code_points(w.text)) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = find_text(in.heap(), w.text, sub, at)) != std::string_view::npos;
       at += sub.size())
    ++n;
  return Value::integer(n);
}

// ---- building ----

Value replace_method(In in, Self self, Given args) {
  const auto [from, to, max] = bind<3>("replace", args, {"old", "new", "count"}, 2);
  return part(self, replace(in.heap(), self.text(), str_argument(from, "replace() argument 1"),
                            str_argument(to, "replace() argument 2"), int_argument(max, -1)));
}

Value join_method(In in, Self self, Given args) {
  const auto [items] = bind<1>("join", args, {"iterable"}, 1);
  return Value::string(join(in.heap(), self.text(), elements(in.heap(), items), true));
}

template <bool Suffix>
Value remove_affix(In, Self self, Given args) {
  const auto [affix] = bind<1>("removeprefix", args, {"affix"}, 1);
  const std::string_view wanted = str_argument(affix, "removeprefix() argument");
  std::string_view text = self.text();
  if (!wanted.empty() && Suffix && text.ends_with(wanted)) text.remove_suffix(wanted.size());
  if (!wanted.empty() && !Suffix && text.starts_with(wanted)) text.remove_prefix(wanted.size());
  return part(self, text);
}

template <int BeforeOfTwo>  // of the padding: 0 none of it stands before the text, 1 half, 2 all
Value justified(In in, Self self, Given args) {
  const auto [width, fill] = bind<2>("justify", args, {"width", "fillchar"}, 1);
  const std::string_view with = fill.missing() ? " " : str_argument(fill, "The fill character");
  return part(self, pad_text(in.heap(), self.text(), int_argument(width, 0), with, BeforeOfTwo));
}

Value zfill(In in, Self self, Given args) {
  const auto [width] = bind<1>("zfill", args, {"width"}, 1);
  const bool sign = self.length && (self.s[0] == '-' || self.s[0] == '+');
  const std::string_view digits = self.text().substr(sign);
  const std::string_view padded =
      pad_text(in.heap(), digits, std::max<int64_t>(int_argument(width, 0), 0) - sign, "0", 2);
  return sign ? Value::string(in.heap().concat(in.heap().copy(self.text().substr(0, 1)), padded))
              : Value::string(padded);
}

Value expandtabs(In in, Self self, Given args) {
  const auto [size_arg] = bind<1>("expandtabs", args, {"tabsize"});
  const int64_t size = int_argument(size_arg, 8);
  std::string out;
  int64_t column = 0;
  for (const char c : self.text()) {
    if (c == '\t' && size > 0) {
      const int64_t n = size - column % size;
      in.heap().require(out.size() + static_cast<uint64_t>(n));
      out.append(static_cast<size_t>(n), ' ');
      column += n;
    } else if (c != '\t') {
      out += c;
      if (c == '\n' || c == '\r')
        column = 0;
      else if ((static_cast<uint8_t>(c) & 0xc0) != 0x80)
        ++column;
    }
  }
  return part(self, in.heap().copy(out));
}

Value format_method(In in, Self self, Given args) {
  return make_string(in.heap(), str_format(in, self.text(), args));
}

Value format_map(In in, Self self, Given args) {
  const auto [mapping] = bind<1>("format_map", args, {"mapping"}, 1);
  if (!mapping.is(Type::kDict)) fail("format_map() wants a dict");
  std::vector<NamedValue> named;
  for (const Dict::Entry& e : mapping.dict->items()) {
    if (e.key.is_string()) named.push_back({e.key.text(), e.value});
  }
  return make_string(in.heap(), str_format(in, self.text(), Args{{}, named}));
}

}  // namespace

MethodFunction find_string_method(std::string_view name) {
  static const std::unordered_map<std::string_view, MethodFunction> kMethods = {
      {"capitalize", mapped<to_capitalized>},
      {"casefold", mapped<to_casefolded>},
      {"center", justified<1>},
      {"count", count},
      {"endswith", has_affix<true>},
      {"expandtabs", expandtabs},
      {"find", find<false, false>},
      {"format", format_method},
      {"format_map", format_map},
      {"index", find<false, true>},
      {"isalnum", all_are<is_alnum>},
      {"isalpha", all_are<is_alpha>},
      {"isascii", is_ascii},
      {"isdecimal", all_are<is_decimal>},
      {"isdigit", all_are<is_digit>},
      {"islower", cased<false>},
      {"isnumeric", all_are<is_numeric>},
      {"isprintable", is_printable_text},
      {"isspace", all_are<is_space>},
      {"istitle", is_title_case},
      {"isupper", cased<true>},
      {"join", join_method},
      {"ljust", justified<0>},
      {"lower", mapped<to_lower>},
      {"lstrip", stripped<Side::kLeft>},
      {"partition", partition<false>},
      {"removeprefix", remove_affix<false>},
      {"removesuffix", remove_affix<true>},
      {"replace", replace_method},
      {"rfind", find<true, false>},
      {"rindex", find<true, true>},
      {"rjust", justified<2>},
      {"rpartition", partition<true>},
      {"rsplit", rsplit},
      {"rstrip", stripped<Side::kRight>},
      {"split", split},
      {"splitlines", splitlines},
      {"startswith", has_affix<false>},
      {"strip", stripped<Side::kBoth>},
      {"swapcase", mapped<to_swapped_case>},
      {"title", mapped<to_title>},
      {"upper", mapped<to_upper>},
      {"zfill", zfill},
  };
  const auto it = kMethods.find(name);
  return it == kMethods.end() ? nullptr : it->second;
}

}  // namespace moestro::text::jinja
