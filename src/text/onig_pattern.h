// Rewrites a regular expression of a tokenizer.json (Oniguruma's Ruby syntax) for PCRE2. Called by
// regex.cpp at load. Differences handled: class intersection and nested classes, \s \w \h, ^ and $
// as line anchors, (?m) for "dot matches all", {,n}, \uHHHH, categories newer than PCRE2's Unicode.
// Refused, because a hostile file could make matching exponential or recursive: nested unbounded
// repetition, back references, calls, conditionals, verbs.
#pragma once
#include <string>
#include <string_view>

#include "base/status.h"

namespace moestro::text {

// To be compiled with UTF, UCP and MULTILINE, newline LF. The pattern must be valid UTF-8.
Result<std::string> pcre2_pattern(std::string_view onig_pattern);

}  // namespace moestro::text
