// JsonText: pieces of JSON text as grammar nodes, for schemas and patterns; each is made once.
// Numbers have at most 18 digits and white space is short, so that a model cannot go on in them for
// ever. Private to text/grammar.
#pragma once
#include <cstdint>

#include "text/grammar/grammar.h"

namespace moestro::text {

// One character of these, as it stands in a JSON string: escaped where it must be, else as itself.
GrammarBuilder::Node json_string_chars(GrammarBuilder& b, const CodePoints& points);

class JsonText {
 public:
  using Node = GrammarBuilder::Node;
  explicit JsonText(GrammarBuilder& b);

  static constexpr int64_t kMaxInteger = 999'999'999'999'999'999;

  Node space, string_char, string, integer, number, value, object, array;
  Node integer_between(int64_t low, int64_t high);  // low <= high, within ±kMaxInteger
  Node number_between(int64_t low, int64_t high);   // without exponents
  // "[" … "]" and "{" … "}" with white space inside; items are separated by commas.
  Node list(std::string_view open, std::string_view close, Node item, uint32_t min,
            std::optional<uint32_t> max);

 private:
  Node digits_between(std::string_view low, std::string_view high);
  Node positive_between(uint64_t low, uint64_t high);
  Node digits(size_t count);

  GrammarBuilder& b_;
  Node digit_, fraction_;
};

}  // namespace moestro::text
