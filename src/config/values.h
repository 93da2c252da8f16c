// Text of the command line or the config file -> typed values, by the kind of a flag, and from
// there into Options. Values travel as JSON: null is "not given". Called by command_line.cpp and
// print.cpp; pure functions.
#pragma once
#include <span>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "config/flags.h"

namespace moestro::config {

// A decimal number with one suffix: k m g t are powers of 1000 and may follow a fraction (1.5k), K
// M G T are powers of 1024 and may not. Nothing else: no exponents, no spaces.
Result<int64_t> parse_human_int(std::string_view text);

// What the words after a flag say; checked against choices and range. Errors begin with the flag's
// name.
Result<json::value> parse_value(const Flag& flag, std::span<const std::string_view> words);
// The flag's default; null if it has none.
json::value default_value(const Flag& flag);

// JSON text in which unquoted numbers may have human suffixes.
Result<json::value> parse_json_with_suffixes(std::string_view text);
// The value of --x.key VALUE: JSON, else a human integer, else text.
json::value parse_dotted_value(std::string_view text);

// Puts a value of parse_value into the flag's field; null restores the default of Options.
void store(const Flag& flag, const json::value& value, Options& options);
json::value load(const Flag& flag, const Options& options);

}  // namespace moestro::config
