#include "text/jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "base/format.h"
#include "base/strings.h"
#include "text/jinja/failure.h"
#include "text/jinja/python_text.h"
#include "text/jinja/text_ops.h"

namespace moestro::text::jinja {
namespace {

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  Lexer(std::string_view source, std::deque<std::string>& strings)
      : source_(source), strings_(strings) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_text();
    add(TokenKind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return source_.substr(at_); }
  bool starts(std::string_view s) const { return rest().starts_with(s); }
  void add(TokenKind kind, std::string_view text) { tokens_.push_back({kind, line_, text, {}}); }
  // Moves past n bytes, counting lines.
  void advance(size_t n) {
    line_ +=
        static_cast<uint32_t>(std::count(source_.begin() + at_, source_.begin() + at_ + n, '\n'));
    at_ += n;
  }
  void skip_space() { advance(space_at(at_)); }
  size_t space_at(size_t at) const {
    size_t i = at;
    while (i < source_.size()) {
      const CodePoint c = decode(source_, i);
      if (!is_space(c.value)) break;
      i += c.size;
    }
    return i - at;
  }
  char sign_at(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }
  bool ends_with_newline() const { return at_ > 0 && source_[at_ - 1] == '\n'; }

  // Text up to the next tag, then the tag.
  void lex_text() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string_view::npos || tag + 1 >= source_.size()) {
        tag = source_.size();
        break;
      }
      if (const char c = source_[tag + 1]; c == '%' || c == '{' || c == '#') break;
    }
    if (tag == source_.size()) {
      add(TokenKind::kData, rest());
      advance(rest().size());
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    data(source_.substr(at_, tag - at_), sign, kind == '{');
    advance(tag - at_);
    const size_t raw = kind == '%' ? raw_tag(tag + 2 + (sign != 0)) : 0;
    const uint32_t tag_line = line_;
    if (raw) {
      advance(raw - at_);
      line_starts_ = ends_with_newline();
      lex_raw(tag_line);
      return;
    }
    if (kind != '#')
      add(kind == '{' ? TokenKind::kPrintBegin : TokenKind::kBlockBegin, source_.substr(tag, 2));
    advance(2 + (sign != 0));
    if (kind == '#')
      lex_comment(tag_line);
    else
      lex_tag(kind == '{');
    line_starts_ = ends_with_newline();
  }

  // Template data before a tag with this sign: what lstrip_blocks or "-" take away is not emitted.
  void data(std::string_view text, char sign, bool is_print) {
    if (sign == '-') {
      text = strip(text, Side::kRight);
    } else if (sign != '+' && !is_print) {
      const size_t newline = text.rfind('\n');
      const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
      if ((begin > 0 || line_starts_) && strip(text.substr(begin)).empty())
        text = text.substr(0, begin);
    }
    if (!text.empty()) add(TokenKind::kData, text);
  }

  // End of "raw %}" or "raw -%} ", which starts at `at` after "{%"; 0: some other tag.
  size_t raw_tag(size_t at) const {
    at += space_at(at);
    if (source_.substr(at, 3) != "raw") return 0;
    at += 3;
    at += space_at(at);
    if (source_.substr(at, 3) == "-%}") return at + 3 + space_at(at + 3);
    return source_.substr(at, 2) == "%}" ? at + 2 : 0;
  }

  void lex_raw(uint32_t tag_line) {
    for (size_t tag = at_;; tag += 2) {
      tag = source_.find("{%", tag);
      if (tag == std::string_view::npos) fail_at(tag_line, "Missing end of raw directive");
      const char sign = sign_at(tag + 2);
      size_t i = tag + 2 + (sign != 0);
      i += space_at(i);
      if (source_.substr(i, 6) != "endraw") continue;
      i += 6;
      i += space_at(i);
      const size_t end = tag_end(i, "%}");
      if (!end) continue;
      data(source_.substr(at_, tag - at_), sign, false);
      advance(end - at_);
      line_starts_ = ends_with_newline();
      return;
    }
  }

  // If the closing `mark` (with "+", "-" or nothing before it) stands at `at`: where the text after
  // it begins.
  size_t tag_end(size_t at, std::string_view mark) const {
    const bool minus = source_.substr(at, 1) == "-";
    const bool plus = mark != "}}" && source_.substr(at, 1) == "+";
    size_t i = at + (minus || plus);
    if (source_.substr(i, 2) != mark) return 0;
    i += 2;
    if (minus) return i + space_at(i);
    if (!plus && mark != "}}" && source_.substr(i, 1) == "\n") ++i;
    return i;
  }

  void lex_comment(uint32_t tag_line) {
    const size_t close = source_.find("#}", at_);
    if (close == std::string_view::npos) fail_at(tag_line, "Missing end of comment tag");
    const size_t sign = close > at_ && sign_at(close - 1) ? 1 : 0;
    advance(tag_end(close - sign, "#}") - at_);
  }

  void lex_tag(bool is_print) {
    std::string open;  // brackets that wait for their partner
    const std::string_view mark = is_print ? "}}" : "%}";
    while (at_ < source_.size()) {
      if (open.empty()) {
        if (const size_t end = tag_end(at_, mark)) {
          add(is_print ? TokenKind::kPrintEnd : TokenKind::kBlockEnd, mark);
          advance(end - at_);
          return;
        }
      }
      if (const size_t n = space_at(at_)) {
        advance(n);
      } else if (!lex_number() && !lex_name() && !lex_string()) {
        lex_operator(open);
      }
    }
  }

  // (\d+_)*\d+
  size_t digits(size_t at) const {
    size_t i = at;
    while (i < source_.size() &&
           (is_digit_char(source_[i]) || (i > at && source_[i] == '_' && i + 1 < source_.size() &&
                                          is_digit_char(source_[i + 1])))) {
      ++i;
    }
    return i - at;
  }

  bool lex_number() {
    const size_t whole = digits(at_);
    if (!whole) return false;
    size_t end = at_ + whole;
    bool is_float = false;
    if (at_ == 0 || source_[at_ - 1] != '.') {
      if (source_.substr(end, 1) == "." && digits(end + 1)) {
        end += 1 + digits(end + 1);
        is_float = true;
      }
      if (const char e = end < source_.size() ? source_[end] : '\0'; e == 'e' || e == 'E') {
        const size_t sign = sign_at(end + 1) ? 1 : 0;
        if (const size_t n = digits(end + 1 + sign)) {
          end += 1 + sign + n;
          is_float = true;
        }
      }
    }
    if (is_float)
      add_float(end);
    else
      add_integer();
    return true;
  }

  static std::string without_underscores(std::string_view text) {
    std::string out(text);
    std::erase(out, '_');
    return out;
  }

  void add_float(size_t end) {
    const double d = parse_unbounded(without_underscores(source_.substr(at_, end - at_)));
    add(TokenKind::kNumber, source_.substr(at_, end - at_));
    tokens_.back().number = Value::number(d);
    advance(end - at_);
  }

  // 0b…, 0o…, 0x…, zeros, or a decimal that does not begin with 0; what follows is the next token,
  // as in Jinja2.
  void add_integer() {
    const auto matches = [&](size_t i, int base) {
      const char c = i < source_.size() ? source_[i] : '\0';
      const int digit = is_digit_char(c)       ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : 99;
      return digit < base;
    };
    const auto run = [&](size_t i, int base) {
      while (matches(i, base) || (i < source_.size() && source_[i] == '_' && matches(i + 1, base)))
        ++i;
      return i;
    };
    int base = 10;
    size_t begin = at_;
    size_t end = at_;
    if (source_[at_] == '0') {
      const char c = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
      base = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 10;
      if (base != 10 && run(at_ + 2, base) > at_ + 2) {
        begin = at_ + 2;
        end = run(begin, base);
      } else {
        base = 10;
        end = run(at_, 1);
      }
    } else {
      end = run(at_, 10);
    }
    const std::string text = without_underscores(source_.substr(begin, end - begin));
    int64_t i = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), i, base);
    if (error != std::errc() || stop != text.data() + text.size()) {
      fail_at(line_, format("integer {} does not fit 64 bits", source_.substr(at_, end - at_)));
    }
    add(TokenKind::kNumber, source_.substr(at_, end - at_));
    tokens_.back().number = Value::integer(i);
    advance(end - at_);
  }

  bool lex_name() {
    CodePoint c = decode(source_, at_);
    if (!is_identifier_start(c.value)) return false;
    size_t end = at_;
    while (end < source_.size() && is_identifier_part((c = decode(source_, end)).value))
      end += c.size;
    add(TokenKind::kName, source_.substr(at_, end - at_));
    at_ = end;
    return true;
  }

  bool lex_string() {
    const char quote = source_[at_];
    if (quote != '\'' && quote != '"') return false;
    size_t end = at_ + 1;
    bool escaped = false;
    while (end < source_.size() && source_[end] != quote) {
      const bool backslash = source_[end] == '\\';
      escaped |= backslash;
      end += backslash ? 2 : 1;
    }
    if (end >= source_.size())
      fail_at(line_, format("unexpected char {} at {}", quote == '"' ? "'\"'" : "\"'\"", at_));
    const std::string_view body = source_.substr(at_ + 1, end - at_ - 1);
    if (escaped) {
      strings_.push_back(unescape(body));
      add(TokenKind::kString, strings_.back());
    } else {
      add(TokenKind::kString, body);
    }
    advance(end + 1 - at_);
    return true;
  }

  uint32_t hex(std::string_view body, size_t at, size_t n, char kind) const {
    uint32_t value = 0;
    const std::string_view digits = body.substr(std::min(at, body.size()), n);
    const auto [stop, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() < n || error != std::errc() || stop != digits.data() + n) {
      fail_at(line_, format("truncated \\{} escape in a string", kind));
    }
    return value;
  }

  // Python's unicode_escape codec over the ASCII form of the text, as Jinja2 applies it.
  std::string unescape(std::string_view body) const {
    std::string out;
    for (size_t i = 0; i < body.size(); ++i) {
      if (body[i] != '\\') {
        out += body[i];
        continue;
      }
      const char c = body[++i];
      constexpr std::string_view kFrom = "abfnrtv\\'\"";
      constexpr std::string_view kTo = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t k = kFrom.find(c); k != std::string_view::npos) {
        out += kTo[k];
      } else if (c == '\n') {
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const uint32_t value = hex(body, i + 1, n, c);
        if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
          fail_at(line_, format("\\{} escape in a string is no Unicode character", c));
        }
        encode(value, out);
        i += n;
      } else if (c >= '0' && c <= '7') {
        uint32_t value = 0;
        size_t n = 0;
        for (; n < 3 && i + n < body.size() && body[i + n] >= '0' && body[i + n] <= '7'; ++n) {
          value = value * 8 + static_cast<uint32_t>(body[i + n] - '0');
        }
        encode(value, out);
        i += n - 1;
      } else if (c == 'N') {
        fail_at(line_, "\\N{name} escapes are not supported");
      } else if (static_cast<uint8_t>(c) >= 0x80) {
        // The codec sees "\" followed by "\xe9", and takes the two backslashes for one.
        const CodePoint p = decode(body, i);
        constexpr char kHex[] = "0123456789abcdef";
        const int n = p.value < 0x100 ? 2 : p.value < 0x10000 ? 4 : 8;
        out += n == 2 ? "\\x" : n == 4 ? "\\u" : "\\U";
        for (int shift = (n - 1) * 4; shift >= 0; shift -= 4) out += kHex[(p.value >> shift) & 15];
        i += p.size - 1;
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  void lex_operator(std::string& open) {
    static constexpr std::string_view kOperators[] = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](std::string_view o) { return starts(o); });
    if (op == std::end(kOperators)) {
      std::string shown;
      append_char(shown);
      fail_at(line_, format("unexpected char {} at {}", shown, at_));
    }
    const char c = (*op)[0];
    if (c == '(' || c == '[' || c == '{') {
      open += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) fail_at(line_, format("unexpected '{}'", c));
      if (open.back() != c)
        fail_at(line_, format("unexpected '{}', expected '{}'", c, open.back()));
      open.pop_back();
    }
    add(TokenKind::kOperator, *op);
    at_ += op->size();
  }

  void append_char(std::string& shown) const {
    shown += '\'';
    shown += source_.substr(at_, decode(source_, at_).size);
    shown += '\'';
  }

  std::string_view source_;
  std::deque<std::string>& strings_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starts_ =
      true;  // the last tag ended with a newline, so white space before the next one is an indent
};

}  // namespace

std::string normalize_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

std::vector<Token> tokenize(std::string_view source, std::deque<std::string>& strings) {
  return Lexer(source, strings).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "template data / text";
    case TokenKind::kPrintBegin:
      return "begin of print statement";
    case TokenKind::kPrintEnd:
      return "end of print statement";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kString:
      return "string";
    case TokenKind::kNumber:
      return token.number.is(Type::kFloat) ? "float" : "integer";
    case TokenKind::kName:
    case TokenKind::kOperator:
      return std::string(token.text);
    case TokenKind::kEnd:
      return "end of template";
  }
  return {};
}

}  // namespace moestro::text::jinja
