// Filters on text. Semantics: jinja2.filters, and transformers' tojson.
#include <algorithm>

#include "base/format.h"
#include "base/json.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/printf_format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/repr.h"
#include "text/jinja/text_ops.h"

namespace moestro::text::jinja::filters {
namespace {

// Applies a whole-string function to str(self); Markup stays Markup.
template <class F>
Value mapped(Interpreter& in, const Value& self, const Args& args, std::string_view name,
             F function) {
  (void)bind<0>(name, args, {});
  const std::string_view text = to_str(in.heap(), self);
  in.heap().step_bytes(text.size() * 4);
  return Value::string(in.heap().copy(function(text)), self.is_markup());
}

std::string title_words(std::string_view text) {
  // Words begin after any of these; str.title would also split at other non-letters.
  const auto splits = [](char32_t c) {
    return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const bool separator = splits(decode(text, i).value);
    size_t end = i;
    while (end < text.size()) {
      const CodePoint c = decode(text, end);
      if (splits(c.value) != separator) break;
      end += c.size;
    }
    const size_t first = decode(text, i).size;
    out += to_upper(text.substr(i, first));
    out += to_lower(text.substr(i + first, end - i - first));
    i = end;
  }
  return out;
}

}  // namespace

Value capitalize(Interpreter& in, const Value& self, const Args& args) {
  return mapped(in, self, args, "capitalize", to_capitalized);
}
Value lower(Interpreter& in, const Value& self, const Args& args) {
  return mapped(in, self, args, "lower", to_lower);
}
Value upper(Interpreter& in, const Value& self, const Args& args) {
  return mapped(in, self, args, "upper", to_upper);
}
Value title(Interpreter& in, const Value& self, const Args& args) {
  return mapped(in, self, args, "title", title_words);
}

Value string(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("string", args, {});
  return self.is_string() ? self : Value::string(to_str(in.heap(), self));
}

Value safe(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("safe", args, {});
  return Value::string(to_str(in.heap(), self), true);
}

Value force_escape(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("escape", args, {});
  const std::string_view text = to_str(in.heap(), self);
  in.heap().require(text.size() * 5);
  return Value::string(in.heap().copy(escape_html(text)), true);
}

Value escape(Interpreter& in, const Value& self, const Args& args) {
  return self.is_markup() ? self : force_escape(in, self, args);
}

Value trim(Interpreter& in, const Value& self, const Args& args) {
  const auto [chars] = bind<1>("trim", args, {"chars"});
  const std::string_view text = to_str(in.heap(), self);
  in.heap().step_bytes(text.size());
  if (chars.missing() || chars.is(Type::kNone)) return Value::string(strip(text), self.is_markup());
  const std::string_view set = str_argument(chars, "strip arg");
  return Value::string(strip(text, set, Side::kBoth), self.is_markup());
}

Value center(Interpreter& in, const Value& self, const Args& args) {
  const auto [width] = bind<1>("center", args, {"width"});
  return Value::string(
      pad_text(in.heap(), to_str(in.heap(), self), int_argument(width, 80), " ", 1));
}

Value replace(Interpreter& in, const Value& self, const Args& args) {
  const auto [from, to, count] = bind<3>("replace", args, {"old", "new", "count"}, 2);
  Heap& heap = in.heap();
  return Value::string(jinja::replace(heap, to_str(heap, self), to_str(heap, from),
                                      to_str(heap, to), int_argument(count, -1)));
}

Value format_text(Interpreter& in, const Value& self, const Args& args) {
  Heap& heap = in.heap();
  if (!args.positional.empty() && !args.named.empty()) {
    fail("can't handle positional and keyword arguments at the same time");
  }
  Value values = make_list(heap, args.positional, Type::kTuple);
  if (!args.named.empty()) {
    values = make_dict(heap);
    for (const NamedValue& named : args.named)
      values.dict->set(heap, Value::string(named.name), named.value);
  }
  return make_string(heap, printf_format(heap, to_str(heap, self), values));
}

Value indent(Interpreter& in, const Value& self, const Args& args) {
  const auto [width, first, blank] = bind<3>("indent", args, {"width", "first", "blank"});
  Heap& heap = in.heap();
  if (self.is(Type::kUndefined)) fail_undefined(heap, self);
  if (!self.is_string())
    fail(format("unsupported operand type(s) for +=: '{}' and 'str'", type_name(self)));
  const std::string_view step =
      width.is_string() ? width.text() : repeat(heap, " ", int_argument(width, 4)).text();
  const std::string source = std::string(self.text()) + "\n";
  const std::vector<std::string_view> lines = split_lines(heap, source);
  heap.require(lines.size() * step.size() + source.size());
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) out += '\n';
    const bool indented =
        i == 0 ? bool_argument(first, false) : bool_argument(blank, false) || !lines[i].empty();
    if (indented) out += step;
    out += lines[i];
  }
  return Value::string(heap.copy(out), self.is_markup());
}

Value truncate(Interpreter& in, const Value& self, const Args& args) {
  const auto [length_arg, kill, end_arg, leeway_arg] =
      bind<4>("truncate", args, {"length", "killwords", "end", "leeway"});
  Heap& heap = in.heap();
  const int64_t limit = int_argument(length_arg, 255);
  const int64_t leeway = int_argument(leeway_arg, 5);
  const std::string_view end = end_arg.missing() ? "..." : str_argument(end_arg, "end");
  const auto end_size = static_cast<int64_t>(count_code_points(end));
  if (limit < end_size) fail(format("expected length >= {}, got {}", end_size, limit));
  if (leeway < 0) fail(format("expected leeway >= 0, got {}", leeway));
  if (jinja::length(heap, self) <= checked_add(limit, leeway)) return self;  // of any sized type
  const std::string_view text = str_argument(self, "truncate's argument");
  std::string_view kept = text.substr(0, offset_of(text, static_cast<size_t>(limit - end_size)));
  if (!bool_argument(kill, false)) kept = kept.substr(0, kept.rfind(' '));
  return Value::string(heap.concat(kept, end));
}

Value wordcount(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("wordcount", args, {});
  const std::string_view text = to_str(in.heap(), self);
  in.heap().step_bytes(text.size());
  int64_t words = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode(text, i);
    const bool word = c.value == '_' || is_alpha(c.value) || is_numeric(c.value);
    words += word && !inside;
    inside = word;
    i += c.size;
  }
  return Value::integer(words);
}

namespace {
void url_quote(std::string_view text, bool query, std::string& out) {
  constexpr char kHex[] = "0123456789ABCDEF";
  for (const char c : text) {
    const auto b = static_cast<uint8_t>(c);
    if (std::isalnum(b) ? b < 0x80
                        : c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query)) {
      out += c;
    } else if (query && c == ' ') {
      out += '+';
    } else {
      out += '%';
      out += kHex[b >> 4];
      out += kHex[b & 15];
    }
  }
}
}  // namespace

Value urlencode(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("urlencode", args, {});
  Heap& heap = in.heap();
  std::string out;
  if (self.is_string() || !is_iterable(self)) {
    const std::string_view text = to_str(heap, self);
    heap.require(text.size() * 3);
    heap.step_bytes(text.size());
    url_quote(text, false, out);
    return make_string(heap, out);
  }
  Value pairs = self;
  if (self.is(Type::kDict)) pairs = items(in, self, {});
  for (const Value& pair : elements(heap, pairs)) {
    if (!pair.is_sequence() || pair.list->size != 2) fail("urlencode wants pairs");
    heap.step();
    if (!out.empty()) out += '&';
    url_quote(to_str(heap, pair.list->data[0]), true, out);
    out += '=';
    url_quote(to_str(heap, pair.list->data[1]), true, out);
    check_size(heap, out);
  }
  return make_string(heap, out);
}

Value to_json(Interpreter& in, const Value& self, const Args& args) {
  const auto [ensure_ascii, indent, separators, sort_keys] =
      bind<4>("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bool_argument(ensure_ascii, false);
  style.sort_keys = bool_argument(sort_keys, false);
  if (!indent.missing() && !indent.is(Type::kNone)) {
    style.multiline = true;
    style.item_separator = ",";
    style.indent =
        indent.is_string() ? indent.text() : repeat(in.heap(), " ", int_argument(indent, 0)).text();
  }
  if (!separators.missing() && !separators.is(Type::kNone)) {
    const std::span<const Value> pair = elements(in.heap(), separators);
    if (pair.size() != 2) fail("tojson: separators must be (item_separator, key_separator)");
    style.item_separator = str_argument(pair[0], "item separator");
    style.key_separator = str_argument(pair[1], "key separator");
  }
  return make_string(in.heap(), jinja::to_json(in.heap(), self, style));
}

// Not in transformers; a few converted templates call it.
Value parse_json(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("from_json", args, {});
  const std::string_view text = str_argument(self, "from_json's argument");
  in.heap().require(text.size() * 8);
  in.heap().step_bytes(text.size() * 16);
  const Result<json::value> parsed = json::parse(text);
  if (!parsed.ok()) fail(format("from_json: {}", parsed.status().message()));
  // The parsed text goes when this function returns, so its strings are copied.
  const auto own = [&](auto&& recurse, const Value& v) -> Value {
    if (v.is_string()) return make_string(in.heap(), v.text());
    if (v.is(Type::kList)) {
      for (size_t i = 0; i < v.list->size; ++i) v.list->data[i] = recurse(recurse, v.list->data[i]);
    } else if (v.is(Type::kDict)) {
      const Value copy = make_dict(in.heap());
      for (const Dict::Entry& e : v.dict->items())
        copy.dict->set(in.heap(), recurse(recurse, e.key), recurse(recurse, e.value));
      return copy;
    }
    return v;
  };
  return own(own, from_json(in.heap(), parsed.value()));
}

}  // namespace moestro::text::jinja::filters
