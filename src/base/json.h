// JSON: Boost.JSON values (objects keep the order of insertion) behind our own strict entry points.
// moestro::json is boost::json plus parse(), dump() and the typed getters below. Thread-safe.
#pragma once
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/status.h"

namespace moestro::json {
using boost::json::array;
using boost::json::kind;
using boost::json::object;
using boost::json::string;
using boost::json::value;

struct ParseLimits {
  size_t max_bytes = std::numeric_limits<size_t>::max();
  size_t max_depth = 64;
};
// RFC 8259, UTF-8 checked, no duplicate keys, nothing but white space after the value. Errors name
// the byte offset. Numbers: integers that fit are int64 or uint64, the rest double.
Result<value> parse(std::string_view text, const ParseLimits& limits = {});
// Reads and parses a whole file; the error names the file.
Result<value> parse_file(const std::string& path, const ParseLimits& limits = {});

struct DumpStyle {
  int indent = -1;                        // < 0: one line
  std::string_view item_separator = ",";  // ", " for Python's json.dumps
  std::string_view key_separator = ":";   // ": " for Python's json.dumps
  bool ensure_ascii = false;              // \uXXXX for everything above 0x7e
  bool sort_keys = false;
};
// Floats by Python's repr ("1.0", "1e-07"); NaN and infinities as null, since JSON has none.
std::string dump(const value& v, const DumpStyle& style = {});
// A JSON string literal with its quotes.
std::string quote(std::string_view text, bool ensure_ascii = false);

// Typed look-ups. A missing key, and null, give nullopt-like defaults; a wrong type is an error
// that names key, wanted and found type.
const value* find(const object& o, std::string_view key);  // nullptr when absent or null
std::string_view kind_name(const value& v);                // "object", "string", …
Result<int64_t> get_int(const object& o, std::string_view key, int64_t fallback);
Result<double> get_double(const object& o, std::string_view key, double fallback);
Result<bool> get_bool(const object& o, std::string_view key, bool fallback);
Result<std::string> get_string(const object& o, std::string_view key, std::string fallback);
inline std::string_view view(const string& s) { return {s.data(), s.size()}; }

}  // namespace moestro::json
