// str(), repr() and json.dumps() of Values, byte for byte as CPython 3.11 and transformers write
// them.
#pragma once
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace moestro::text::jinja {

// str(v): a view of v's own bytes when v is a string, else text in the heap.
std::string_view to_str(Heap& heap, const Value& v);
void append_str(Heap& heap, const Value& v, std::string& out);
std::string repr(Heap& heap, const Value& v);
void append_repr(Heap& heap, const Value& v, std::string& out, int depth = 0);
void append_quoted(std::string_view text, std::string& out);  // repr of a str

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool multiline = false;  // an indent was given
  std::string indent;      // one level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string to_json(Heap& heap, const Value& v, const JsonStyle& style);

// Text bounded by the heap's budget, for loops that build it piece by piece.
void check_size(Heap& heap, const std::string& out);

}  // namespace moestro::text::jinja
