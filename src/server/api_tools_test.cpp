// Tool calls and reasoning over a real socket: a scripted engine writes them, the API shows them in
// OpenAI's form, streamed and whole the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "server/client_for_test.h"
#include "server/fake_engine_for_test.h"
#include "server/server.h"
#include "server/tokenizer_for_test.h"

namespace moestro::server {
namespace {

constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"get","parameters":{"type":"object","properties":
{"city":{"type":"string"},"days":{"type":"integer"}}}}},{"type":"function","function":{"name":"now"}}])";

class ToolsTest : public testing::Test {
 protected:
  void TearDown() override {
    if (server_) server_->shutdown(Deadline::after(std::chrono::milliseconds(0)));
  }
  void start(std::string tool_parser, std::string reasoning_parser, std::string_view answer,
             std::string_view prompt_end = "") {
    const std::vector<int32_t> ids = byte_tokenizer()->encode(answer, false);
    start_with([ids](const engine::Request&) { return ids; }, std::move(tool_parser),
               std::move(reasoning_parser), prompt_end);
  }
  // Answers as the request's grammar allows, by chance.
  // first: what the answer begins with, if the grammar allows it.
  void start_bound(std::string reasoning_parser = "", std::string first = "") {
    start_with(
        [this, first](const engine::Request& request) {
          std::vector<int32_t> ids;
          const auto& constraint = request.sampling.constraint;
          for (const char c : first) {
            const auto id = static_cast<uint8_t>(c);
            EXPECT_TRUE(constraint->mask()[id / 32] >> (id % 32) & 1) << c;
            ids.push_back(id);
            constraint->advance(id);
          }
          EXPECT_TRUE(constraint);
          while (constraint && ids.size() < 3000) {
            const auto mask = constraint->mask();
            std::vector<int32_t> allowed, ends;
            for (int32_t id = 0; id <= 256; ++id) {
              if (!(mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1)) continue;
              allowed.push_back(id);
              if (id == 256 || id == '"' || id == '}' || id == ']') ends.push_back(id);
            }
            EXPECT_FALSE(allowed.empty());
            if (allowed.empty()) break;
            const auto& from = !ends.empty() && random_() % 2 == 0 ? ends : allowed;
            const int32_t id = from[random_() % from.size()];
            if (id == 256) break;
            ids.push_back(id);
            constraint->advance(id);
          }
          return ids;
        },
        "", std::move(reasoning_parser), "");
  }
  void start_with(FakeEngine::Script script, std::string tool_parser, std::string reasoning_parser,
                  std::string_view prompt_end) {
    engine_ = std::make_shared<FakeEngine>(std::move(script));
    ServerModel m;
    m.names = {"tiny"};
    m.tokenizer = byte_tokenizer();
    auto compiled = text::ChatTemplate::compile(
        format("{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{}", prompt_end));
    ASSERT_TRUE(compiled.ok()) << compiled.status().message();
    m.chat_template = std::move(*compiled);
    m.engine = engine_;
    m.max_model_len = 4096;
    m.tool_parser = std::move(tool_parser);
    m.reasoning_parser = std::move(reasoning_parser);
    config::ServerOptions options;
    options.port = 0;
    config::LogOptions log;
    log.disable_access_log = true;
    auto server = Server::start(std::move(options), std::move(m), metrics_, log);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  TestResponse chat(std::string_view more) {
    TestClient c(server_->port());
    c.send(post_request("/v1/chat/completions",
                        format(R"({{"messages":[{{"role":"user","content":"hi"}}]{}{}}})",
                               more.empty() ? "" : ",", more)));
    return c.read_response();
  }
  // The choice of a stream as a whole answer would show it: message and finish_reason.
  json::object gather(const TestResponse& r) {
    json::object message;
    json::array calls;
    std::string content, reasoning, finish;
    for (const std::string& event : r.events()) {
      if (event == "[DONE]") continue;
      const json::value v = json::parse(event).value();
      const json::value& choice = v.at("choices").at(0);
      const json::object& delta = choice.at("delta").get_object();
      if (const json::value* c = json::find(delta, "content"))
        content += json::view(c->get_string());
      if (const json::value* c = json::find(delta, "reasoning_content"))
        reasoning += json::view(c->get_string());
      if (const json::value* list = json::find(delta, "tool_calls")) {
        for (const json::value& call : list->get_array()) {
          const auto index = static_cast<size_t>(call.at("index").as_int64());
          const json::object& function = call.at("function").get_object();
          if (index == calls.size()) {
            EXPECT_TRUE(json::find(call.get_object(), "id"));
            calls.push_back(json::object{{"name", function.at("name")}, {"arguments", ""}});
          } else {
            EXPECT_FALSE(json::find(function, "name")) << "the name comes once";
          }
          const json::string& more = function.at("arguments").get_string();
          calls[index].get_object()["arguments"].get_string().append(more.begin(), more.end());
        }
      }
      if (const json::value* f = json::find(choice.get_object(), "finish_reason"))
        finish = std::string(json::view(f->get_string()));
    }
    return {{"content", content}, {"reasoning", reasoning}, {"calls", calls}, {"finish", finish}};
  }
  json::object whole(const TestResponse& r) {
    const json::value v = r.json();
    const json::value& choice = v.at("choices").at(0);
    const json::object& m = choice.at("message").get_object();
    json::array calls;
    if (const json::value* list = json::find(m, "tool_calls")) {
      for (const json::value& call : list->get_array())
        calls.push_back(json::object{{"name", call.at("function").at("name")},
                                     {"arguments", call.at("function").at("arguments")}});
    }
    const json::value* content = json::find(m, "content");
    const json::value* reasoning = json::find(m, "reasoning_content");
    return {{"content", content ? *content : json::value("")},
            {"reasoning", reasoning ? *reasoning : json::value("")},
            {"calls", calls},
            {"finish", choice.at("finish_reason")}};
  }
  void expect(std::string_view fields, std::string_view json) {
    const json::object want = json::parse(json).value().get_object();
    const TestResponse r = chat(fields);
    ASSERT_EQ(r.status, 200) << r.body;
    EXPECT_EQ(json::dump(whole(r)), json::dump(want)) << r.body;
    const TestResponse s = chat(format("\"stream\":true,{}", fields));
    EXPECT_EQ(json::dump(gather(s)), json::dump(want)) << s.body;
  }

  MetricsRegistry metrics_;
  std::mt19937 random_{7};
  std::shared_ptr<FakeEngine> engine_;
  std::unique_ptr<Server> server_;
};

TEST_F(ToolsTest, CallsAndReasoning) {
  start("hermes", "qwen3",
        "<think>\nHm\n</think>\n\nI look.\n<tool_call>\n{\"name\": \"get\", \"arguments\": "
        "{\"city\": "
        "\"Züri\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": "
        "{}}\n</tool_call>");
  expect(
      kTools,
      R"({"content":"I look.\n","reasoning":"Hm","calls":[{"name":"get","arguments":"{\"city\": \"Züri\"}"},
             {"name":"now","arguments":"{}"}],"finish":"tool_calls"})");
  expect(
      format(R"({},"parallel_tool_calls":false,"include_reasoning":false)", kTools),
      R"({"content":"I look.\n","reasoning":"","calls":[{"name":"get","arguments":"{\"city\": \"Züri\"}"}],
             "finish":"tool_calls"})");
}

TEST_F(ToolsTest, NothingIsParsedWithoutToolsOrWithChoiceNone) {
  start("hermes", "", "<tool_call>{\"name\": \"now\"}</tool_call>");
  constexpr std::string_view kRaw =
      R"({"content":"<tool_call>{\"name\": \"now\"}</tool_call>","reasoning":"","calls":[],"finish":"stop"})";
  expect("\"n\":1", kRaw);
  expect(format(R"({},"tool_choice":"none")", kTools), kRaw);
}

TEST_F(ToolsTest, ThePromptsEndSaysWhereReasoningBegins) {
  start("", "glm45", "Hm</think>Yes", "<think>\n");
  expect("\"n\":1", R"({"content":"Yes","reasoning":"Hm","calls":[],"finish":"stop"})");
}

TEST_F(ToolsTest, ACutCallKeepsItsFinishReason) {
  start("glm45", "",
        "<tool_call>get<arg_key>city</arg_key><arg_value>Berlin</arg_value></tool_call>");
  expect(
      format(R"({},"max_tokens":50)", kTools),
      R"({"content":"","reasoning":"","calls":[{"name":"get","arguments":"{\"city\": \"Be"}],"finish":"length"})");
}

TEST_F(ToolsTest, NamedAndRequiredCallsAreForced) {
  start_bound();
  for (int i = 0; i < 5; ++i) {
    const json::object named = whole(chat(
        format(R"({},"tool_choice":{{"type":"function","function":{{"name":"get"}}}})", kTools)));
    EXPECT_EQ(named.at("finish"), "tool_calls");
    ASSERT_EQ(named.at("calls").as_array().size(), 1u) << json::dump(named);
    EXPECT_EQ(named.at("calls").at(0).at("name"), "get");
    const json::string& arguments = named.at("calls").at(0).at("arguments").as_string();
    const auto v = json::parse(json::view(arguments));
    ASSERT_TRUE(v.ok()) << arguments;
    for (const auto& [key, value] : v->get_object())
      EXPECT_TRUE(key == "city" ? value.is_string() : key == "days" && value.is_number());
  }
  const json::object required = gather(chat(
      format(R"({},"tool_choice":"required","stream":true,"parallel_tool_calls":false)", kTools)));
  EXPECT_EQ(required.at("calls").as_array().size(), 1u) << json::dump(required);
  EXPECT_EQ(required.at("content"), "");
  EXPECT_EQ(required.at("finish"), "tool_calls");
}

TEST_F(ToolsTest, AnswersKeepToTheirGrammar) {
  start_bound();
  const auto content = [&](std::string_view fields) {
    const TestResponse r = chat(fields);
    EXPECT_EQ(r.status, 200) << fields << r.body;
    return r.status == 200 ? std::string(json::view(whole(r).at("content").as_string())) : "";
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(std::regex_match(content(R"("guided_regex":"[a-c]{2}-[0-9]+")"),
                                 std::regex("[a-c]{2}-[0-9]+")));
    const std::string choice = content(R"("structured_outputs":{"choice":["yes","no"]})");
    EXPECT_TRUE(choice == "yes" || choice == "no") << choice;
    EXPECT_EQ(content(R"("guided_grammar":"root ::= \"a\" b\nb ::= \"c\"")"), "ac");
    const auto v = json::parse(content(
        R"("response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object",
           "properties":{"a":{"type":"integer","minimum":5,"maximum":7}},"required":["a"]}}})"));
    ASSERT_TRUE(v.ok());
    EXPECT_GE(v->at("a").as_int64(), 5);
    EXPECT_LE(v->at("a").as_int64(), 7);
    const std::string object = content(R"("response_format":{"type":"json_object"})");
    EXPECT_TRUE(object.starts_with("{") && object.ends_with("}")) << object;
  }
}

TEST_F(ToolsTest, ReasoningComesBeforeTheGrammar) {
  start_bound("qwen3", "<think>a ]\"b</think>\n");
  for (int i = 0; i < 5; ++i) {
    const json::object m = whole(chat(R"("guided_choice":["yes"])"));
    EXPECT_EQ(m.at("content"), "yes") << json::dump(m);
    EXPECT_EQ(m.at("reasoning"), "a ]\"b") << json::dump(m);
  }
}

TEST_F(ToolsTest, BadConstraintsAreRefused) {
  start("", "", "x");
  for (const auto& [fields, param, words] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {R"("guided_regex":"(a")", "guided_regex", "missing"},
           {R"("guided_regex":"a","guided_choice":["b"])", "guided_choice", "cannot both"},
           {R"("guided_regex":"a","ignore_eos":true)", "ignore_eos", "bound"},
           {R"("guided_json":{"not":{"type":"null"}})", "guided_json", "not is not supported"},
           {R"("structured_outputs":{"xml":1})", "structured_outputs", "xml"},
           {R"("response_format":{"type":"json_schema"})", "response_format", "schema"},
           {format(R"({},"tool_choice":{{"type":"function","function":{{"name":"zzz"}}}})", kTools),
            "tool_choice", "zzz"},
           {R"("tool_choice":"required")", "tool_choice", "needs tools"}}) {
    const TestResponse r = chat(fields);
    EXPECT_EQ(r.status, 400) << fields << r.body;
    EXPECT_THAT(r.body, testing::HasSubstr(words)) << fields;
    if (!param.empty()) {
      EXPECT_THAT(r.body, testing::HasSubstr("\"param\":\"" + param + "\""));
    }
  }
}

}  // namespace
}  // namespace moestro::server
