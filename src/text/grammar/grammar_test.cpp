// Grammars of every source: valid texts are accepted byte by byte, invalid ones refused, random
// walks through token masks end in valid texts, and what cannot be kept exactly is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/format.h"
#include "text/grammar/grammar_sources.h"
#include "text/grammar/matcher.h"

namespace moestro::text {
namespace {

using Node = GrammarBuilder::Node;
using testing::HasSubstr;

Result<std::shared_ptr<const CompiledGrammar>> compile(GrammarBuilder& b, Result<Node> root) {
  if (!root.ok()) return root.status();
  return b.compile(*root);
}
Result<std::shared_ptr<const CompiledGrammar>> regex(std::string_view pattern) {
  GrammarBuilder b;
  return compile(b, add_regex(b, pattern));
}
Result<std::shared_ptr<const CompiledGrammar>> ebnf(std::string_view source) {
  GrammarBuilder b;
  return compile(b, add_ebnf(b, source));
}
Result<std::shared_ptr<const CompiledGrammar>> schema(std::string_view text) {
  GrammarBuilder b;
  const Result<json::value> v = json::parse(text);
  if (!v.ok()) return v.status();
  return compile(b, add_json_schema(b, *v));
}

bool matches(const std::shared_ptr<const CompiledGrammar>& grammar, std::string_view text) {
  GrammarMatcher m(grammar);
  for (const char c : text)
    if (!m.accept(std::string_view(&c, 1))) return false;
  return m.accepting();
}

struct Case {
  const char* grammar;
  std::vector<const char*> good, bad;
};

template <class Compile>
void check(const std::vector<Case>& cases, Compile compile) {
  for (const Case& c : cases) {
    const auto g = compile(c.grammar);
    ASSERT_TRUE(g.ok()) << c.grammar << ": " << g.status().message();
    for (const char* text : c.good) EXPECT_TRUE(matches(*g, text)) << c.grammar << " and " << text;
    for (const char* text : c.bad) EXPECT_FALSE(matches(*g, text)) << c.grammar << " and " << text;
  }
}

TEST(Grammar, Regex) {
  check({{"a+b?", {"a", "aab"}, {"", "b", "abb"}},
         {"^(foo|bar){2}$", {"foobar", "barbar"}, {"foo", "foobarfoo"}},
         {"[a-c\\d_]{2,3}", {"a1", "__9"}, {"a", "d1", "a1b2"}},
         {"[^\\x00-\\x7f]", {"ä", "€", "😀"}, {"a", "ää"}},
         {".*", {"", "x y", "ö"}, {"a\nb"}},
         {"(?:a|b)*?c", {"c", "abac"}, {"ab"}},
         {"(?P<y>\\d{4})-\\d\\d", {"2024-12"}, {"2024-1"}},
         {"[äöü]+", {"äü"}, {"a"}},
         {"\\u00e4\\.\\*", {"ä.*"}, {"ä"}},
         {"[]a]", {"]", "a"}, {"b"}},
         {"(a|)*b", {"b", "aab"}, {"a"}},
         {"x{0,2}", {"", "xx"}, {"xxx"}},
         {"a{2}{3}", {"aaaaaa"}, {"aaaaa"}}},
        regex);
}

TEST(Grammar, RegexRefusals) {
  for (const auto& [pattern, words] :
       std::vector<std::pair<const char*, const char*>>{{"(a", ") is missing"},
                                                        {"a)", "unmatched"},
                                                        {"[a", "] is missing"},
                                                        {"(?=a)b", "look-around"},
                                                        {"(a)\\1", "\\1"},
                                                        {"\\bfoo", "\\b"},
                                                        {"*a", "nothing to repeat"},
                                                        {"a{3,2}", "wrong way"},
                                                        {"a{1000000}", "count to"},
                                                        {"a^b", "beginning"},
                                                        {"a\\", "at the end"},
                                                        {"[b-a]", "wrong way"},
                                                        {"((a{1,1000}){1,1000}){1,9}", "states"}}) {
    const auto g = regex(pattern);
    ASSERT_FALSE(g.ok()) << pattern;
    EXPECT_THAT(g.status().message(), HasSubstr(words)) << pattern;
  }
  EXPECT_THAT(regex(std::string(300, '(') + "a" + std::string(300, ')')).status().message(),
              HasSubstr("nested"));
}

TEST(Grammar, Ebnf) {
  check({{"root ::= \"yes\" | \"no\" # comment\n", {"yes", "no"}, {"maybe", ""}},
         {"root ::= expr\nexpr ::= term (\" + \" term)*\nterm ::= [0-9]+ | \"(\" expr \")\"",
          {"1", "1 + (22 + 3)"},
          {"1 +", "(1"}},
         {"root ::= item{2,3}\nitem ::= \"a\\n\"\n  | \"\\x41\" [^\\]x]?",
          {"a\na\n", "AyA"},
          {"A", "A]"}},
         {"root::=a-b b?\na-b::=\"\\\"\"\nb::=\"*[\"", {"\"", "\"*["}, {"*["}}},
        ebnf);
  for (const auto& [source, words] : std::vector<std::pair<const char*, const char*>>{
           {"root ::= x", "x is not defined"},
           {"a ::= \"x\"", "no rule root"},
           {"root ::= root \"a\" | \"b\"", "left-recursive"},
           {"root ::= a root\na ::= \"\"", "never ends"},
           {"root ::= a root | \"x\"\na ::= \"\"", "left-recursive"},
           {"root ::= \"a\" root", "never ends"},
           {"root ::= \"a", "no end"},
           {"root ::= (\"a\"", ") is missing"},
           {"root = \"a\"", "::="},
           {"root ::= \"a\"\nroot ::= \"b\"", "twice"}}) {
    const auto g = ebnf(source);
    ASSERT_FALSE(g.ok()) << source;
    EXPECT_THAT(g.status().message(), HasSubstr(words)) << source;
  }
}

const std::vector<Case>& schema_cases() {
  static const std::vector<Case> kCases = {
      {"true", {"1", "\"a\"", "{\"a\":[null,{}]}", "[]"}, {"", "{", "tru", "nul", "01"}},
      {"{}", {"-0.5e+3", "[1, 2]", "\"\\u00e4\\n\""}, {"\"\\ud800\"", "\"a\nb\"", "1.", "+1"}},
      {R"({"type":"integer"})", {"0", "-12", "123456789"}, {"1.5", "01", "-", "a"}},
      {R"({"type":"integer","minimum":-3,"maximum":12})",
       {"-3", "-1", "0", "9", "10", "12"},
       {"-4", "13", "-0", "120", "-10"}},
      {R"({"type":"integer","exclusiveMinimum":99,"maximum":1234})",
       {"100", "999", "1000", "1234"},
       {"99", "1235", "2000", "0"}},
      {R"({"type":"number","minimum":0,"maximum":1})",
       {"0", "1", "0.25", "1.0", "0.0"},
       {"-0.1", "1.1", "2"}},
      {R"({"type":"number","minimum":-1.5})", {"-1", "-0.5", "0.7", "15.25"}, {"-1.6", "-2"}},
      {R"({"type":["string","null"]})", {"null", "\"x\""}, {"1"}},
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {"\"ab\"", "\"äöü\"", "\"\\n\\n\""},
       {"\"a\"", "\"abcd\""}},
      {R"({"type":"string","pattern":"^[a-z]+\"?$"})",
       {"\"abc\"", "\"a\\\"\""},
       {"\"A\"", "\"a\"\""}},
      {R"({"type":"string","pattern":"b"})", {"\"abc\"", "\"b\""}, {"\"ac\""}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-28\""},
       {"\"2024-02-30\"", "\"2024-13-01\""}},
      {R"({"enum":["a",1,null,{"x":[1]}]})", {"\"a\"", "1", "null", "{\"x\":[1]}"}, {"\"b\"", "2"}},
      {R"({"const":"ä\"b"})", {"\"ä\\\"b\""}, {"\"a\""}},
      {R"({"const":null})", {"null"}, {"0"}},
      {R"({"type":"object"})",
       {"{}", "{\"a\":1}", "{ \"a\": {}, \"b\": [] }"},
       {"[]", "{\"a\"}", "{,}"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"null"}},"required":["b"]})",
       {"{\"b\":\"\"}", "{\"a\": 1, \"b\": \"x\"}",
        "{\n  \"a\": 1,\n  \"b\": \"x\",\n  \"c\": null\n}", "{\"b\":\"\",\"c\":null}"},
       {"{}", "{\"a\":1}", "{\"b\":1}", "{\"b\":\"\",\"d\":1}", "{\"b\":\"\",}", "{,\"b\":\"\"}",
        "{\"a\":1 \"b\":\"\"}"}},
      {R"({"type":"object","properties":{"ab":{"type":"integer"},"ä":{"type":"null"}},"additionalProperties":{"type":"boolean"}})",
       {"{}", "{\"ab\":1}", "{\"ab\":1,\"a\":true,\"abc\":false,\"\":true}",
        "{\"x\":true,\"ö\":false}"},
       {"{\"ab\":true}", "{\"x\":true,\"ab\":true}", "{\"ä\":true}", "{\"x\":1}",
        "{\"\\u0061b\":true}"}},
      {R"({"type":"object","additionalProperties":false})", {"{}", "{ }"}, {"{\"a\":1}"}},
      {R"({"type":"object","required":["x"]})", {"{\"x\":[1]}"}, {"{}", "{\"y\":1}"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
       {"[1]", "[1,2,3]", "[1, 2]", "[\n  1,\n  2\n]"},
       {"[]", "[1,2,3,4]", "[\"a\"]", "[1,]", "[1 2]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})",
       {"[]", "[1]", "[1,\"a\"]"},
       {"[\"a\"]", "[1,\"a\",2]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"null"},"minItems":2,"maxItems":3})",
       {"[1,null]", "[1, null, null]"},
       {"[1]", "[1,null,null,null]", "[1,2]"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]})",
       {"5", "\"a\""},
       {"\"ab\"", "null"}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k","x"]},
                   {"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]})",
       {"{\"k\":\"a\",\"x\":1}", "{\"k\":\"b\"}"},
       {"{\"k\":\"a\"}", "{\"k\":\"c\"}"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},
                   {"properties":{"b":{"type":"integer"}},"required":["b"]}]})",
       {"{\"a\":1,\"b\":2}"},
       {"{\"a\":1}", "{}"}},
      {R"({"$ref":"#/$defs/list","$defs":{"list":{"anyOf":[{"type":"null"},{"type":"object",
          "properties":{"next":{"$ref":"#/$defs/list"}},"required":["next"]}]}}})",
       {"null", "{\"next\":null}", "{\"next\":{\"next\":{\"next\":null}}}"},
       {"{}", "{\"next\":1}"}},
      {R"({"type":"object","properties":{"a":{"$ref":"#/definitions/x~1y","minimum":3}},"required":["a"],
          "definitions":{"x/y":{"type":"integer","maximum":4}}})",
       {"{\"a\":3}", "{\"a\":4}"},
       {"{\"a\":2}", "{\"a\":5}"}},
      {R"({"type":"object","properties":{"n":{"type":"integer","default":1,"title":"N","examples":[1]}},"required":["n"],"title":"T"})",
       {"{\"n\":1}"},
       {"{}"}},
      {R"({"minimum":5})", {"5", "17"}, {"4"}},
  };
  return kCases;
}

TEST(Grammar, JsonSchema) { check(schema_cases(), schema); }

TEST(Grammar, JsonSchemaRefusals) {
  for (
      const auto& [text, words] : std::vector<std::pair<const char*, const char*>>{
          {R"({"not":{"type":"string"}})", "not is not supported"},
          {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
          {R"({"type":"integer","multipleOf":5})", "multipleOf"},
          {R"({"type":"object","patternProperties":{"^x":{}}})", "patternProperties"},
          {R"({"if":{"type":"string"}})", "if is not supported"},
          {R"({"type":"text"})", "no type"},
          {R"({"$ref":"http://x/y"})", "only references into"},
          {R"({"$ref":"#/$defs/x"})", "points nowhere"},
          {R"({"$ref":"#"})", "never ends"},
          {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "never ends"},
          {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "oneOf"},
          {R"({"type":"integer","minimum":3,"maximum":2})", "no integer"},
          {R"({"allOf":[{"type":"string"},{"type":"integer"}]})", "contradict"},
          {R"({"type":"string","pattern":"a","minLength":3})", "pattern together"},
          {"{\"type\":\"string\",\"pattern\":\"(?!a)\"}", "look-around"},
          {R"({"type":"object","properties":{},"required":["a"],"additionalProperties":false})",
           "required"},
          {R"({"type":"array","items":{"type":"array","items":{"type":"string","minLength":90000},"minItems":90},"minItems":90})",
           "states"},
          {R"({"allOf":[{"$ref":"#"}]})", "circle"},
          {R"({"allOf":[{"$ref":"#/d/a"},{"$ref":"#/d/a"}],"d":{"a":{"allOf":[{"$ref":"#/d/a"},{"$ref":"#/d/a"}]}}})",
           "parts"},
          {R"(3)", "must be an object"},
          {R"({"properties":{"a":false},"required":["a"]})", "nothing"}}) {
    const auto g = schema(text);
    ASSERT_FALSE(g.ok()) << text;
    EXPECT_THAT(g.status().message(), HasSubstr(words)) << text;
  }
}

// A text drawn byte by byte, with a liking for bytes that end things.
std::string random_text(const std::shared_ptr<const CompiledGrammar>& grammar,
                        std::mt19937& random) {
  GrammarMatcher m(grammar);
  std::string text;
  while (text.size() < 4000) {
    if (m.accepting() && (m.complete() || random() % 3 == 0)) return text;
    std::vector<uint8_t> bytes, good;
    for (int c = 0; c < 256; ++c)
      if (m.step(m.state(), static_cast<uint8_t>(c)) != GrammarMatcher::kDead)
        bytes.push_back(static_cast<uint8_t>(c));
    EXPECT_FALSE(bytes.empty()) << "a dead end after " << text;
    if (bytes.empty()) return text;
    for (const uint8_t c : bytes)
      if (c == '"' || c == '}' || c == ']') good.push_back(c);
    const auto& from = !good.empty() && random() % 3 != 0 ? good : bytes;
    const char c = static_cast<char>(from[random() % from.size()]);
    EXPECT_TRUE(m.accept(std::string_view(&c, 1)));
    text += c;
    m.trim();
  }
  return {};
}

TEST(Grammar, RandomWalksGiveJson) {
  std::mt19937 random(5);
  int64_t finished = 0;
  for (const Case& c : schema_cases()) {
    const auto g = schema(c.grammar);
    ASSERT_TRUE(g.ok());
    for (int i = 0; i < 20; ++i) {
      const std::string text = random_text(*g, random);
      if (text.empty()) continue;
      ++finished;
      // Two members of one name are the one thing that grammars of open objects allow and our own
      // parser does not.
      const auto v = json::parse(text);
      EXPECT_TRUE(v.ok() || v.status().message().find("dupl") != std::string::npos ||
                  text.find("\"\":") != text.rfind("\"\":"))
          << c.grammar << "\n"
          << text << "\n"
          << v.status().message();
    }
  }
  EXPECT_GT(finished, 400);
}

TEST(Grammar, TextBefore) {
  GrammarBuilder b;
  const auto g = b.compile(add_text_before(b, "</t></t>x", b.bytes("yes")));
  ASSERT_TRUE(g.ok());
  EXPECT_TRUE(matches(*g, "</t></t></t>xyes"));
  EXPECT_TRUE(matches(*g, "any </t text</t></t>x\n\nyes"));
  EXPECT_FALSE(matches(*g, "any </t></t>xno"));
  EXPECT_FALSE(matches(*g, "any"));
}

TEST(Grammar, DeepNestingStaysCheap) {
  const auto g = schema("{}");
  ASSERT_TRUE(g.ok());
  GrammarMatcher m(*g);
  for (int i = 0; i < 20000; ++i) {
    ASSERT_TRUE(m.accept("["));
    m.trim();
  }
  for (int i = 0; i < 20000; ++i) ASSERT_TRUE(m.accept("]"));
  EXPECT_TRUE(m.accepting() && m.complete());
}

TEST(Grammar, PathologicalPatternsMeetTheBudget) {
  const auto g = regex("(a{0,200}){0,200}b");
  ASSERT_TRUE(g.ok()) << g.status().message();
  GrammarMatcher m(*g);
  for (int i = 0; i < 50 && m.accept("a"); ++i) m.trim();
  EXPECT_TRUE(m.accept("b") || m.overflowed());
}

}  // namespace
}  // namespace moestro::text
