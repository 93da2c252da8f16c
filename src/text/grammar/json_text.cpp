#include "text/grammar/json_text.h"

#include <algorithm>

#include "base/format.h"

namespace moestro::text {

using Node = GrammarBuilder::Node;

GrammarBuilder::Node json_string_chars(GrammarBuilder& b, const CodePoints& points) {
  constexpr std::string_view kHex = "0123456789abcdef";
  CodePoints plain;
  std::vector<Node> parts;
  for (const auto& [low, high] : normalized(points)) {
    uint32_t next = low;
    for (const uint32_t c : {uint32_t{'"'}, uint32_t{'\\'}}) {
      if (c < low || c > high) continue;
      parts.push_back(b.bytes(c == '"' ? "\\\"" : "\\\\"));
    }
    for (; next <= high && next < 0x20; ++next) {
      const size_t at = std::string_view("\b\t\n\f\r").find(static_cast<char>(next));
      if (at != std::string_view::npos) {
        parts.push_back(b.bytes(std::string("\\") + "btnfr"[at]));
      } else {
        parts.push_back(b.bytes(format("\\u00{}{}", kHex[next >> 4], kHex[next & 15])));
      }
    }
    if (next <= high) plain.emplace_back(next, high);
  }
  // Without the two that are escaped.
  CodePoints rest;
  for (auto [low, high] : plain) {
    for (const uint32_t c : {uint32_t{'"'}, uint32_t{'\\'}}) {
      if (c < low || c > high) continue;
      if (c > low) rest.emplace_back(low, c - 1);
      low = c + 1;
    }
    if (low <= high) rest.emplace_back(low, high);
  }
  if (!rest.empty()) parts.push_back(b.code_points(rest));
  return b.choice(std::move(parts));
}

JsonText::JsonText(GrammarBuilder& b) : b_(b) {
  const auto named = [&](const char* name, Node body) {
    const Node rule = b.rule(name);
    b.define(rule, body);
    return rule;
  };
  const auto set = [&](std::string_view chars) {
    CodePoints points;
    for (const char c : chars) points.emplace_back(c, c);
    return b.code_points(points);
  };
  const Node hex = b.code_points({{'0', '9'}, {'a', 'f'}, {'A', 'F'}});
  const Node no_surrogate = b.choice(
      {b.sequence({b.code_points({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}),
                   b.repeat(hex, 3, 3)}),
       b.sequence({set("dD"), b.byte_range('0', '7'), b.repeat(hex, 2, 2)})});
  const Node escape = b.sequence(
      {b.bytes("\\"), b.choice({set("\"\\/bfnrt"), b.sequence({b.bytes("u"), no_surrogate})})});
  string_char =
      named("JSON character",
            b.choice({b.code_points({{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}}), escape}));
  string =
      named("JSON string",
            b.sequence({b.bytes("\""), b.repeat(string_char, 0, std::nullopt), b.bytes("\"")}));
  space = named("JSON space", b.choice({b.empty(), b.bytes(" "),
                                        b.sequence({b.bytes("\n"), b.repeat(set(" \t"), 0, 20)})}));
  digit_ = b.byte_range('0', '9');
  const Node minus = b.optional(b.bytes("-"));
  const Node natural =
      b.choice({b.bytes("0"), b.sequence({b.byte_range('1', '9'), b.repeat(digit_, 0, 17)})});
  integer = named("JSON integer", b.sequence({minus, natural}));
  fraction_ = b.sequence({b.bytes("."), b.repeat(digit_, 1, 18)});
  const Node exponent = b.sequence({set("eE"), b.optional(set("+-")), b.repeat(digit_, 1, 2)});
  number = named("JSON number",
                 b.sequence({minus, natural, b.optional(fraction_), b.optional(exponent)}));
  value = b.rule("JSON value");
  object = named("JSON object",
                 list("{", "}", b.sequence({string, b.bytes(":"), space, value}), 0, std::nullopt));
  array = named("JSON array", list("[", "]", value, 0, std::nullopt));
  b.define(value, b.choice({object, array, string, number, b.bytes("true"), b.bytes("false"),
                            b.bytes("null")}));
}

Node JsonText::list(std::string_view open, std::string_view close, Node item, uint32_t min,
                    std::optional<uint32_t> max) {
  const Node more = b_.sequence({b_.bytes(","), space, item});
  const uint32_t least = min > 0 ? min - 1 : 0;
  std::optional<uint32_t> most;
  if (max) most = *max > 0 ? *max - 1 : 0;
  Node items = b_.sequence({item, b_.repeat(more, least, most), space});
  if (max && *max == 0) items = b_.empty();
  return b_.sequence(
      {b_.bytes(open), space, min == 0 ? b_.optional(items) : items, b_.bytes(close)});
}

Node JsonText::digits(size_t count) {
  return b_.repeat(digit_, static_cast<uint32_t>(count), static_cast<uint32_t>(count));
}

// Numerals of one length.
Node JsonText::digits_between(std::string_view low, std::string_view high) {
  if (low == high) return b_.bytes(low);
  const char a = low[0], z = high[0];
  const std::string_view low_rest = low.substr(1), high_rest = high.substr(1);
  if (a == z) return b_.sequence({b_.bytes(low.substr(0, 1)), digits_between(low_rest, high_rest)});
  const std::string nines(low_rest.size(), '9'), zeros(low_rest.size(), '0');
  std::vector<Node> parts;
  const auto add = [&](char first, char last, std::string_view from, std::string_view to) {
    if (first > last) return;
    const Node lead = b_.byte_range(static_cast<uint8_t>(first), static_cast<uint8_t>(last));
    const bool all = from == zeros && to == nines;
    parts.push_back(b_.sequence({lead, all ? digits(from.size()) : digits_between(from, to)}));
  };
  add(a, a, low_rest, nines);
  add(static_cast<char>(a + 1), static_cast<char>(z - 1), zeros, nines);
  add(z, z, zeros, high_rest);
  return b_.choice(std::move(parts));
}

Node JsonText::positive_between(uint64_t low, uint64_t high) {
  std::vector<Node> parts;
  uint64_t first = 0, last = 9;  // of this length
  for (;; first = last + 1, last = last * 10 + 9) {
    const uint64_t from = std::max(low, first), to = std::min(high, last);
    if (from <= to) parts.push_back(digits_between(format("{}", from), format("{}", to)));
    if (high <= last) break;
  }
  return b_.choice(std::move(parts));
}

Node JsonText::integer_between(int64_t low, int64_t high) {
  std::vector<Node> parts;
  if (low < 0) {
    const auto from = static_cast<uint64_t>(high < 0 ? -high : 1);
    parts.push_back(
        b_.sequence({b_.bytes("-"), positive_between(from, static_cast<uint64_t>(-low))}));
  }
  if (high >= 0)
    parts.push_back(positive_between(static_cast<uint64_t>(std::max<int64_t>(low, 0)),
                                     static_cast<uint64_t>(high)));
  return b_.choice(std::move(parts));
}

Node JsonText::number_between(int64_t low, int64_t high) {
  const Node zeros = b_.sequence({b_.bytes("."), b_.repeat(b_.bytes("0"), 1, 18)});
  std::vector<Node> parts{b_.sequence({integer_between(low, high), b_.optional(zeros)})};
  // n.f lies between n and n + 1, -n.f between -n - 1 and -n.
  if (high > 0 && std::max<int64_t>(low, 0) <= high - 1)
    parts.push_back(b_.sequence({integer_between(std::max<int64_t>(low, 0), high - 1), fraction_}));
  if (low < 0) {
    const auto from = static_cast<uint64_t>(high < 0 ? -high : 0);
    const auto to = static_cast<uint64_t>(-low - 1);
    if (from <= to)
      parts.push_back(b_.sequence({b_.bytes("-"), positive_between(from, to), fraction_}));
  }
  return b_.choice(std::move(parts));
}

}  // namespace moestro::text
