#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "text/grammar/grammar_sources.h"
#include "text/grammar/json_text.h"

namespace moestro::text {
namespace {

using Node = GrammarBuilder::Node;

constexpr uint32_t kMaxRepeat = GrammarSourceLimits::kMaxRepeat;

// A pattern as a node. json: characters are written as in a JSON string.
class RegexReader {
 public:
  RegexReader(GrammarBuilder& b, std::string_view pattern, bool json, bool search)
      : b_(b), text_(pattern), json_(json), search_(search) {}

  Result<Node> read() {
    if (text_.size() > GrammarSourceLimits::kMaxBytes)
      return invalid_argument(format("the regular expression has {} bytes, the limit is {}",
                                     text_.size(), GrammarSourceLimits::kMaxBytes));
    if (!is_valid_utf8(text_)) return error("it is not valid UTF-8");
    MOESTRO_ASSIGN(const Node node, alternatives(0));
    if (at_ != text_.size()) return error("unmatched )");
    return node;
  }

 private:
  Status error(std::string_view what) const {
    return invalid_argument(format("regular expression, byte {}: {}", at_, what));
  }
  bool more() const { return at_ < text_.size(); }
  char peek() const { return text_[at_]; }
  bool take(std::string_view s) {
    if (text_.substr(at_, s.size()) != s) return false;
    at_ += s.size();
    return true;
  }
  uint32_t take_code_point() {
    const auto lead = static_cast<uint8_t>(text_[at_++]);
    const int tail = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    uint32_t c = tail == 0 ? lead : lead & (0x3fu >> tail);
    for (int i = 0; i < tail; ++i) c = c << 6 | (static_cast<uint8_t>(text_[at_++]) & 0x3f);
    return c;
  }
  Node set(const CodePoints& points) const {
    return json_ ? json_string_chars(b_, points) : b_.code_points(points);
  }
  Node anything() const { return b_.repeat(set({{0, 0x10ffff}}), 0, std::nullopt); }

  Result<Node> alternatives(size_t depth) {
    if (depth > GrammarSourceLimits::kMaxDepth) return error("groups are nested too deeply");
    std::vector<Node> choices;
    do {
      MOESTRO_ASSIGN(const Node s, sequence(depth));
      choices.push_back(s);
    } while (take("|"));
    return b_.choice(std::move(choices));
  }

  Result<Node> sequence(size_t depth) {
    std::vector<Node> parts;
    bool from_start = false, to_end = false;
    while (more() && peek() != '|' && peek() != ')') {
      if (take("^") || take("\\A")) {
        if (depth > 0 || !parts.empty()) return error("^ is supported at the beginning only");
        from_start = true;
        continue;
      }
      if (take("$") || take("\\z") || take("\\Z")) {
        if (depth > 0 || (more() && peek() != '|')) return error("$ is supported at the end only");
        to_end = true;
        continue;
      }
      MOESTRO_ASSIGN(Node atom, atom(depth));
      MOESTRO_ASSIGN(atom, quantified(atom));
      parts.push_back(atom);
    }
    if (search_ && depth == 0) {
      if (!from_start) parts.insert(parts.begin(), anything());
      if (!to_end) parts.push_back(anything());
    }
    return b_.sequence(std::move(parts));
  }

  Result<Node> quantified(Node node) {
    while (more()) {
      uint32_t min = 0;
      std::optional<uint32_t> max;
      if (take("*")) {
      } else if (take("+")) {
        min = 1;
      } else if (take("?")) {
        max = 1;
      } else if (peek() == '{' && at_ + 1 < text_.size() && is_digit(text_[at_ + 1])) {
        MOESTRO_TRY(read_counts(min, max));
      } else {
        break;
      }
      // Greedy or not, the same texts match.
      if (!take("?") && take("+")) return error("possessive quantifiers are not supported");
      node = b_.repeat(node, min, max);
    }
    return node;
  }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  Result<uint32_t> number() {
    uint32_t n = 0;
    if (!more() || !is_digit(peek())) return error("a number is missing");
    while (more() && is_digit(peek())) {
      n = n * 10 + static_cast<uint32_t>(text_[at_++] - '0');
      if (n > kMaxRepeat) return error(format("a repetition may count to {}", kMaxRepeat));
    }
    return n;
  }
  Status read_counts(uint32_t& min, std::optional<uint32_t>& max) {
    take("{");
    MOESTRO_ASSIGN(min, number());
    max = min;
    if (take(",")) {
      max.reset();
      if (more() && is_digit(peek())) {
        MOESTRO_ASSIGN(max, number());
        if (*max < min) return error("the counts of a repetition are the wrong way round");
      }
    }
    if (!take("}")) return error("} is missing");
    return {};
  }

  Result<Node> atom(size_t depth) {
    if (take("(")) {
      if (take("?")) {
        if (take(":")) {
        } else if (take("P<") ||
                   (text_.substr(at_, 2) != "<=" && text_.substr(at_, 2) != "<!" && take("<"))) {
          const size_t end = text_.find('>', at_);
          if (end == std::string_view::npos) return error("a group's name has no end");
          at_ = end + 1;
        } else {
          return error("look-around, back-references and inline flags are not supported");
        }
      }
      MOESTRO_ASSIGN(const Node inner, alternatives(depth + 1));
      if (!take(")")) return error(") is missing");
      return inner;
    }
    if (peek() == '[') {
      MOESTRO_ASSIGN(const CodePoints points, char_class());
      return set(points);
    }
    if (take(".")) return set(complement({{'\n', '\n'}}));
    if (peek() == '*' || peek() == '+' || peek() == '?') return error("nothing to repeat");
    if (take("\\")) {
      CodePoints points;
      MOESTRO_TRY(escape(points, false));
      return set(points);
    }
    const uint32_t c = take_code_point();
    return set({{c, c}});
  }

  // Behind the backslash.
  Status escape(CodePoints& out, bool in_class) {
    if (!more()) return error("\\ at the end");
    const uint32_t c = take_code_point();
    const CodePoints digit{{'0', '9'}}, word{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
        space{{'\t', '\r'}, {' ', ' '}};
    const auto one = [&](uint32_t p) { out.emplace_back(p, p); };
    const auto all = [&](const CodePoints& p) { out.insert(out.end(), p.begin(), p.end()); };
    switch (c) {
      case 'd':
        return all(digit), Status();
      case 'D':
        return all(complement(digit)), Status();
      case 'w':
        return all(word), Status();
      case 'W':
        return all(complement(word)), Status();
      case 's':
        return all(space), Status();
      case 'S':
        return all(complement(space)), Status();
      case 'n':
        return one('\n'), Status();
      case 't':
        return one('\t'), Status();
      case 'r':
        return one('\r'), Status();
      case 'f':
        return one('\f'), Status();
      case 'v':
        return one('\v'), Status();
      case '0':
        return one(0), Status();
      case 'x':
        return hex(2, out);
      case 'u':
        return hex(4, out);
      case 'U':
        return hex(8, out);
      default:
        if (in_class && c == 'b') return one('\b'), Status();
        if ((c >= '1' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
          return error(format("\\{} is not supported", static_cast<char>(c)));
        return one(c), Status();
    }
  }
  Status hex(size_t digits, CodePoints& out) {
    uint32_t c = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char d = more() ? text_[at_++] : '?';
      const auto at = std::string_view("0123456789abcdef")
                          .find(d >= 'A' && d <= 'F' ? static_cast<char>(d + 32) : d);
      if (at == std::string_view::npos) return error("hexadecimal digits are missing");
      c = c << 4 | static_cast<uint32_t>(at);
    }
    if (c > 0x10ffff) return error("no such character");
    out.emplace_back(c, c);
    return {};
  }

  Result<CodePoints> char_class() {
    take("[");
    const bool negated = take("^");
    CodePoints points;
    bool first = true;
    while (more() && (first || peek() != ']')) {
      first = false;
      CodePoints low;
      MOESTRO_TRY(class_item(low));
      const bool range = at_ + 1 < text_.size() && peek() == '-' && text_[at_ + 1] != ']';
      if (range && low.size() == 1 && low[0].first == low[0].second) {
        ++at_;
        CodePoints high;
        MOESTRO_TRY(class_item(high));
        if (high.size() != 1 || high[0].first != high[0].second || high[0].first < low[0].first)
          return error("a range of a class is the wrong way round");
        low[0].second = high[0].first;
      }
      points.insert(points.end(), low.begin(), low.end());
    }
    if (!take("]")) return error("] is missing");
    points = negated ? complement(points) : normalized(std::move(points));
    if (points.empty()) return error("a class holds no character");
    return points;
  }
  Status class_item(CodePoints& out) {
    if (take("[:")) return error("POSIX classes are not supported");
    if (take("\\")) return escape(out, true);
    if (!more()) return error("] is missing");
    const uint32_t c = take_code_point();
    out.emplace_back(c, c);
    return {};
  }

  GrammarBuilder& b_;
  const std::string_view text_;
  const bool json_, search_;
  size_t at_ = 0;
};

}  // namespace

Result<Node> add_regex(GrammarBuilder& b, std::string_view pattern) {
  return RegexReader(b, pattern, false, false).read();
}
Result<Node> add_json_string_pattern(GrammarBuilder& b, std::string_view pattern) {
  return RegexReader(b, pattern, true, true).read();
}
Result<Node> add_choices(GrammarBuilder& b, std::span<const std::string> choices) {
  if (choices.empty()) return invalid_argument("choice needs at least one text");
  std::vector<Node> nodes;
  for (const std::string& c : choices) {
    if (c.empty()) return invalid_argument("choice: a text is empty");
    nodes.push_back(b.bytes(c));
  }
  return b.choice(std::move(nodes));
}

Node add_text_before(GrammarBuilder& b, std::string_view end, Node body) {
  // A rule for each count of bytes of `end` that the text ends with: Knuth, Morris and Pratt's
  // automaton.
  const size_t n = end.size();
  std::vector<Node> rules;
  for (size_t i = 0; i < n; ++i) rules.push_back(b.rule(format("text before {}", end)));
  const auto after = [&](size_t i, char c) {  // how much of end the text ends with then
    std::string text(end.substr(0, i));
    text += c;
    size_t k = std::min(text.size(), n);
    while (k > 0 && std::string_view(text).substr(text.size() - k) != end.substr(0, k)) --k;
    return k;
  };
  const Node gap = b.choice({b.bytes(""), b.bytes("\n"), b.bytes("\n\n")});
  for (size_t i = 0; i < n; ++i) {
    std::vector<Node> branches;
    for (int c = 0; c < 256;) {
      const size_t k = after(i, static_cast<char>(c));
      int last = c;
      while (last < 255 && after(i, static_cast<char>(last + 1)) == k) ++last;
      // 0xff begins an added token (token_trie.h); none but `end` itself is text.
      if (c == 0xff && k == 0) break;
      if (last == 0xff && k == 0) last = 0xfe;
      const Node byte = b.byte_range(static_cast<uint8_t>(c), static_cast<uint8_t>(last));
      branches.push_back(k == n ? b.sequence({byte, gap, body}) : b.sequence({byte, rules[k]}));
      c = last + 1;
    }
    b.define(rules[i], b.choice(std::move(branches)));
  }
  return rules[0];
}

}  // namespace moestro::text
