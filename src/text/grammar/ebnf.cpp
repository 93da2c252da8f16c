#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/format.h"
#include "base/strings.h"
#include "text/grammar/grammar_sources.h"

namespace moestro::text {
namespace {

using Node = GrammarBuilder::Node;

constexpr uint32_t kMaxRepeat = GrammarSourceLimits::kMaxRepeat;

// Reads EBNF; classes and counts as in regular expressions.
class EbnfReader {
 public:
  EbnfReader(GrammarBuilder& b, std::string_view source) : b_(b), text_(source) {}

  Result<Node> read() {
    if (text_.size() > GrammarSourceLimits::kMaxBytes)
      return invalid_argument(format("the grammar has {} bytes, the limit is {}", text_.size(),
                                     GrammarSourceLimits::kMaxBytes));
    if (!is_valid_utf8(text_)) return error("it is not valid UTF-8");
    for (skip(); at_ < text_.size(); skip()) {
      const std::string name = take_name();
      skip();
      if (name.empty() || text_.substr(at_, 3) != "::=") return error("expected name ::=");
      at_ += 3;
      Rule& r = rule(name);
      if (std::exchange(r.defined, true)) return error(format("rule {} is defined twice", name));
      const Node node = r.node;
      MOESTRO_ASSIGN(const Node body, alternatives(0));
      b_.define(node, body);
    }
    for (const auto& r : rules_)
      if (!r.defined) return invalid_argument(format("grammar: rule {} is not defined", r.name));
    for (const auto& r : rules_)
      if (r.name == "root") return r.node;
    return invalid_argument("grammar: there is no rule root");
  }

 private:
  struct Rule {
    std::string name;
    Node node;
    bool defined = false;
  };
  Rule& rule(const std::string& name) {
    const auto [at, fresh] = index_.try_emplace(name, rules_.size());
    if (fresh) rules_.push_back(Rule{name, b_.rule(name.substr(0, 100))});
    return rules_[at->second];
  }
  Status error(std::string_view what) const {
    const auto line =
        1 + std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at_), '\n');
    return invalid_argument(format("grammar, line {}: {}", line, what));
  }
  void skip() {  // white space and comments
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at_;
      } else {
        return;
      }
    }
  }
  static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  }
  std::string take_name() {
    const size_t begin = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  bool at_rule_start() {  // a name and ::= : the next rule
    const size_t begin = at_;
    take_name();
    skip();
    const bool yes = text_.substr(at_, 3) == "::=";
    at_ = begin;
    return yes;
  }

  Result<Node> alternatives(size_t depth) {
    if (depth > GrammarSourceLimits::kMaxDepth) return error("groups are nested too deeply");
    std::vector<Node> choices;
    for (;;) {
      MOESTRO_ASSIGN(const Node s, sequence(depth));
      choices.push_back(s);
      skip();
      if (at_ >= text_.size() || text_[at_] != '|') break;
      ++at_;
    }
    return b_.choice(std::move(choices));
  }

  Result<Node> sequence(size_t depth) {
    std::vector<Node> parts;
    for (;;) {
      skip();
      if (at_ >= text_.size() || text_[at_] == '|' || text_[at_] == ')' || at_rule_start()) break;
      MOESTRO_ASSIGN(const Node part, element(depth));
      parts.push_back(part);
    }
    return b_.sequence(std::move(parts));
  }

  Result<Node> element(size_t depth) {
    Node node;
    const char c = text_[at_];
    const size_t begin = at_;
    if (c == '"') {
      MOESTRO_ASSIGN(node, literal());
    } else if (c == '(') {
      ++at_;
      MOESTRO_ASSIGN(node, alternatives(depth + 1));
      skip();
      if (at_ >= text_.size() || text_[at_] != ')') return error(") is missing");
      ++at_;
    } else if (c == '[') {
      at_ = class_end();
      const Result<Node> r = add_regex(b_, text_.substr(begin, at_ - begin));
      if (!r.ok()) return r.status().with(format("grammar, class at byte {}", begin));
      node = *r;
    } else if (c == '.') {
      ++at_;
      node = b_.code_points(complement({{'\n', '\n'}}));
    } else if (is_name_char(c)) {
      node = rule(take_name()).node;
    } else {
      return error(format("unexpected {}", json::quote(text_.substr(at_, 1))));
    }
    return repeated(node);
  }

  size_t class_end() const {
    size_t i = at_ + 1;
    if (i < text_.size() && text_[i] == '^') ++i;
    for (bool first = true; i < text_.size() && (first || text_[i] != ']'); ++i, first = false)
      if (text_[i] == '\\') ++i;
    return std::min(i + 1, text_.size());
  }

  Result<Node> repeated(Node node) {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '*' || c == '+' || c == '?') {
        ++at_;
        node =
            b_.repeat(node, c == '+' ? 1 : 0, c == '?' ? std::optional<uint32_t>(1) : std::nullopt);
      } else if (c == '{') {
        const size_t end = text_.find('}', at_);
        if (end == std::string_view::npos) return error("} is missing");
        const std::string_view inner = text_.substr(at_ + 1, end - at_ - 1);
        const size_t comma = inner.find(',');
        const auto low = parse_int(trim(inner.substr(0, comma)));
        const std::string_view behind =
            comma == std::string_view::npos ? std::string_view() : trim(inner.substr(comma + 1));
        const auto high = comma == std::string_view::npos ? low
                          : behind.empty()                ? std::optional<int64_t>(-1)
                                                          : parse_int(behind);
        if (!low || !high || *low < 0 || *low > kMaxRepeat || *high > kMaxRepeat ||
            (*high >= 0 && *high < *low))
          return error(format("{{m,n}} needs counts up to {}", kMaxRepeat));
        at_ = end + 1;
        node = b_.repeat(
            node, static_cast<uint32_t>(*low),
            *high < 0 ? std::nullopt : std::optional<uint32_t>(static_cast<uint32_t>(*high)));
      } else {
        break;
      }
    }
    return node;
  }

  // A literal is a regular expression without anything special, but for its escapes.
  Result<Node> literal() {
    std::string pattern;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      const char c = text_[at_];
      if (c == '\n') return error("a literal ends with its line");
      if (c == '\\' && at_ + 1 < text_.size()) {
        pattern += c;
        pattern += text_[++at_];
      } else {
        if (std::string_view("^$.[]()*+?{}|").find(c) != std::string_view::npos) pattern += '\\';
        pattern += c;
      }
    }
    if (at_ >= text_.size()) return error("a literal has no end");
    ++at_;
    Result<Node> r = add_regex(b_, pattern);
    if (!r.ok()) return error(r.status().message());
    return r;
  }

  GrammarBuilder& b_;
  const std::string_view text_;
  size_t at_ = 0;
  std::vector<Rule> rules_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace

Result<Node> add_ebnf(GrammarBuilder& b, std::string_view source) {
  return EbnfReader(b, source).read();
}

}  // namespace moestro::text
