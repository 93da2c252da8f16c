#include "text/jinja/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>

namespace moestro::text::jinja {
namespace {

struct SpecialCase {
  uint32_t from;
  const char* to;
};
#include "text/jinja/special_case.inc"

template <size_t N>
const char* find_special(const SpecialCase (&table)[N], char32_t c) {
  const auto* row = std::lower_bound(std::begin(table), std::end(table), c,
                                     [](const SpecialCase& r, char32_t v) { return r.from < v; });
  return row != std::end(table) && row->from == c ? row->to : nullptr;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

void append_upper(char32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c));
  } else if (const char* special = find_special(kSpecialUpper, c)) {
    out += special;
  } else {
    encode(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
  }
}

void append_title(char32_t c, std::string& out) {
  if (const char* special = c < 0x80 ? nullptr : find_special(kSpecialTitle, c)) {
    out += special;
  } else {
    encode(static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))), out);
  }
}

bool is_cased(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return is_upper(c) || is_lower(c) || is_title(c);
}

bool is_case_ignorable(char32_t c) {
  if (c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xa8 || c == 0xad ||
      c == 0xaf || c == 0xb4 || c == 0xb7 || c == 0xb8 || c == 0x2018 || c == 0x2019) {
    return true;
  }
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return c >= 0x80;
    default:
      return false;
  }
}

// Unicode's Final_Sigma: after a cased letter, and none follows (case-ignorable characters do not
// count). Looks at no more than 64 characters each way, so that a long row of combining marks stays
// linear.
bool is_final_sigma(std::string_view text, size_t at, size_t size) {
  constexpr int kWindow = 64;
  bool before = false;
  size_t i = at;
  for (int n = 0; i > 0 && n < kWindow; ++n) {
    const CodePoint c = decode_before(text, i);
    i -= c.size;
    if (is_case_ignorable(c.value)) continue;
    before = is_cased(c.value);
    break;
  }
  if (!before) return false;
  i = at + size;
  for (int n = 0; i < text.size() && n < kWindow; ++n) {
    const CodePoint c = decode(text, i);
    i += c.size;
    if (is_case_ignorable(c.value)) continue;
    return !is_cased(c.value);
  }
  return true;
}

void append_lower(std::string_view text, size_t at, CodePoint c, std::string& out) {
  if (c.value < 0x80) {
    out.push_back(static_cast<char>(c.value >= 'A' && c.value <= 'Z' ? c.value + 32 : c.value));
  } else if (c.value == 0x130) {
    out += "i\xcc\x87";
  } else if (c.value == 0x3a3) {
    out += is_final_sigma(text, at, c.size) ? "\xcf\x82" : "\xcf\x83";
  } else {
    encode(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.value))), out);
  }
}

template <class F>
std::string map_text(std::string_view text, F each) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode(text, i);
    each(i, c, out);
    i += c.size;
  }
  return out;
}

}  // namespace

CodePoint decode(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  const uint8_t b = byte(0);
  if (b < 0x80) return {b, 1};
  const uint32_t size = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
  if (b < 0xc2 || b > 0xf4 || text.size() - at < size) return {0xfffd, 1};
  char32_t c = b & (0x7f >> size);
  for (uint32_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {0xfffd, 1};
    c = (c << 6) | (byte(i) & 0x3f);
  }
  return {c, size};
}

CodePoint decode_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80)
    --begin;
  const CodePoint c = decode(text.substr(0, end), begin);
  return begin + c.size == end ? c : CodePoint{0xfffd, 1};
}

void encode(char32_t c, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

size_t count_code_points(std::string_view text) {
  size_t n = 0;
  for (const char c : text) n += (static_cast<uint8_t>(c) & 0xc0) != 0x80;
  return n;
}

size_t offset_of(std::string_view text, size_t n) {
  size_t i = 0;
  for (; i < text.size(); ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xc0) == 0x80) continue;
    if (n-- == 0) return i;
  }
  return i;
}

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_printable(char32_t c) {
  if (c < 0x7f) return c >= 0x20;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool is_alpha(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}
bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(char32_t c) {
  // Decimal digits and the superscript, subscript, circled and similar digits.
  return is_decimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
         (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
         (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247c) ||
         (c >= 0x2488 && c <= 0x2490) || c == 0x24ea || (c >= 0x24f5 && c <= 0x24fd) ||
         c == 0x24ff || (c >= 0x2776 && c <= 0x277e) || (c >= 0x2780 && c <= 0x2788) ||
         (c >= 0x278a && c <= 0x2792);
}
bool is_numeric(char32_t c) {
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
bool is_upper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return category(c) == UTF8PROC_CATEGORY_LU || (c >= 0x2160 && c <= 0x216f) ||
         (c >= 0x24b6 && c <= 0x24cf);
}
bool is_lower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return category(c) == UTF8PROC_CATEGORY_LL || c == 0xaa || c == 0xba ||
         (c >= 0x2170 && c <= 0x217f) || (c >= 0x24d0 && c <= 0x24e9);
}
bool is_title(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }

bool is_identifier_start(char32_t c) {
  if (c < 0x80) return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return is_alpha(c) || category(c) == UTF8PROC_CATEGORY_NL;
}
bool is_identifier_part(char32_t c) {
  if (c < 0x80) return is_identifier_start(c) || (c >= '0' && c <= '9');
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return is_identifier_start(c);
  }
}

std::string to_upper(std::string_view text) {
  return map_text(text, [](size_t, CodePoint c, std::string& out) { append_upper(c.value, out); });
}
std::string to_lower(std::string_view text) {
  return map_text(
      text, [&](size_t at, CodePoint c, std::string& out) { append_lower(text, at, c, out); });
}
std::string to_title(std::string_view text) {
  bool previous_cased = false;
  return map_text(text, [&](size_t at, CodePoint c, std::string& out) {
    if (previous_cased)
      append_lower(text, at, c, out);
    else
      append_title(c.value, out);
    previous_cased = is_cased(c.value);
  });
}
std::string to_capitalized(std::string_view text) {
  return map_text(text, [&](size_t at, CodePoint c, std::string& out) {
    if (at == 0)
      append_title(c.value, out);
    else
      append_lower(text, at, c, out);
  });
}
std::string to_swapped_case(std::string_view text) {
  return map_text(text, [&](size_t at, CodePoint c, std::string& out) {
    if (is_upper(c.value))
      append_lower(text, at, c, out);
    else if (is_lower(c.value))
      append_upper(c.value, out);
    else
      encode(c.value, out);
  });
}
std::string to_casefolded(std::string_view text) {
  utf8proc_uint8_t* folded = nullptr;
  const utf8proc_ssize_t n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &folded, UTF8PROC_CASEFOLD);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(folded, &std::free);
  if (n < 0) return to_lower(text);
  return {reinterpret_cast<const char*>(folded), static_cast<size_t>(n)};
}

namespace {
template <class F>
std::string_view strip_if(std::string_view text, Side side, F drop) {
  size_t begin = 0;
  size_t end = text.size();
  if (static_cast<int>(side) & static_cast<int>(Side::kLeft)) {
    while (begin < end) {
      const CodePoint c = decode(text, begin);
      if (!drop(text.substr(begin, c.size), c.value)) break;
      begin += c.size;
    }
  }
  if (static_cast<int>(side) & static_cast<int>(Side::kRight)) {
    while (end > begin) {
      const CodePoint c = decode_before(text, end);
      if (!drop(text.substr(end - c.size, c.size), c.value)) break;
      end -= c.size;
    }
  }
  return text.substr(begin, end - begin);
}
}  // namespace

std::string_view strip(std::string_view text, Side side) {
  return strip_if(text, side, [](std::string_view, char32_t c) { return is_space(c); });
}
std::string_view strip(std::string_view text, std::string_view chars, Side side) {
  return strip_if(text, side, [&](std::string_view bytes, char32_t) {
    return chars.find(bytes) != std::string_view::npos;
  });
}

}  // namespace moestro::text::jinja
