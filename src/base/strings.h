// Small text functions that the standard library lacks. Thread-safe, no locale.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moestro {

std::vector<std::string_view> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);  // ASCII white space
std::string lower(std::string_view text);      // ASCII
bool is_valid_utf8(std::string_view text);     // no surrogates, no overlong forms, at most U+10FFFF
// Every maximal invalid part becomes one U+FFFD (WHATWG, Rust's from_utf8_lossy).
std::string repair_utf8(std::string_view text);
std::optional<int64_t> parse_int(std::string_view text);    // whole text, decimal
std::optional<double> parse_double(std::string_view text);  // whole text, no hexadecimal
// The candidate with the smallest edit distance, if that is small enough to suggest ("did you mean
// …").
std::optional<std::string_view> nearest(std::string_view word,
                                        const std::vector<std::string_view>& candidates);
std::string human_bytes(uint64_t bytes);  // "26.0 MiB"

}  // namespace moestro
