#include "text/unicode_class.h"

#include <utf8proc.h>

#include <cstring>
#include <unordered_map>

namespace moestro::text {
namespace {

// Assigned by Unicode 15, 15.1 and 16 (source: UnicodeData.txt, general category).
constexpr AddedRange kAfterUnicode14[] = {
    {0x897, 0x897, kMark},
    {0xcf3, 0xcf3, kMark},
    {0xece, 0xece, kMark},
    {0x1b4e, 0x1b4f, kPunctuation},
    {0x1b7f, 0x1b7f, kPunctuation},
    {0x1c89, 0x1c89, kUpper},
    {0x1c8a, 0x1c8a, kLower},
    {0x2427, 0x2429, kSymbol},
    {0x2ffc, 0x2fff, kSymbol},
    {0x31e4, 0x31e5, kSymbol},
    {0x31ef, 0x31ef, kSymbol},
    {0xa7cb, 0xa7cc, kUpper},
    {0xa7cd, 0xa7cd, kLower},
    {0xa7da, 0xa7da, kUpper},
    {0xa7db, 0xa7db, kLower},
    {0xa7dc, 0xa7dc, kUpper},
    {0x105c0, 0x105f3, kOtherLetter},
    {0x10d40, 0x10d49, kNumber},
    {0x10d4a, 0x10d4d, kOtherLetter},
    {0x10d4e, 0x10d4e, kModifier},
    {0x10d4f, 0x10d4f, kOtherLetter},
    {0x10d50, 0x10d65, kUpper},
    {0x10d69, 0x10d6d, kMark},
    {0x10d6e, 0x10d6e, kPunctuation},
    {0x10d6f, 0x10d6f, kModifier},
    {0x10d70, 0x10d85, kLower},
    {0x10d8e, 0x10d8f, kSymbol},
    {0x10ec2, 0x10ec4, kOtherLetter},
    {0x10efc, 0x10eff, kMark},
    {0x1123f, 0x11240, kOtherLetter},
    {0x11241, 0x11241, kMark},
    {0x11380, 0x11389, kOtherLetter},
    {0x1138b, 0x1138b, kOtherLetter},
    {0x1138e, 0x1138e, kOtherLetter},
    {0x11390, 0x113b5, kOtherLetter},
    {0x113b7, 0x113b7, kOtherLetter},
    {0x113b8, 0x113c0, kMark},
    {0x113c2, 0x113c2, kMark},
    {0x113c5, 0x113c5, kMark},
    {0x113c7, 0x113ca, kMark},
    {0x113cc, 0x113d0, kMark},
    {0x113d1, 0x113d1, kOtherLetter},
    {0x113d2, 0x113d2, kMark},
    {0x113d3, 0x113d3, kOtherLetter},
    {0x113d4, 0x113d5, kPunctuation},
    {0x113d7, 0x113d8, kPunctuation},
    {0x113e1, 0x113e2, kMark},
    {0x116d0, 0x116e3, kNumber},
    {0x11b00, 0x11b09, kPunctuation},
    {0x11bc0, 0x11be0, kOtherLetter},
    {0x11be1, 0x11be1, kPunctuation},
    {0x11bf0, 0x11bf9, kNumber},
    {0x11f00, 0x11f01, kMark},
    {0x11f02, 0x11f02, kOtherLetter},
    {0x11f03, 0x11f03, kMark},
    {0x11f04, 0x11f10, kOtherLetter},
    {0x11f12, 0x11f33, kOtherLetter},
    {0x11f34, 0x11f3a, kMark},
    {0x11f3e, 0x11f42, kMark},
    {0x11f43, 0x11f4f, kPunctuation},
    {0x11f50, 0x11f59, kNumber},
    {0x11f5a, 0x11f5a, kMark},
    {0x1342f, 0x1342f, kOtherLetter},
    {0x13440, 0x13440, kMark},
    {0x13441, 0x13446, kOtherLetter},
    {0x13447, 0x13455, kMark},
    {0x13460, 0x143fa, kOtherLetter},
    {0x16100, 0x1611d, kOtherLetter},
    {0x1611e, 0x1612f, kMark},
    {0x16130, 0x16139, kNumber},
    {0x16d40, 0x16d42, kModifier},
    {0x16d43, 0x16d6a, kOtherLetter},
    {0x16d6b, 0x16d6c, kModifier},
    {0x16d6d, 0x16d6f, kPunctuation},
    {0x16d70, 0x16d79, kNumber},
    {0x18cff, 0x18cff, kOtherLetter},
    {0x1b132, 0x1b132, kOtherLetter},
    {0x1b155, 0x1b155, kOtherLetter},
    {0x1cc00, 0x1ccef, kSymbol},
    {0x1ccf0, 0x1ccf9, kNumber},
    {0x1cd00, 0x1ceb3, kSymbol},
    {0x1d2c0, 0x1d2d3, kNumber},
    {0x1df25, 0x1df2a, kLower},
    {0x1e030, 0x1e06d, kModifier},
    {0x1e08f, 0x1e08f, kMark},
    {0x1e4d0, 0x1e4ea, kOtherLetter},
    {0x1e4eb, 0x1e4eb, kModifier},
    {0x1e4ec, 0x1e4ef, kMark},
    {0x1e4f0, 0x1e4f9, kNumber},
    {0x1e5d0, 0x1e5ed, kOtherLetter},
    {0x1e5ee, 0x1e5ef, kMark},
    {0x1e5f0, 0x1e5f0, kOtherLetter},
    {0x1e5f1, 0x1e5fa, kNumber},
    {0x1e5ff, 0x1e5ff, kPunctuation},
    {0x1f6dc, 0x1f6dc, kSymbol},
    {0x1f774, 0x1f776, kSymbol},
    {0x1f77b, 0x1f77f, kSymbol},
    {0x1f7d9, 0x1f7d9, kSymbol},
    {0x1f8b2, 0x1f8bb, kSymbol},
    {0x1f8c0, 0x1f8c1, kSymbol},
    {0x1fa75, 0x1fa77, kSymbol},
    {0x1fa87, 0x1fa89, kSymbol},
    {0x1fa8f, 0x1fa8f, kSymbol},
    {0x1faad, 0x1faaf, kSymbol},
    {0x1fabb, 0x1fabf, kSymbol},
    {0x1fac6, 0x1fac6, kSymbol},
    {0x1face, 0x1facf, kSymbol},
    {0x1fada, 0x1fadc, kSymbol},
    {0x1fadf, 0x1fadf, kSymbol},
    {0x1fae8, 0x1fae9, kSymbol},
    {0x1faf7, 0x1faf8, kSymbol},
    {0x1fbcb, 0x1fbef, kSymbol},
    {0x2b739, 0x2b739, kOtherLetter},
    {0x2ebf0, 0x2ee5d, kOtherLetter},
    {0x31350, 0x323af, kOtherLetter},
};

bool is_white_space(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

// Symbols (So) with the property Alphabetic: circled and squared Latin letters; and the two
// joiners.
bool is_other_word(uint32_t c) {
  return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
         (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189) || c == 0x200c ||
         c == 0x200d;
}

uint16_t category_bits(uint32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
      return kUpper | kWord;
    case UTF8PROC_CATEGORY_LL:
      return kLower | kWord;
    case UTF8PROC_CATEGORY_LT:
      return kTitle | kWord;
    case UTF8PROC_CATEGORY_LM:
      return kModifier | kWord;
    case UTF8PROC_CATEGORY_LO:
      return kOtherLetter | kWord;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark | kWord;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      return kNumber | kWord;
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
      return kPunctuation | kWord;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return kSymbol;
    default:
      return 0;
  }
}

}  // namespace

std::span<const AddedRange> ranges_after_unicode_14() { return kAfterUnicode14; }

CharTable::CharTable() {
  std::u16string all(0x110000, u'\0');
  for (uint32_t c = 0; c < 0x110000; ++c) {
    uint16_t bits = category_bits(c);
    if (is_white_space(c)) bits |= kSpace;
    if (c == '\r' || c == '\n') bits |= kNewline;
    if (is_other_word(c)) bits |= kWord;
    all[c] = static_cast<char16_t>(bits);
  }
  for (const AddedRange& range : kAfterUnicode14)
    for (uint32_t c = range.first; c <= range.last; ++c)
      if (all[c] == 0) {
        const bool word = range.category & (kLetter | kMark | kNumber);
        all[c] = static_cast<char16_t>(range.category | (word ? kWord : 0));
      }
  std::unordered_map<std::u16string_view, uint16_t> seen;
  for (size_t b = 0; b < std::size(blocks_); ++b) {
    const std::u16string_view block = std::u16string_view(all).substr(b * 128, 128);
    const auto [it, inserted] = seen.emplace(block, static_cast<uint16_t>(values_.size() / 128));
    if (inserted) values_.append(block);
    blocks_[b] = it->second;
  }
}

const CharTable& CharTable::get() {
  static const CharTable table;
  return table;
}

void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6), put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f)),
        put(0x80 | (code & 0x3f));
  }
}

bool is_ascii(std::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080u) return false;
  }
  for (; i < text.size(); ++i)
    if (static_cast<unsigned char>(text[i]) >= 0x80) return false;
  return true;
}

}  // namespace moestro::text
