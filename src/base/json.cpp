#include "base/json.h"

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value_stack.hpp>
#include <cmath>
#include <fstream>
#include <sstream>
#include <unordered_set>
#include <vector>

#include "base/format.h"

namespace moestro::json {
namespace {

namespace bj = boost::json;

// Builds the value and refuses duplicate keys (two readers of one file could disagree about them).
struct Handler {
  static constexpr size_t max_object_size = bj::object::max_size();
  static constexpr size_t max_array_size = bj::array::max_size();
  static constexpr size_t max_key_size = bj::string::max_size();
  static constexpr size_t max_string_size = bj::string::max_size();
  using error_code = bj::error_code;

  bj::value_stack stack;
  std::string key;
  std::vector<std::unordered_set<std::string>> keys;
  std::string duplicate;

  bool on_document_begin(error_code&) {
    stack.reset();
    return true;
  }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    keys.emplace_back();
    return true;
  }
  bool on_object_end(size_t n, error_code&) {
    keys.pop_back();
    stack.push_object(n);
    return true;
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(size_t n, error_code&) {
    stack.push_array(n);
    return true;
  }
  bool on_key_part(bj::string_view s, size_t, error_code&) {
    key.append(s.data(), s.size());
    stack.push_chars(s);
    return true;
  }
  bool on_key(bj::string_view s, size_t, error_code& ec) {
    key.append(s.data(), s.size());
    stack.push_key(s);
    if (!keys.back().insert(key).second) {
      duplicate = key;
      ec = bj::error::syntax;
      return false;
    }
    key.clear();
    return true;
  }
  bool on_string_part(bj::string_view s, size_t, error_code&) {
    stack.push_chars(s);
    return true;
  }
  bool on_string(bj::string_view s, size_t, error_code&) {
    stack.push_string(s);
    return true;
  }
  bool on_number_part(bj::string_view, error_code&) { return true; }
  bool on_int64(int64_t v, bj::string_view, error_code&) {
    stack.push_int64(v);
    return true;
  }
  bool on_uint64(uint64_t v, bj::string_view, error_code&) {
    stack.push_uint64(v);
    return true;
  }
  bool on_double(double v, bj::string_view, error_code&) {
    stack.push_double(v);
    return true;
  }
  bool on_bool(bool v, error_code&) {
    stack.push_bool(v);
    return true;
  }
  bool on_null(error_code&) {
    stack.push_null();
    return true;
  }
  bool on_comment_part(bj::string_view, error_code&) { return true; }
  bool on_comment(bj::string_view, error_code&) { return true; }
};

void append_escaped(std::string& out, std::string_view text, bool ensure_ascii) {
  out += '"';
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"') {
      out += "\\\"";
      ++i;
    } else if (c == '\\') {
      out += "\\\\";
      ++i;
    } else if (c == '\n') {
      out += "\\n";
      ++i;
    } else if (c == '\r') {
      out += "\\r";
      ++i;
    } else if (c == '\t') {
      out += "\\t";
      ++i;
    } else if (c == '\b') {
      out += "\\b";
      ++i;
    } else if (c == '\f') {
      out += "\\f";
      ++i;
    } else if (c < 0x20 || (c == 0x7f && ensure_ascii)) {
      out += format("\\u{:04x}", static_cast<unsigned>(c));
      ++i;
    } else if (c < 0x80 || !ensure_ascii) {
      out += static_cast<char>(c);
      ++i;
    } else {
      const int length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
      uint32_t code = c & (0x7fu >> length);
      for (int j = 1; j < length && i + static_cast<size_t>(j) < text.size(); ++j)
        code = code << 6 | (static_cast<unsigned char>(text[i + static_cast<size_t>(j)]) & 0x3fu);
      i += static_cast<size_t>(length);
      if (code >= 0x10000) {
        code -= 0x10000;
        out += format("\\u{:04x}\\u{:04x}", 0xd800u + (code >> 10), 0xdc00u + (code & 0x3ff));
      } else {
        out += format("\\u{:04x}", code);
      }
    }
  }
  out += '"';
}

void newline(std::string& out, const DumpStyle& style, int depth) {
  if (style.indent < 0) return;
  out += '\n';
  out.append(static_cast<size_t>(style.indent) * static_cast<size_t>(depth), ' ');
}

void append(std::string& out, const value& v, const DumpStyle& style, int depth) {
  // With an indent Python writes "," and a new line, whatever the item separator's trailing space.
  const auto separate = [&] {
    if (style.indent < 0)
      out += style.item_separator;
    else
      out += style.item_separator.substr(0, style.item_separator.find_last_not_of(' ') + 1);
  };
  switch (v.kind()) {
    case kind::null:
      out += "null";
      break;
    case kind::bool_:
      out += v.get_bool() ? "true" : "false";
      break;
    case kind::int64:
      out += std::to_string(v.get_int64());
      break;
    case kind::uint64:
      out += std::to_string(v.get_uint64());
      break;
    case kind::double_:
      out += std::isfinite(v.get_double()) ? python_repr(v.get_double()) : "null";
      break;
    case kind::string:
      append_escaped(out, view(v.get_string()), style.ensure_ascii);
      break;
    case kind::array: {
      const array& items = v.get_array();
      out += '[';
      for (size_t i = 0; i < items.size(); ++i) {
        if (i) separate();
        newline(out, style, depth + 1);
        append(out, items[i], style, depth + 1);
      }
      if (!items.empty()) newline(out, style, depth);
      out += ']';
      break;
    }
    case kind::object: {
      std::vector<const object::value_type*> members;
      for (const auto& member : v.get_object()) members.push_back(&member);
      if (style.sort_keys)
        std::sort(members.begin(), members.end(),
                  [](const auto* a, const auto* b) { return a->key() < b->key(); });
      out += '{';
      for (size_t i = 0; i < members.size(); ++i) {
        if (i) separate();
        newline(out, style, depth + 1);
        append_escaped(out, {members[i]->key().data(), members[i]->key().size()},
                       style.ensure_ascii);
        out += style.key_separator;
        append(out, members[i]->value(), style, depth + 1);
      }
      if (!members.empty()) newline(out, style, depth);
      out += '}';
      break;
    }
  }
}

Status wrong_type(std::string_view key, std::string_view wanted, const value& found) {
  return invalid_argument(format("\"{}\" must be {}, not {} ({})", key, wanted, kind_name(found),
                                 dump(found).substr(0, 80)));
}

}  // namespace

Result<value> parse(std::string_view text, const ParseLimits& limits) {
  if (text.size() > limits.max_bytes)
    return Status(Code::kPayloadTooLarge, format("JSON of {} bytes is over the limit of {} bytes",
                                                 text.size(), limits.max_bytes));
  bj::parse_options options;
  options.max_depth = limits.max_depth;
  bj::basic_parser<Handler> parser(options);
  bj::error_code error;
  const size_t used = parser.write_some(false, text.data(), text.size(), error);
  if (!parser.handler().duplicate.empty())
    return invalid_argument(format("JSON has the key \"{}\" twice in one object",
                                   parser.handler().duplicate.substr(0, 80)));
  if (error == bj::error::too_deep)
    return invalid_argument(
        format("JSON is nested deeper than {} levels at byte {}", limits.max_depth, used));
  if (!error && used != text.size() &&
      text.find_first_not_of(" \t\r\n", used) != std::string_view::npos)
    return invalid_argument(format("JSON has extra text after the value at byte {}", used));
  if (error)
    return invalid_argument(format("JSON is not valid at byte {}: {}", used, error.message()));
  if (!parser.done())
    return invalid_argument(format("JSON ends too early at byte {}", text.size()));
  return parser.handler().stack.release();
}

Result<value> parse_file(const std::string& path, const ParseLimits& limits) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return not_found(format("cannot open {}", path));
  std::ostringstream content;
  content << file.rdbuf();
  return parse(content.view(), limits).with(path);
}

std::string dump(const value& v, const DumpStyle& style) {
  std::string out;
  append(out, v, style, 0);
  return out;
}

std::string quote(std::string_view text, bool ensure_ascii) {
  std::string out;
  append_escaped(out, text, ensure_ascii);
  return out;
}

const value* find(const object& o, std::string_view key) {
  const value* v = o.if_contains({key.data(), key.size()});
  return v && !v->is_null() ? v : nullptr;
}

std::string_view kind_name(const value& v) {
  switch (v.kind()) {
    case kind::null:
      return "null";
    case kind::bool_:
      return "a boolean";
    case kind::int64:
    case kind::uint64:
      return "an integer";
    case kind::double_:
      return "a number";
    case kind::string:
      return "a string";
    case kind::array:
      return "an array";
    case kind::object:
      return "an object";
  }
  return "unknown";
}

Result<int64_t> get_int(const object& o, std::string_view key, int64_t fallback) {
  const value* v = find(o, key);
  if (!v) return fallback;
  if (v->is_int64()) return v->get_int64();
  return wrong_type(key, "an integer", *v);
}

Result<double> get_double(const object& o, std::string_view key, double fallback) {
  const value* v = find(o, key);
  if (!v) return fallback;
  if (v->is_double()) return v->get_double();
  if (v->is_int64()) return static_cast<double>(v->get_int64());
  if (v->is_uint64()) return static_cast<double>(v->get_uint64());
  return wrong_type(key, "a number", *v);
}

Result<bool> get_bool(const object& o, std::string_view key, bool fallback) {
  const value* v = find(o, key);
  if (!v) return fallback;
  if (v->is_bool()) return v->get_bool();
  return wrong_type(key, "true or false", *v);
}

Result<std::string> get_string(const object& o, std::string_view key, std::string fallback) {
  const value* v = find(o, key);
  if (!v) return fallback;
  if (v->is_string()) return std::string(view(v->get_string()));
  return wrong_type(key, "a string", *v);
}

}  // namespace moestro::json
