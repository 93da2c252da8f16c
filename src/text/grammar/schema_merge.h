// What JSON schemas mean together: references, types, allOf, and whether two can match one value.
// Private to text/grammar.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace moestro::text::schema {

using Types = unsigned;
enum : Types {
  kString = 1,
  kNumber = 2,
  kInteger = 4,
  kBoolean = 8,
  kNull = 16,
  kObject = 32,
  kArray = 64,
  kAllTypes = kString | kNumber | kInteger | kBoolean | kNull | kObject | kArray
};

// By "type"; without it by the keywords that only one type has; else all.
Result<Types> types_of(const json::object& schema);
bool types_allow(const json::object& schema, const json::value& v);

// "#/…" pointers into root.
Result<const json::value*> resolve(const json::value& root, std::string_view pointer);

// Whether the schema asserts anything with keywords other than these (titles and the like assert
// nothing).
bool has_other_assertions(const json::object& schema,
                          std::initializer_list<std::string_view> known);

// One schema for both, or why there is none.
Result<json::object> merge(const json::value& root, const json::object& a, const json::value& b,
                           int depth);

// Surely no value, of those that are made for either, matches both.
bool disjoint(const json::value& root, const json::value& a, const json::value& b, int depth);

}  // namespace moestro::text::schema
