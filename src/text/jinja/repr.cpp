#include "text/jinja/repr.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/format.h"
#include "text/jinja/callable.h"
#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/python_text.h"

namespace moestro::text::jinja {
namespace {

void append_hex(char prefix, uint32_t c, int digits, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  out += '\\';
  out += prefix;
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out += kHex[(c >> shift) & 15];
}

void append_items(Heap& heap, std::span<const Value> items, std::string& out, int depth) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) out += ", ";
    first = false;
    append_repr(heap, item, out, depth + 1);
  }
}

void append_dict(Heap& heap, const Dict& dict, std::string& out, int depth) {
  out += '{';
  bool first = true;
  for (const Dict::Entry& e : dict.items()) {
    if (!first) out += ", ";
    first = false;
    append_repr(heap, e.key, out, depth + 1);
    out += ": ";
    append_repr(heap, e.value, out, depth + 1);
  }
  out += '}';
}

void append_range(const Range& r, std::string& out) {
  out += format("range({}, {}", r.start, r.stop);
  if (r.step != 1) out += format(", {}", r.step);
  out += ')';
}

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}
  void write(const Value& v, int depth) {
    if (depth > kMaxValueDepth) fail("tojson: a value is nested too deeply, or holds itself");
    heap_.step();
    check_size(heap_, out_);
    switch (v.type) {
      case Type::kNone:
        out_ += "null";
        return;
      case Type::kBool:
        out_ += v.i ? "true" : "false";
        return;
      case Type::kInt:
      case Type::kBigInt:
        append_repr(heap_, v, out_);
        return;
      case Type::kFloat:
        write_float(v.d);
        return;
      case Type::kString:
        write_string(v.text());
        return;
      case Type::kList:
      case Type::kTuple:
        write_list(v.list->items(), depth);
        return;
      case Type::kDict:
        write_dict(*v.dict, depth);
        return;
      default:
        fail(format("Object of type {} is not JSON serializable", type_name(v)));
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void write_float(double d) {
    if (std::isnan(d))
      out_ += "NaN";
    else if (std::isinf(d))
      out_ += d < 0 ? "-Infinity" : "Infinity";
    else
      out_ += python_repr(d);
  }
  void write_string(std::string_view text) {
    heap_.step_bytes(text.size());
    out_ += json::quote(text, style_.ensure_ascii);
  }
  void write_key(const Value& key) {
    switch (key.type) {
      case Type::kString:
        write_string(key.text());
        return;
      case Type::kNone:
      case Type::kBool:
      case Type::kInt:
      case Type::kBigInt:
      case Type::kFloat:
        out_ += '"';
        write(key, 0);
        out_ += '"';
        return;
      default:
        fail(format("keys must be str, int, float, bool or None, not {}", type_name(key)));
    }
  }
  void newline(int depth) {
    if (!style_.multiline) return;
    heap_.step_bytes(style_.indent.size() * static_cast<size_t>(depth));
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += style_.indent;
    check_size(heap_, out_);
  }
  void write_list(std::span<const Value> items, int depth) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out_ += style_.item_separator;
      newline(depth + 1);
      write(items[i], depth + 1);
    }
    newline(depth);
    out_ += ']';
  }
  void write_dict(const Dict& dict, int depth) {
    if (!dict.size) {
      out_ += "{}";
      return;
    }
    std::vector<Dict::Entry> entries(dict.items().begin(), dict.items().end());
    heap_.step(entries.size());
    if (style_.sort_keys) {
      std::stable_sort(
          entries.begin(), entries.end(),
          [&](const Dict::Entry& a, const Dict::Entry& b) { return less(heap_, a.key, b.key); });
    }
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i) out_ += style_.item_separator;
      newline(depth + 1);
      write_key(entries[i].key);
      out_ += style_.key_separator;
      write(entries[i].value, depth + 1);
    }
    newline(depth);
    out_ += '}';
  }

  Heap& heap_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

void check_size(Heap& heap, const std::string& out) {
  if (out.size() > 1 << 16) heap.require(out.size());
}

void append_quoted(std::string_view text, std::string& out) {
  const bool single = text.find('\'') != std::string_view::npos;
  const char quote = single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out += quote;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode(text, i);
    if (c.value == static_cast<unsigned char>(quote) || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (!is_printable(c.value)) {
      if (c.value < 0x100)
        append_hex('x', c.value, 2, out);
      else if (c.value < 0x10000)
        append_hex('u', c.value, 4, out);
      else
        append_hex('U', c.value, 8, out);
    } else {
      out.append(text.substr(i, c.size));
    }
    i += c.size;
  }
  out += quote;
}

void append_repr(Heap& heap, const Value& v, std::string& out, int depth) {
  if (depth > kMaxValueDepth) fail("repr: a value is nested too deeply, or holds itself");
  heap.step();
  check_size(heap, out);
  switch (v.type) {
    case Type::kMissing:
    case Type::kUndefined:
      out += "Undefined";
      return;
    case Type::kNone:
      out += "None";
      return;
    case Type::kBool:
      out += v.i ? "True" : "False";
      return;
    case Type::kInt:
      out += format("{}", v.i);
      return;
    case Type::kBigInt:
      out += format("{}", v.u);
      return;
    case Type::kFloat:
      out += python_repr(v.d);
      return;
    case Type::kString:
      heap.step_bytes(v.length);
      if (v.flag) out += "Markup(";
      append_quoted(v.text(), out);
      if (v.flag) out += ')';
      return;
    case Type::kList:
      out += '[';
      append_items(heap, v.list->items(), out, depth);
      out += ']';
      return;
    case Type::kTuple:
      out += '(';
      append_items(heap, v.list->items(), out, depth);
      out += v.list->size == 1 ? ",)" : ")";
      return;
    case Type::kDict:
      append_dict(heap, *v.dict, out, depth);
      return;
    case Type::kDictView:
      out += type_name(v);
      out += "([";
      append_items(heap, elements(heap, v), out, depth);
      out += "])";
      return;
    case Type::kRange:
      append_range(*static_cast<Range*>(v.object), out);
      return;
    case Type::kNamespace:
      out += "<Namespace ";
      append_dict(heap, *v.dict, out, depth);
      out += '>';
      return;
    case Type::kLoop: {
      const auto& loop = *static_cast<Loop*>(v.object);
      const auto known = static_cast<int64_t>(loop.source.size());
      out += format("<LoopContext {}/{}>", loop.index0 + 1, loop.length.value_or(known));
      return;
    }
    case Type::kCallable:
      if (v.object->kind == ObjectKind::kMacro) {
        out += macro_repr(v);
        return;
      }
      [[fallthrough]];
    default:
      out += format("<{} object>", type_name(v));
      return;
  }
}

std::string repr(Heap& heap, const Value& v) {
  std::string out;
  append_repr(heap, v, out);
  return out;
}

void append_str(Heap& heap, const Value& v, std::string& out) {
  switch (v.type) {
    case Type::kMissing:
    case Type::kUndefined:
      return;
    case Type::kString:
      heap.step_bytes(v.length);
      out += v.text();
      return;
    default:
      append_repr(heap, v, out);
      return;
  }
}

std::string_view to_str(Heap& heap, const Value& v) {
  if (v.is_string()) return v.text();
  std::string text;
  append_str(heap, v, text);
  return heap.copy(text);
}

std::string to_json(Heap& heap, const Value& v, const JsonStyle& style) {
  JsonWriter writer(heap, style);
  writer.write(v, 0);
  return writer.take();
}

}  // namespace moestro::text::jinja
