#include "text/scanners.h"

#include "base/check.h"
#include "text/unicode_class.h"

namespace moestro::text {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"re('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kLetters3Pattern =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kLetters1Pattern =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kCasedPattern =
    R"re([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)re"
    R"re(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)re"
    R"re(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kDigits3Pattern = R"re(\p{N}{1,3})re";
constexpr std::string_view kCjkPattern = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
constexpr std::string_view kDeepSeekPattern =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kDeepSeekEscapedPattern =
    R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)re"
    R"re(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";

struct Char {
  uint32_t code = 0;
  uint32_t bits = 0;  // CharClass
  size_t end = 0;     // position after it
};

// Each match function returns the end of the match at `pos`, or kNoMatch.
constexpr size_t kNoMatch = static_cast<size_t>(-1);

class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}
  size_t size() const { return text_.size(); }
  char byte(size_t pos) const { return text_[pos]; }
  Char at(size_t pos) const {
    size_t length;
    const uint32_t code = decode_utf8(text_, pos, length);
    return {code, table_[code], pos + length};
  }
  // End of the run of characters having any of `bits`.
  size_t run(size_t pos, uint32_t bits) const {
    while (pos < text_.size()) {
      const Char c = at(pos);
      if (!(c.bits & bits)) break;
      pos = c.end;
    }
    return pos;
  }
  // End of the run of characters having none of `bits`.
  size_t run_without(size_t pos, uint32_t bits) const {
    while (pos < text_.size()) {
      const Char c = at(pos);
      if (c.bits & bits) break;
      pos = c.end;
    }
    return pos;
  }
  size_t newlines(size_t pos, bool slash) const {
    while (pos < text_.size() &&
           (text_[pos] == '\r' || text_[pos] == '\n' || (slash && text_[pos] == '/')))
      ++pos;
    return pos;
  }
  // (?i:'s|'t|'re|'ve|'m|'ll|'d) at an apostrophe; U+017F folds to s.
  size_t contraction(size_t pos, bool any_case) const {
    if (pos + 1 >= text_.size() || text_[pos] != '\'') return kNoMatch;
    const auto letter = [&](size_t i) -> char {
      if (i >= text_.size()) return '\0';
      const char c = text_[i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 32) : c;
    };
    const char a = letter(pos + 1);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return pos + 2;
    const char b = letter(pos + 2);
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return pos + 3;
    if (any_case && text_.substr(pos + 1, 2) == "\u017f") return pos + 3;
    return kNoMatch;
  }
  // \s*[\r\n]+ (if with_newlines), \s+(?!\S), \s+ at a space character.
  size_t spaces(size_t pos, bool with_newlines) const {
    size_t end = pos, last = pos, after_newline = kNoMatch;
    while (end < text_.size()) {
      const Char c = at(end);
      if (!(c.bits & kSpace)) break;
      if (c.bits & kNewline) after_newline = c.end;
      last = end;
      end = c.end;
    }
    if (end == pos) return kNoMatch;
    if (with_newlines && after_newline != kNoMatch) return after_newline;
    if (end == text_.size() || last == pos) return end;
    return last;  // a run before other text leaves it its last space
  }

 private:
  std::string_view text_;
  const CharTable& table_ = CharTable::get();
};

size_t match_gpt2(const Cursor& t, size_t pos) {
  if (const size_t end = t.contraction(pos, false); end != kNoMatch) return end;
  const Char first = t.at(pos);
  const size_t start = first.code == ' ' ? first.end : pos;
  if (start < t.size()) {
    const Char c = t.at(start);
    if (c.bits & kLetter) return t.run(c.end, kLetter);
    if (c.bits & kNumber) return t.run(c.end, kNumber);
    if (!(c.bits & kSpace)) return t.run_without(c.end, kSpace | kLetter | kNumber);
  }
  return t.spaces(pos, false);
}

size_t match_number(const Cursor& t, const Char& first, int most) {
  size_t end = first.end;
  for (int n = 1; n < most && end < t.size(); ++n) {
    const Char c = t.at(end);
    if (!(c.bits & kNumber)) break;
    end = c.end;
  }
  return end;
}

size_t match_letters(const Cursor& t, size_t pos, int digits) {
  if (const size_t end = t.contraction(pos, true); end != kNoMatch) return end;
  const Char first = t.at(pos);
  if (first.bits & kLetter) return t.run(first.end, kLetter);
  if (first.bits & kNumber) return match_number(t, first, digits);
  if (!(first.bits & kNewline) && first.end < t.size() && t.at(first.end).bits & kLetter)
    return t.run(first.end, kLetter);
  constexpr uint32_t kNotSign = kSpace | kLetter | kNumber;
  const size_t start = first.code == ' ' ? first.end : pos;
  if (start < t.size() && !(t.at(start).bits & kNotSign))
    return t.newlines(t.run_without(start, kNotSign), false);
  return t.spaces(pos, true);
}

// [Lu Lt Lm Lo M]*[Ll Lm Lo M]+ from pos, else [Lu Lt Lm Lo M]+[Ll Lm Lo M]*: `lower_first` picks
// the first form.
size_t match_cased_word(const Cursor& t, size_t pos, bool lower_needed) {
  constexpr uint32_t kBoth = kModifier | kOtherLetter | kMark;
  constexpr uint32_t kUpperLike = kUpper | kTitle | kBoth, kLowerLike = kLower | kBoth;
  size_t end = pos,
         after_both = kNoMatch;  // after the last character of the run that also counts as lower
  while (end < t.size()) {
    const Char c = t.at(end);
    if (!(c.bits & kUpperLike)) break;
    end = c.end;
    if (c.bits & kBoth) after_both = end;
  }
  const size_t lower_end = t.run(end, kLowerLike);
  if (!lower_needed) return end == pos ? kNoMatch : lower_end;
  if (lower_end > end) return lower_end;
  return after_both;
}

size_t match_cased(const Cursor& t, size_t pos) {
  const Char first = t.at(pos);
  const bool sign = !(first.bits & (kNewline | kLetter | kNumber));
  for (const bool lower_needed : {true, false}) {
    size_t end = sign ? match_cased_word(t, first.end, lower_needed) : kNoMatch;
    if (end == kNoMatch) end = match_cased_word(t, pos, lower_needed);
    if (end != kNoMatch) {
      const size_t longer = t.contraction(end, true);
      return longer == kNoMatch ? end : longer;
    }
  }
  if (first.bits & kNumber) return match_number(t, first, 3);
  constexpr uint32_t kNotSign = kSpace | kLetter | kNumber;
  const size_t start = first.code == ' ' ? first.end : pos;
  if (start < t.size() && !(t.at(start).bits & kNotSign))
    return t.newlines(t.run_without(start, kNotSign), true);
  return t.spaces(pos, true);
}

bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

size_t match_deepseek(const Cursor& t, size_t pos) {
  const Char first = t.at(pos);
  if (first.code < 0x80 && first.bits & (kPunctuation | kSymbol) && first.end < t.size() &&
      is_ascii_letter(t.byte(first.end))) {
    size_t end = first.end;
    while (end < t.size() && is_ascii_letter(t.byte(end))) ++end;
    return end;
  }
  constexpr uint32_t kWordLike = kLetter | kMark, kSign = kPunctuation | kSymbol;
  if (!(first.bits & (kNewline | kLetter | kSign)) && first.end < t.size() &&
      t.at(first.end).bits & kWordLike)
    return t.run(first.end, kWordLike);
  if (first.bits & kWordLike) return t.run(first.end, kWordLike);
  const size_t start = first.code == ' ' ? first.end : pos;
  if (start < t.size() && t.at(start).bits & kSign) return t.newlines(t.run(start, kSign), false);
  return t.spaces(pos, true);
}

bool is_cjk(uint32_t c) { return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff); }

size_t match_cjk(const Cursor& t, size_t pos) {
  size_t end = pos;
  while (end < t.size()) {
    const Char c = t.at(end);
    if (!is_cjk(c.code)) break;
    end = c.end;
  }
  return end == pos ? kNoMatch : end;
}

size_t match(Scanner scanner, const Cursor& t, size_t pos) {
  switch (scanner) {
    case Scanner::kGpt2:
      return match_gpt2(t, pos);
    case Scanner::kLetters3:
      return match_letters(t, pos, 3);
    case Scanner::kLetters1:
      return match_letters(t, pos, 1);
    case Scanner::kCased:
      return match_cased(t, pos);
    case Scanner::kDigits3: {
      const Char c = t.at(pos);
      return c.bits & kNumber ? match_number(t, c, 3) : kNoMatch;
    }
    case Scanner::kCjk:
      return match_cjk(t, pos);
    case Scanner::kDeepSeekWords:
      return match_deepseek(t, pos);
    case Scanner::kNone:
      break;
  }
  CHECK(false, "no scanner");
}

}  // namespace

Scanner known_scanner(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return Scanner::kGpt2;
  if (pattern == kLetters3Pattern) return Scanner::kLetters3;
  if (pattern == kLetters1Pattern) return Scanner::kLetters1;
  if (pattern == kCasedPattern) return Scanner::kCased;
  if (pattern == kDigits3Pattern) return Scanner::kDigits3;
  if (pattern == kCjkPattern) return Scanner::kCjk;
  if (pattern == kDeepSeekPattern || pattern == kDeepSeekEscapedPattern)
    return Scanner::kDeepSeekWords;
  return Scanner::kNone;
}

bool scan(Scanner scanner, std::string_view text, size_t from, size_t& begin, size_t& end) {
  const Cursor cursor(text);
  for (size_t pos = from; pos < text.size(); pos += utf8_length(text[pos])) {
    const size_t found = match(scanner, cursor, pos);
    if (found == kNoMatch) continue;
    begin = pos;
    end = found;
    return true;
  }
  return false;
}

}  // namespace moestro::text
