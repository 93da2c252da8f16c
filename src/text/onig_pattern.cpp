#include "text/onig_pattern.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

#include "base/format.h"
#include "text/unicode_class.h"

namespace moestro::text {
namespace {

constexpr size_t kMaxPatternBytes = 16384;
constexpr int kMaxDepth = 50;
constexpr int kMaxRepeat = 1000;
// A repeated group may hold unbounded repetition only if its own count is small.
constexpr int kMaxNestedRepeat = 4;

constexpr std::string_view kSpaceItems =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{"
    "205f}\\x{3000}";
constexpr std::string_view kNotSpaceItems =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";
constexpr std::string_view kWordItems =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}"
    "\\x{1f170}-\\x{1f189}";
constexpr std::string_view kHexItems = "0-9A-Fa-f";

std::string hex_escape(uint32_t code) { return format("\\x{{{:x}}}", code); }

bool is_binary_property(std::string_view name) {
  for (const std::string_view known : {"Any", "ASCII", "Alphabetic", "Uppercase", "Lowercase",
                                       "White_Space", "Emoji", "Ideographic", "Dash", "Math"})
    if (name == known) return true;
  return false;
}

// Class items for the characters of category `name` that PCRE2's tables lack.
std::string newer_items(std::string_view name) {
  if (name == "Han") return "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}";
  const std::pair<std::string_view, int> kinds[] = {
      {"L", kLetter},       {"Lu", kUpper}, {"Ll", kLower}, {"Lt", kTitle},      {"Lm", kModifier},
      {"Lo", kOtherLetter}, {"M", kMark},   {"N", kNumber}, {"P", kPunctuation}, {"S", kSymbol}};
  std::string out;
  for (const auto& [kind, bits] : kinds)
    if (kind == name)
      for (const AddedRange& range : ranges_after_unicode_14())
        if (range.category & bits) out += hex_escape(range.first) + "-" + hex_escape(range.last);
  return out;
}

// What an escape or a class stands for: one character, or a set written as class items.
struct Atom {
  std::optional<uint32_t> code = {};
  std::string items = {};  // without brackets
  bool negated = false;    // the complement of items
};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> run() {
    if (in_.size() > kMaxPatternBytes)
      return unsupported(
          format("a pattern of {} bytes is over the limit of {}", in_.size(), kMaxPatternBytes));
    bool unbounded = false;
    MOESTRO_ASSIGN(std::string out, alternatives(0, unbounded));
    if (pos_ != in_.size()) return fail("unmatched )");
    return out;
  }

 private:
  bool done() const { return pos_ >= in_.size(); }
  char peek() const { return done() ? '\0' : in_[pos_]; }
  bool next_is(std::string_view text) const { return in_.substr(pos_, text.size()) == text; }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    pos_ += text.size();
    return true;
  }
  uint32_t take_char() {
    size_t length;
    const uint32_t code = decode_utf8(in_, pos_, length);
    pos_ += length;
    return code;
  }
  Status fail(std::string_view what) const {
    return unsupported(format("pattern {}: {} at byte {}", in_.substr(0, 200), what, pos_));
  }

  // Everything up to an unmatched ')' or the end.
  Result<std::string> alternatives(int depth, bool& unbounded) {
    if (depth > kMaxDepth) return fail("groups nested too deeply");
    std::string out;
    while (!done() && peek() != ')') {
      if (take("|")) {
        out += '|';
        continue;
      }
      bool inner = false, repeatable = true;
      MOESTRO_ASSIGN(std::string item, element(depth, inner, repeatable));
      MOESTRO_ASSIGN(std::string times, quantifier(inner, unbounded, repeatable));
      unbounded |= inner;
      out += item + times;
    }
    return out;
  }

  Result<std::string> element(int depth, bool& unbounded, bool& repeatable) {
    const char c = peek();
    if (c == '(') return group(depth, unbounded, repeatable);
    if (c == '[') return char_class(0);
    if (c == '^' || c == '$') {
      ++pos_;
      repeatable = false;
      return std::string(1, c);
    }
    if (c == '.') {
      ++pos_;
      return std::string(".");
    }
    if (c == '*' || c == '+' || c == '?') return fail("nothing to repeat");
    if (c == '\\') {
      for (const char anchor : {'b', 'B', 'A', 'z', 'Z'})
        if (in_.size() > pos_ + 1 && in_[pos_ + 1] == anchor) {
          pos_ += 2;
          repeatable = false;
          return std::string{'\\', anchor};
        }
      MOESTRO_ASSIGN(Atom atom, escape());
      if (atom.code) return hex_escape(*atom.code);
      return (atom.negated ? "[^" : "[") + atom.items + "]";
    }
    return hex_escape(take_char());
  }

  Result<std::string> group(int depth, bool& unbounded, bool& repeatable) {
    ++pos_;
    std::string open = "(?:";
    if (take("?")) {
      bool found = false;
      for (const std::string_view kind : {":", "=", "!", ">", "<=", "<!"})
        if (take(kind)) {
          open = "(?" + std::string(kind);
          repeatable = kind == ":" || kind == ">";
          found = true;
          break;
        }
      if (!found) {
        MOESTRO_ASSIGN(open, options());
        if (open.back() == ')') {  // "(?i)": holds to the end of the enclosing group
          repeatable = false;
          return open;
        }
      }
    }
    MOESTRO_ASSIGN(std::string body, alternatives(depth + 1, unbounded));
    if (!take(")")) return fail("missing )");
    return open + body + ")";
  }

  Result<std::string> options() {
    std::string out = "(?";
    while (!done()) {
      const char c = in_[pos_++];
      if (c == 'i' || c == '-') {
        out += c;
      } else if (c == 'm') {
        out += 's';
      } else if (c == ':' || c == ')') {
        out += c;
        return out;
      } else {
        break;
      }
    }
    return fail("group option not supported");
  }

  // inner: whether the repeated element holds unbounded repetition. unbounded: set if this
  // repetition is.
  Result<std::string> quantifier(bool inner, bool& unbounded, bool repeatable) {
    std::string out;
    int least = 0, most = 0;
    if (take("*")) {
      out = "*";
      most = -1;
    } else if (take("+")) {
      out = "+";
      most = -1;
    } else if (take("?")) {
      out = "?";
      most = 1;
    } else if (braces(least, most)) {
      if (least > kMaxRepeat || most > kMaxRepeat) return fail("repeat count over 1000");
      if (most >= 0 && least > most) return fail("repeat range reversed");
      out = most < 0 ? format("{{{},}}", least) : format("{{{},{}}}", least, most);
    } else {
      return out;
    }
    if (!repeatable) return fail("repetition of something that has no width");
    if (inner && (most < 0 || most > kMaxNestedRepeat)) return fail("nested unbounded repetition");
    unbounded |= most < 0;
    if (out.size() == 1 && take("+"))
      out += '+';  // possessive; after braces Ruby means a second repetition
    else if (take("?"))
      out += '?';
    if (peek() == '*' || peek() == '+' || peek() == '?') return fail("repetition of a repetition");
    return out;
  }

  // {m}, {m,}, {,n}, {m,n}; anything else is literal text.
  bool braces(int& least, int& most) {
    if (peek() != '{') return false;
    const size_t close = in_.find('}', pos_);
    if (close == std::string_view::npos) return false;
    const std::string_view body = in_.substr(pos_ + 1, close - pos_ - 1);
    const size_t comma = body.find(',');
    const auto number = [](std::string_view text, int fallback) -> std::optional<int> {
      if (text.empty()) return fallback;
      int value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error == std::errc::result_out_of_range) return kMaxRepeat + 1;
      if (error != std::errc() || end != text.data() + text.size() || value < 0)
        return std::nullopt;
      return value;
    };
    if (body.empty() || body == ",") return false;
    const auto low = number(body.substr(0, comma), 0);
    const auto high = comma == std::string_view::npos ? low : number(body.substr(comma + 1), -1);
    if (!low || !high) return false;
    least = *low;
    most = *high;
    pos_ = close + 1;
    return true;
  }

  Result<Atom> escape() {
    ++pos_;
    if (done()) return fail("trailing backslash");
    const uint32_t c = take_char();
    switch (c) {
      case 'n':
        return Atom{.code = '\n'};
      case 'r':
        return Atom{.code = '\r'};
      case 't':
        return Atom{.code = '\t'};
      case 'f':
        return Atom{.code = '\f'};
      case 'v':
        return Atom{.code = '\v'};
      case 'a':
        return Atom{.code = 7};
      case 'e':
        return Atom{.code = 27};
      case 's':
        return Atom{.items = std::string(kSpaceItems)};
      case 'S':
        return Atom{.items = std::string(kNotSpaceItems)};
      case 'w':
        return Atom{.items = std::string(kWordItems)};
      case 'W':
        return Atom{.items = std::string(kWordItems), .negated = true};
      case 'd':
        return Atom{.items = "\\p{Nd}"};
      case 'D':
        return Atom{.items = "\\P{Nd}"};
      case 'h':
        return Atom{.items = std::string(kHexItems)};
      case 'H':
        return Atom{.items = std::string(kHexItems), .negated = true};
      case 'p':
      case 'P':
        return property(c == 'P');
      case 'x':
      case 'u':
        return hex(c == 'u');
      default:
        break;
    }
    if (c < 0x80 && ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'))) {
      --pos_;
      return fail("escape not supported");
    }
    return Atom{.code = c};
  }

  Result<Atom> hex(bool four_digits) {
    uint32_t code = 0;
    size_t digits = 0;
    const bool braced = !four_digits && take("{");
    const size_t most = braced ? 8 : four_digits ? 4 : 2;
    for (; digits < most && !done(); ++digits, ++pos_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'                 ? c - '0'
                        : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                             : -1;
      if (digit < 0) break;
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    if (digits == 0 || (four_digits && digits != 4) || (braced && !take("}")))
      return fail("bad hexadecimal escape");
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
      return fail("code point out of range");
    return Atom{.code = code};
  }

  Result<Atom> property(bool negated) {
    if (!take("{")) return fail("\\p without {");
    if (take("^")) negated = !negated;
    const size_t close = in_.find('}', pos_);
    if (close == std::string_view::npos || close - pos_ > 40) return fail("\\p{ without }");
    const std::string_view name = in_.substr(pos_, close - pos_);
    for (const char c : name)
      if (!((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_'))
        return fail("property name");
    pos_ = close + 1;
    // PCRE2 reads a bare script name as "script extensions", which adds punctuation.
    const std::string_view prefix = name.size() > 2 && !is_binary_property(name) ? "sc:" : "";
    return Atom{.items = format("\\p{{{}{}}}", prefix, name) + newer_items(name),
                .negated = negated};
  }

  // A whole class as an expression that matches exactly one character.
  Result<std::string> char_class(int depth) {
    if (depth > 8) return fail("classes nested too deeply");
    ++pos_;
    const bool negated = take("^");
    std::vector<std::string> operands;  // of &&
    std::string items;
    std::vector<std::string> others;  // alternatives that are no class items
    bool first = true, simple = true;
    const auto close_operand = [&] {
      std::string out = items.empty() ? "" : "[" + items + "]";
      for (const std::string& other : others) out += (out.empty() ? "" : "|") + other;
      operands.push_back("(?:" + (out.empty() ? "(?!)" : out) + ")");
      items.clear();
      others.clear();
    };
    for (;; first = false) {
      if (done()) return fail("missing ]");
      if (peek() == ']' && !first) break;
      if (take("&&")) {
        close_operand();
        simple = false;
        continue;
      }
      if (next_is("[:")) return fail("POSIX class not supported");
      if (peek() == '[') {
        MOESTRO_ASSIGN(std::string nested, char_class(depth + 1));
        others.push_back(std::move(nested));
        simple = false;
        continue;
      }
      MOESTRO_TRY(class_item(items, others, simple));
    }
    ++pos_;
    if (simple) return (negated ? "[^" : "[") + items + "]";
    close_operand();
    std::string all;
    for (size_t i = 0; i + 1 < operands.size(); ++i) all += "(?=" + operands[i] + ")";
    all += operands.back();
    return negated ? "(?:(?!" + all + ")[\\x{0}-\\x{10ffff}])" : "(?:" + all + ")";
  }

  // One character, range or set inside a class.
  Status class_item(std::string& items, std::vector<std::string>& others, bool& simple) {
    MOESTRO_ASSIGN(Atom low, class_atom());
    if (!low.code) {
      if (low.negated) {
        others.push_back("[^" + low.items + "]");
        simple = false;
      } else {
        items += low.items;
      }
      return {};
    }
    items += hex_escape(*low.code);
    if (peek() != '-' || pos_ + 1 >= in_.size() || in_[pos_ + 1] == ']' ||
        in_.substr(pos_ + 1, 2) == "&&")
      return {};
    ++pos_;
    MOESTRO_ASSIGN(Atom high, class_atom());
    if (!high.code || *high.code < *low.code) return fail("bad range");
    items += "-" + hex_escape(*high.code);
    return {};
  }

  Result<Atom> class_atom() {
    if (next_is("\\b")) {
      pos_ += 2;
      return Atom{.code = 8};
    }
    if (peek() == '\\') return escape();
    return Atom{.code = take_char()};
  }

  std::string_view in_;
  size_t pos_ = 0;
};

}  // namespace

Result<std::string> pcre2_pattern(std::string_view onig_pattern) {
  return Translator(onig_pattern).run();
}

}  // namespace moestro::text
