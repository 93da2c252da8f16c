// Python's operators on Values: arithmetic, subscripts, slices. Integers are 64-bit; a result
// beyond that is an error.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace moestro::text::jinja {

Value binary(Heap& heap, ExprKind op, const Value& a, const Value& b);  // kAdd … kPow
Value negative(Heap& heap, const Value& v);
Value positive(Heap& heap, const Value& v);
Value slice(Heap& heap, const Value& v, const Value& start, const Value& stop,
            const Value& step);  // kMissing: absent
// Element of a sequence, kMissing when out of range.
Value item_at(Heap& heap, const Value& sequence, int64_t index);
Value repeat(Heap& heap, std::string_view text, int64_t n);
std::string escape_html(std::string_view text);
double to_double(const Value& v);  // v is a number
int64_t checked_add(int64_t a, int64_t b);
int64_t floor_div(int64_t a, int64_t b);  // b != 0

// Python's slice.indices(): begin, end and step over a sequence of n elements.
struct SliceRange {
  int64_t start, count, step;
};
SliceRange slice_indices(const Value& start, const Value& stop, const Value& step, int64_t n);

}  // namespace moestro::text::jinja
