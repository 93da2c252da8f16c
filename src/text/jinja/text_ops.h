// Operations on str that filters and methods share. Results live in the heap, or are views of the
// operands.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/callable.h"
#include "text/jinja/value.h"

namespace moestro::text::jinja {

// All or the first `count` (>= 0) occurrences.
std::string_view replace(Heap& heap, std::string_view text, std::string_view from,
                         std::string_view to, int64_t count = -1);
std::string_view join(Heap& heap, std::string_view separator, std::span<const Value> items,
                      bool strict);  // strict: str only
std::vector<std::string_view> split_lines(Heap& heap, std::string_view text,
                                          bool keep_ends = false);
std::string_view pad_text(Heap& heap, std::string_view text, int64_t width, std::string_view fill,
                          int before_of_two);
// First match at or after `from`, npos: none. Linear, whatever the strings are.
size_t find_text(Heap& heap, std::string_view text, std::string_view wanted, size_t from);
size_t rfind_text(Heap& heap, std::string_view text, std::string_view wanted);
std::string_view reversed(Heap& heap, std::string_view text);
// A well-formed number as a double, infinite beyond its range (the C locale is in force: we never
// set one).
double parse_unbounded(const std::string& text);
Value parse_float_text(std::string_view text);  // Python's float(str); kMissing: not a number
Value parse_int_text(std::string_view text,
                     int64_t base);  // Python's int(str, base); kMissing: not an integer

}  // namespace moestro::text::jinja
