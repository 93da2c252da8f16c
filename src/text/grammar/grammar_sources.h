// Grammars from what requests bring: regular expressions, lists of choices, EBNF, JSON schemas. All
// refuse what they cannot hold to exactly, naming the construct: an output is valid or not made.
// Called on the text pool.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "text/grammar/grammar.h"

namespace moestro::text {

struct GrammarSourceLimits {
  static constexpr size_t kMaxBytes = 256 << 10;   // of a schema's text, a regex, a grammar
  static constexpr size_t kMaxDepth = 128;         // nested groups
  static constexpr uint32_t kMaxRepeat = 100'000;  // counted repetitions
};

// The whole text matches. Syntax: the common ground of Python, ECMAScript and PCRE: classes,
// groups, alternatives, quantifiers, \d \w \s, anchors at the ends. No look-around, no
// back-references, no \b.
Result<GrammarBuilder::Node> add_regex(GrammarBuilder& b, std::string_view pattern);
// The inside of a JSON string whose value the pattern is found in (JSON Schema's "pattern").
Result<GrammarBuilder::Node> add_json_string_pattern(GrammarBuilder& b, std::string_view pattern);

Result<GrammarBuilder::Node> add_choices(GrammarBuilder& b, std::span<const std::string> choices);

// name ::= "text" [a-z] (a | b)* rule{2,3} # comment; the root is the rule "root". As in llama.cpp
// and vLLM; {m,n}, escapes \n \t \r \\ \" \xHH \uHHHH \UHHHHHHHH.
Result<GrammarBuilder::Node> add_ebnf(GrammarBuilder& b, std::string_view source);

// A value that the schema (draft 2020-12 and 7) accepts. Properties come in the schema's order.
// docs/structured-output.md lists the keywords.
Result<GrammarBuilder::Node> add_json_schema(GrammarBuilder& b, const json::value& schema);
// Any JSON object.
GrammarBuilder::Node add_json_object(GrammarBuilder& b);

// Any text up to and with `end`, once, then white space, then `body`: reasoning before an answer.
GrammarBuilder::Node add_text_before(GrammarBuilder& b, std::string_view end,
                                     GrammarBuilder::Node body);

}  // namespace moestro::text
