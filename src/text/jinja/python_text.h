// What Python's str knows about its characters: code point offsets, classes, case. UTF-8 in, UTF-8
// out. Pure functions, any thread. Ill-formed bytes (only a caller that skipped json::parse can
// bring them) count as one character each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moestro::text::jinja {

struct CodePoint {
  char32_t value;
  uint32_t size;  // bytes, 1 to 4
};
CodePoint decode(std::string_view text, size_t at);  // at < text.size()
CodePoint decode_before(std::string_view text,
                        size_t end);  // the character that ends there, end > 0
void encode(char32_t c, std::string& out);
size_t count_code_points(std::string_view text);
// Byte offset of the n-th code point; text.size() when there are fewer.
size_t offset_of(std::string_view text, size_t n);

bool is_space(char32_t c);  // str.isspace, and \s of re
bool is_printable(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_title(char32_t c);
bool is_identifier_start(char32_t c);
bool is_identifier_part(char32_t c);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);  // str.title
std::string to_capitalized(std::string_view text);
std::string to_swapped_case(std::string_view text);
std::string to_casefolded(std::string_view text);

enum class Side : uint8_t { kLeft = 1, kRight = 2, kBoth = 3 };
std::string_view strip(std::string_view text, Side side = Side::kBoth);
std::string_view strip(std::string_view text, std::string_view chars, Side side);

}  // namespace moestro::text::jinja
