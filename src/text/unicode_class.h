// Character classes of Unicode code points, as the pre-tokenizer patterns of tokenizer.json files
// use them, and the UTF-8 steps that scanners need. Categories: Unicode 16 (the installed
// utf8proc's tables, plus what Unicode 15 and 16 added), because the reference implementation has
// those. Thread-safe; the table is built at first use (some 20 ms).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moestro::text {

enum CharClass : uint16_t {
  kUpper = 1,          // Lu
  kLower = 2,          // Ll
  kTitle = 4,          // Lt
  kModifier = 8,       // Lm
  kOtherLetter = 16,   // Lo
  kMark = 32,          // M
  kNumber = 64,        // N
  kPunctuation = 128,  // P
  kSymbol = 256,       // S
  kSpace = 512,        // White_Space: 9-13, 32, 0x85, 0xa0, 0x1680, 0x2000-0x200a, 0x2028, 0x2029,
                       // 0x202f, 0x205f, 0x3000
  kNewline = 1024,     // \r and \n only
  kWord = 2048,        // what \w matches: alphabetic, marks, decimal digits, connector punctuation
  kLetter = kUpper | kLower | kTitle | kModifier | kOtherLetter,
};

class CharTable {
 public:
  static const CharTable& get();
  uint16_t operator[](uint32_t code) const {
    return code < 0x110000 ? values_[static_cast<size_t>(blocks_[code >> 7]) << 7 | (code & 127)]
                           : uint16_t{0};
  }

 private:
  CharTable();
  uint16_t blocks_[0x110000 >> 7];
  std::u16string values_;  // blocks of 128, equal ones stored once
};

struct AddedRange {
  uint32_t first, last;
  CharClass category;
};
// The ranges that PCRE2 10.42 (Unicode 14) lacks, and utf8proc 2.8 (Unicode 15) in part.
std::span<const AddedRange> ranges_after_unicode_14();

// The code point at text[pos] of valid UTF-8; pos < text.size(). Sets its length in bytes.
inline uint32_t decode_utf8(std::string_view text, size_t pos, size_t& length) {
  const auto at = [&](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(text[pos + i]));
  };
  const uint32_t c = at(0);
  if (c < 0x80) return length = 1, c;
  if (c < 0xe0) return length = 2, (c & 0x1f) << 6 | (at(1) & 0x3f);
  if (c < 0xf0) return length = 3, (c & 0x0f) << 12 | (at(1) & 0x3f) << 6 | (at(2) & 0x3f);
  return length = 4, (c & 0x07) << 18 | (at(1) & 0x3f) << 12 | (at(2) & 0x3f) << 6 | (at(3) & 0x3f);
}
void append_utf8(std::string& out, uint32_t code);
// Length in bytes of the character whose first byte this is, in valid UTF-8.
inline size_t utf8_length(char first) {
  const auto c = static_cast<unsigned char>(first);
  return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}
// Start of the last character of text[0, end), end > 0.
inline size_t previous_char(std::string_view text, size_t end) {
  do --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80);
  return end;
}
bool is_ascii(std::string_view text);

}  // namespace moestro::text
