// Every format of reference/models.md §7: what a line becomes, and that the result is the same for
// every way of cutting it, with tags as text and as tokens, whole, truncated and damaged.
#include "text/parsers/output_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/format.h"
#include "text/parsers/parser_names.h"

namespace moestro::text {
namespace {

using Kind = OutputEvent::Kind;
using testing::HasSubstr;

struct Line {
  const char* name;
  const char* reasoning;
  const char* tools;
  ReasoningStart start;
  std::string text;
  std::string expected;  // R[…] reasoning, C[…] content, name#id(…) a call
};

std::vector<ToolSpec> weather_tools() {
  const auto schema = json::parse(
      R"({"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"},
          "exact":{"type":"boolean"},"tags":{"type":"array"},"note":{"anyOf":[{"type":"string"},{"type":"null"}]},
          "scale":{"type":["number","null"]},"where":{"type":"object"}}})");
  return {{"get_weather", *schema}, {"now", nullptr}};
}

const std::vector<Line>& lines() {
  constexpr auto kWait = ReasoningStart::kWait, kInside = ReasoningStart::kInside,
                 kOutside = ReasoningStart::kOutside;
  static const std::vector<Line> kLines = {
      // GLM.
      {"glm45", "glm45", "glm45", kWait,
       "\n<think>\nI need the weather.\n</think>\n\nLet me look.\n<tool_call>get_weather\n"
       "<arg_key>city</arg_key>\n<arg_value>Zürich "
       "\"west\"\n2</arg_value>\n<arg_key>days</arg_key>\n"
       "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
       R"(R[I need the weather.]C[Let me look.
]get_weather({"city": "Zürich \"west\"\n2", "days": 3})now({}))"},
      {"glm47", "glm47", "glm47", kInside,
       "Hm.</think><tool_call>get_weather<arg_key>exact</arg_key><arg_value>true</arg_value>"
       "<arg_key>tags</arg_key><arg_value>[1, \"a\"]</arg_value><arg_key>note</arg_key>"
       "<arg_value>null</arg_value><arg_key>other</arg_key><arg_value>7.5</arg_value></tool_call>",
       R"(R[Hm.]get_weather({"exact": true, "tags": [1, "a"], "note": null, "other": 7.5}))"},
      {"glm ignores a second opening tag", "glm45", "glm45", kInside, "<think>\nA\n</think>\nB",
       "R[A]C[B]"},
      {"glm typed values that are none", "glm45", "glm45", kOutside,
       "<tool_call>get_weather<arg_key>days</arg_key><arg_value>many</arg_value>"
       "<arg_key>scale</arg_key><arg_value>2</arg_value></tool_call>",
       R"(get_weather({"days": "many", "scale": 2}))"},
      {"glm call inside reasoning", "glm45", "glm45", kInside,
       "Let me call.\n<tool_call>now</tool_call>", "R[Let me call.]now({})"},
      {"glm unknown function", "glm45", "glm45", kOutside, "A <tool_call>rm</tool_call> B",
       "C[A <tool_call>rm</tool_call> B]"},
      {"glm empty tag", "glm45", "glm45", kOutside, "x<tool_call></tool_call>",
       "C[x<tool_call></tool_call>]"},
      {"glm key without value", "glm45", "glm45", kOutside,
       "<tool_call>get_weather<arg_key>city</tool_call>",
       "get_weather()C[<arg_key>city]get_weather+({})"},
      {"glm not closed", "glm45", "glm45", kOutside,
       "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Rome",
       R"(get_weather({"city": "Rome"}))"},
      {"no reasoning written", "glm45", "glm45", kWait, "  Hello", "C[  Hello]"},
      {"reasoning without tools", "qwen3", "", kWait, "<think>\nA <tool_call>\n</think>\n\nB\n",
       "R[A <tool_call>]C[B\n]"},
      {"reasoning that never ends", "deepseek_r1", "", kInside, "A\nB\n", "R[A\nB]"},
      // DeepSeek.
      {"deepseek_v3", "deepseek_r1", "deepseek_v3", kInside,
       "Think.\n</"
       "think>\n\nSure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_"
       "weather\n"
       "```json\n{\"city\": "
       "\"Bern\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n"
       "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       R"(R[Think.]C[Sure.]get_weather({"city": "Bern"})now({}))"},
      {"deepseek_v31", "deepseek_v31", "deepseek_v31", kOutside,
       "Yes.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\":\"a<b\"}"
       "<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜><｜tool▁call▁end｜><"
       "｜tool▁calls▁end｜>",
       R"(C[Yes.]get_weather({"city":"a<b"})now({}))"},
      {"deepseek_v31 no call in the section", "", "deepseek_v31", kOutside,
       "A <｜tool▁calls▁begin｜> B", "C[A <｜tool▁calls▁begin｜> B]"},
      {"deepseek_v32", "deepseek_v32", "deepseek_v32", kInside,
       "R</think>\n\nOk\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n"
       "<｜DSML｜parameter name=\"city\" string=\"true\">5 < 6 </｜DSML｜parameter>\n"
       "<｜DSML｜parameter name=\"days\" string=\"false\">5</｜DSML｜parameter>\n"
       "<｜DSML｜parameter name=\"where\" string=\"false\">{\"a\": [1]}</｜DSML｜parameter>\n"
       "</｜DSML｜invoke>\n<｜DSML｜invoke "
       "name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
       R"(R[R]C[Ok

]get_weather({"city": "5 < 6 ", "days": 5, "where": {"a": [1]}})now({}))"},
      {"deepseek_v4", "", "deepseek_v4", kOutside,
       "<｜DSML｜tool_calls>\n<｜DSML｜invoke "
       "name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
       "now({})"},
      // Qwen3.
      {"hermes", "qwen3", "hermes", kWait,
       "<think>\nHm\n</think>\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": "
       "{\"city\": \"}{\\\"\", "
       "\"where\": {\"x\": []}}}\n</tool_call>\n<tool_call>\n{\"arguments\": {\"a\": 1}, \"name\": "
       "\"now\"}\n</tool_call>",
       R"(R[Hm]get_weather({"city": "}{\"", "where": {"x": []}})now({"a": 1}))"},
      {"hermes synonyms", "", "hermes", kOutside,
       "A\n<tool_call>{\"name\": \"now\", \"parameters\": \"{\\\"a\\\": "
       "2}\"}</tool_call><tool_call>"
       "{\"name\":\"now\"}</tool_call>B",
       R"(C[A
]now({"a": 2})now({})C[B])"},
      {"hermes no JSON", "", "hermes", kOutside, "<tool_call>\nnow()\n</tool_call>",
       "C[<tool_call>\nnow()\n</tool_call>]"},
      {"hermes unknown function", "", "hermes", kOutside,
       "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>",
       "C[<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>]"},
      {"hermes text behind the object", "", "hermes", kOutside,
       "<tool_call>{\"name\": \"now\"} extra</tool_call>", "now({})C[ extra]"},
      {"qwen3_coder", "", "qwen3_coder", kOutside,
       "I "
       "look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nA\nB\n</"
       "parameter>\n<parameter=days>\n4\n"
       "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</"
       "tool_call>",
       R"(C[I look.
]get_weather({"city": "A\nB", "days": 4})now({}))"},
      {"qwen3_coder careless", "qwen3", "qwen3_coder", kInside,
       "x\n</think>\n<function=get_weather>\n<parameter=city>\nA\n<parameter=days>\n4\n</"
       "function>\ndone",
       R"(R[x]get_weather({"city": "A", "days": 4})C[
done])"},
      // gpt-oss.
      {"harmony", "openai_gptoss", "openai", kWait,
       "<|channel|>analysis<|message|>Need "
       "weather.<|end|><|start|>assistant<|channel|>commentary<|message|>"
       "Looking.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
       "<|constrain|>json"
       "<|message|>{\"city\":\"Bern\"}<|call|>",
       R"(R[Need weather.]C[Looking.]get_weather({"city":"Bern"}))"},
      {"harmony recipient first", "openai_gptoss", "openai", kWait,
       " to=functions.now<|channel|>commentary json<|message|>{}<|call|>", "now({})"},
      {"harmony final", "openai_gptoss", "", kWait,
       "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>analysis<|message|>B<|"
       "end|>"
       "<|start|>assistant<|channel|>final<|message|>Hello<|return|>",
       "R[A\nB]C[Hello]"},
      {"harmony built-in tool", "openai_gptoss", "openai", kWait,
       "<|channel|>commentary to=browser.search<|message|>{\"q\":1}<|call|>", R"(R[{"q":1}])"},
      {"harmony without header", "openai_gptoss", "openai", kWait, "Just text", "C[Just text]"},
      {"harmony broken header", "openai_gptoss", "openai", kWait, "<|channel|>final Hello",
       "C[<|channel|>final Hello]"},
      // MiniMax, Kimi, Llama.
      {"minimax_m2", "minimax_m2", "minimax_m2", kInside,
       "Think\n</think>\n\nOk.\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter "
       "name=\"city\"> X "
       "</parameter>\n<parameter name='days'>2</parameter>\n</invoke>\n<invoke "
       "name=now>\n</invoke>\n"
       "</minimax:tool_call>",
       R"(R[Think]C[Ok.
]get_weather({"city": " X ", "days": 2})now({}))"},
      {"minimax_m2 no call", "", "minimax_m2", kOutside,
       "<minimax:tool_call>\nhm</minimax:tool_call>",
       "C[<minimax:tool_call>\nhm</minimax:tool_call>]"},
      {"kimi_k2", "kimi_k2", "kimi_k2", kWait,
       "<think>T</think>Ok<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
       "<|tool_call_argument_begin|>{\"city\": "
       "\"X\"}<|tool_call_end|><|tool_call_begin|>functions.now:1"
       "<|tool_call_argument_begin|> {} <|tool_call_end|><|tool_calls_section_end|>",
       R"(R[T]C[Ok]get_weather#functions.get_weather:0({"city": "X"})now#functions.now:1({}))"},
      {"kimi_k2 singular", "", "kimi_k2", kOutside,
       "<|tool_call_section_begin|><|tool_call_begin|>functions.now:4<|tool_call_argument_begin|>{}"
       "<|tool_call_end|><|tool_call_section_end|>",
       "now#functions.now:4({})"},
      {"llama3", "", "llama3_json", kOutside,
       "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"city\": \"X\"}}; {\"name\": "
       "\"now\", \"parameters\": {}}",
       R"(get_weather({"city": "X"})now({}))"},
      {"llama3 other JSON", "", "llama3_json", kOutside, "{\"a\": 1}", "C[{\"a\": 1}]"},
      {"llama3 text", "", "llama3_json", kOutside, "Hi {\"name\": \"now\"}",
       "C[Hi {\"name\": \"now\"}]"},
  };
  return kLines;
}

const std::vector<std::string>& all_tags() {
  static const std::vector<std::string> kTags = {"<think>",
                                                 "</think>",
                                                 "<tool_call>",
                                                 "</tool_call>",
                                                 "<arg_key>",
                                                 "</arg_key>",
                                                 "<arg_value>",
                                                 "</arg_value>",
                                                 "<｜tool▁calls▁begin｜>",
                                                 "<｜tool▁calls▁end｜>",
                                                 "<｜tool▁call▁begin｜>",
                                                 "<｜tool▁call▁end｜>",
                                                 "<｜tool▁sep｜>",
                                                 "<|channel|>",
                                                 "<|constrain|>",
                                                 "<|message|>",
                                                 "<|start|>",
                                                 "<|end|>",
                                                 "<|call|>",
                                                 "<|return|>",
                                                 "<minimax:tool_call>",
                                                 "</minimax:tool_call>",
                                                 "<|tool_calls_section_begin|>",
                                                 "<|tool_calls_section_end|>",
                                                 "<|tool_call_section_begin|>",
                                                 "<|tool_call_section_end|>",
                                                 "<|tool_call_begin|>",
                                                 "<|tool_call_argument_begin|>",
                                                 "<|tool_call_end|>",
                                                 "<|python_tag|>",
                                                 "｜DSML｜"};
  return kTags;
}

OutputParserOptions options_of(const Line& line, bool tokens) {
  OutputParserOptions o;
  o.reasoning_parser = line.reasoning;
  o.tool_parser = line.tools;
  if (*line.tools) o.tools = weather_tools();
  o.start = line.start;
  if (tokens)
    o.is_token = [](std::string_view tag) {
      return std::find(all_tags().begin(), all_tags().end(), tag) != all_tags().end();
    };
  return o;
}

std::string show(const OutputEvents& events) {
  std::string out;
  int32_t open = -1;
  for (const OutputEvent& e : events.list()) {
    if (open >= 0 && e.kind != Kind::kArguments) {
      out += ")";
      open = -1;
    }
    if (e.kind == Kind::kReasoning) out += "R[" + e.text + "]";
    if (e.kind == Kind::kContent) out += "C[" + e.text + "]";
    if (e.kind == Kind::kCallBegin) {
      out += e.text + (e.id.empty() ? "" : "#" + e.id) + "(";
      open = e.call;
    }
    if (e.kind == Kind::kArguments) {
      if (open < 0) out += "get_weather+(";  // arguments that go on behind content
      open = e.call;
      out += e.text;
    }
  }
  return open >= 0 ? out + ")" : out;
}

// Pushes text[from, to) with its tags as tokens.
void push_tokens(OutputParser& parser, std::string_view text, OutputEvents& out) {
  while (!text.empty()) {
    bool token = false;
    for (const std::string& tag : all_tags()) {
      if (!text.starts_with(tag)) continue;
      if (!parser.push_token(tag, out)) parser.push(tag, out);
      text.remove_prefix(tag.size());
      token = true;
      break;
    }
    if (token) continue;
    size_t n = 1;
    while (n < text.size() && (text[n] & 0xc0) == 0x80) ++n;
    parser.push(text.substr(0, n), out);
    text.remove_prefix(n);
  }
}

std::string parse(const Line& line, std::string_view text, const std::vector<size_t>& cuts,
                  bool cut, bool tokens = false) {
  auto parser = OutputParser::create(options_of(line, tokens));
  EXPECT_TRUE(parser.ok()) << parser.status().message();
  OutputEvents out;
  if (tokens) {
    push_tokens(**parser, text, out);
  } else {
    size_t from = 0;
    for (const size_t to : cuts) {
      (*parser)->push(text.substr(from, to - from), out);
      from = to;
    }
    (*parser)->push(text.substr(from), out);
  }
  (*parser)->finish(cut, out);
  return show(out);
}

std::vector<size_t> random_cuts(std::mt19937& random, size_t size) {
  std::vector<size_t> cuts;
  const size_t step = 1 + random() % 12;
  for (size_t at = random() % (step + 1); at < size; at += 1 + random() % step) cuts.push_back(at);
  return cuts;
}

TEST(OutputParser, Lines) {
  for (const Line& line : lines()) {
    SCOPED_TRACE(line.name);
    EXPECT_EQ(parse(line, line.text, {}, false), line.expected);
    EXPECT_EQ(parse(line, line.text, {}, false, true), line.expected) << "as tokens";
  }
}

TEST(OutputParser, EveryCutGivesTheSame) {
  std::mt19937 random(1);
  for (const Line& line : lines()) {
    SCOPED_TRACE(line.name);
    for (size_t at = 0; at <= line.text.size(); ++at)
      ASSERT_EQ(parse(line, line.text, {at}, false), line.expected) << "cut at byte " << at;
    for (int i = 0; i < 100; ++i)
      ASSERT_EQ(parse(line, line.text, random_cuts(random, line.text.size()), false),
                line.expected);
  }
}

TEST(OutputParser, EveryTruncationGivesTheSameHoweverItIsCut) {
  std::mt19937 random(2);
  for (const Line& line : lines()) {
    SCOPED_TRACE(line.name);
    for (size_t size = 0; size < line.text.size(); ++size) {
      const std::string_view text = std::string_view(line.text).substr(0, size);
      const bool cut = random() % 2 == 0;
      const std::string whole = parse(line, text, {}, cut);
      for (int i = 0; i < 4; ++i)
        ASSERT_EQ(parse(line, text, random_cuts(random, size), cut), whole) << size << " bytes";
    }
  }
}

std::set<std::string> words_of(std::string_view text) {
  std::set<std::string> words;
  std::string word;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ' ';
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
      word += c;
    } else {
      if (word.size() > 2) words.insert(word);
      word.clear();
    }
  }
  return words;
}

// Pieces of lines in any order, with words that belong nowhere: nothing crashes, cuts do not
// matter, and every such word comes out somewhere.
TEST(OutputParser, DamagedTextIsNeverLost) {
  std::mt19937 random(3);
  int64_t checked = 0;
  for (int round = 0; round < 4000; ++round) {
    const Line& line = lines()[random() % lines().size()];
    std::string text;
    const int pieces = 1 + static_cast<int>(random() % 5);
    for (int p = 0; p < pieces; ++p) {
      const Line& from = random() % 3 == 0 ? lines()[random() % lines().size()] : line;
      const size_t begin = random() % from.text.size();
      text += from.text.substr(begin, random() % (from.text.size() - begin + 1));
      if (random() % 3 == 0) text += all_tags()[random() % all_tags().size()];
      text += format(" Zq{}x{} ", round, p);
    }
    SCOPED_TRACE(format("{}: {}", line.name, text));
    const bool cut = random() % 2 == 0;
    const std::string whole = parse(line, text, {}, cut);
    ASSERT_EQ(parse(line, text, random_cuts(random, text.size()), cut), whole);
    ASSERT_NO_FATAL_FAILURE(parse(line, text, {}, cut, true));
    const std::set<std::string> out = words_of(whole);
    for (const std::string& word : words_of(text)) {
      if (!word.starts_with("Zq")) continue;
      ++checked;
      EXPECT_NE(whole.find(word), std::string::npos) << word << " is lost in " << whole;
    }
  }
  EXPECT_GT(checked, 4000);
}

TEST(OutputParser, LookalikesOfTokensAreText) {
  Line line{"", "glm45", "glm45", ReasoningStart::kOutside, "", ""};
  auto parser = OutputParser::create(options_of(line, true));
  ASSERT_TRUE(parser.ok());
  OutputEvents out;
  (*parser)->push("The tag <tool_call>now</tool_call> and </think>", out);
  EXPECT_FALSE((*parser)->push_token("<|im_end|>", out));
  (*parser)->finish(false, out);
  EXPECT_EQ(show(out), "C[The tag <tool_call>now</tool_call> and </think>]");
}

TEST(OutputParser, CutCallsStayOpen) {
  Line line{"", "", "glm45", ReasoningStart::kOutside, "", ""};
  EXPECT_EQ(parse(line, "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Ro", {}, true),
            "get_weather({\"city\": \"Ro)");
}

TEST(OutputParser, ForcedCalls) {
  const std::string one = " {\"city\": \"A ] b\"} ";
  const std::string many =
      "[{\"name\": \"a\", \"parameters\": {\"x\": [1]}},\n {\"name\":\"b\",\"parameters\":{}}]";
  const auto run = [](std::string name, std::string_view text, size_t at) {
    auto parser = make_forced_call_parser(std::move(name));
    OutputEvents out;
    parser->push(text.substr(0, at), out);
    parser->push(text.substr(at), out);
    parser->finish(false, out);
    return show(out);
  };
  for (size_t at = 0; at <= one.size(); ++at)
    EXPECT_EQ(run("f", one, at), "f({\"city\": \"A ] b\"})") << at;
  for (size_t at = 0; at <= many.size(); ++at)
    EXPECT_EQ(run("", many, at), "a({\"x\": [1]})b({})") << at;
}

TEST(OutputParser, UnknownNamesAreRefusedWithTheList) {
  OutputParserOptions o;
  o.tool_parser = "glm44";
  const auto parser = OutputParser::create(o);
  ASSERT_FALSE(parser.ok());
  EXPECT_THAT(parser.status().message(), HasSubstr("glm45"));
  o.tool_parser = "";
  o.reasoning_parser = "r1";
  EXPECT_THAT(OutputParser::create(o).status().message(), HasSubstr("deepseek_r1"));
}

TEST(OutputParser, FamiliesChooseTheirParsers) {
  using parsers::reasoning_parser_of;
  using parsers::tool_parser_of;
  EXPECT_EQ(tool_parser_of("glm_moe_dsa", "<arg_key>"), "glm45");
  EXPECT_EQ(tool_parser_of("glm_moe_dsa", ""), "glm47");
  EXPECT_EQ(tool_parser_of("deepseek_v3", "<｜tool▁sep｜> ```json"), "deepseek_v3");
  EXPECT_EQ(tool_parser_of("deepseek_v3", "<｜tool▁sep｜>"), "deepseek_v31");
  EXPECT_EQ(tool_parser_of("qwen3_moe", "<tool_call>"), "hermes");
  EXPECT_EQ(tool_parser_of("qwen3_moe", "<tool_call><function="), "qwen3_coder");
  EXPECT_EQ(tool_parser_of("gpt_oss", ""), "openai");
  EXPECT_EQ(tool_parser_of("mixtral", ""), "");
  EXPECT_EQ(reasoning_parser_of("gpt_oss", ""), "openai_gptoss");
  EXPECT_EQ(reasoning_parser_of("qwen3_moe", "</think>"), "qwen3");
  EXPECT_EQ(reasoning_parser_of("qwen3_moe", "no thinking"), "");
  for (const char* name : {"glm45", "deepseek_v31", "hermes", "openai"})
    EXPECT_TRUE(parsers::check_tool_parser(name).ok()) << name;
}

}  // namespace
}  // namespace moestro::text
