// The API over a real socket, with a scripted engine, a byte-level tokenizer (one token a byte) and
// a small chat template.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "server/auth.h"
#include "server/client_for_test.h"
#include "server/fake_engine_for_test.h"
#include "server/health.h"
#include "server/server.h"
#include "server/tokenizer_for_test.h"

namespace moestro::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kTemplate =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if tools %}[{{ tools | length }} tools]{% endif %}{% if mood %}({{ mood }}){% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

class ApiTest : public testing::Test {
 protected:
  void SetUp() override { tokenizer_ = byte_tokenizer(); }
  void TearDown() override {
    if (server_) server_->shutdown(Deadline::after(std::chrono::milliseconds(0)));
  }
  std::vector<int32_t> ids(std::string_view text) const { return tokenizer_->encode(text, false); }

  void start(std::string_view answer = "Hello world", config::ServerOptions options = {},
             const char* chat_template = kTemplate) {
    answer_ = ids(answer);
    start_with([this](const engine::Request&) { return answer_; }, std::move(options),
               chat_template);
  }
  void start_with(FakeEngine::Script script, config::ServerOptions options = {},
                  const char* chat_template = kTemplate) {
    engine_ = std::make_shared<FakeEngine>(std::move(script), 512, 100);
    options.port = 0;
    ServerModel m;
    m.names = {"tiny", "alias"};
    m.tokenizer = tokenizer_;
    if (chat_template) {
      auto compiled = text::ChatTemplate::compile(chat_template);
      ASSERT_TRUE(compiled.ok()) << compiled.status().message();
      m.chat_template = std::move(*compiled);
    }
    m.engine = engine_;
    m.max_model_len = 512;
    m.defaults = defaults_;
    m.plan = [] { return json::object{{"plan", "shown"}}; };
    m.version = "1.2.3";
    m.created = 77;
    config::LogOptions log;
    log.disable_access_log = true;
    auto server = Server::start(std::move(options), std::move(m), metrics_, log);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  TestResponse exchange(const std::string& bytes) {
    TestClient c(server_->port());
    c.send(bytes);
    return c.read_response();
  }
  TestResponse get(std::string_view path) { return exchange(get_request(path)); }
  TestResponse complete(std::string_view body) {
    return exchange(post_request("/v1/completions", body));
  }
  TestResponse chat(std::string_view body) {
    return exchange(post_request("/v1/chat/completions", body));
  }
  TestResponse hello(std::string_view more) {
    return chat(format(R"({{"messages":[{{"role":"user","content":"hi"}}]{}{}}})",
                       more.empty() ? "" : ",", more));
  }
  void expect_error(const TestResponse& r, int status, std::string_view param,
                    std::string_view words) {
    EXPECT_EQ(r.status, status) << r.body;
    const json::value v = r.json();
    ASSERT_TRUE(v.is_object() && v.get_object().contains("error")) << r.body;
    EXPECT_THAT(r.error_message(), HasSubstr(std::string(words)));
    const json::value& p = v.at("error").at("param");
    EXPECT_EQ(p.is_null() ? "" : std::string(json::view(p.as_string())), param) << r.body;
    EXPECT_TRUE(v.at("error").at("type").is_string());
    EXPECT_TRUE(v.at("error").get_object().contains("code"));
  }

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::vector<int32_t> answer_;
  SamplingDefaults defaults_;
  MetricsRegistry metrics_;
  std::shared_ptr<FakeEngine> engine_;
  std::unique_ptr<Server> server_;
};

std::string text_at(const json::value& v, std::initializer_list<std::string_view> path) {
  const json::value* at = &v;
  for (std::string_view step : path) {
    if (const auto* array = at->if_array()) {
      at = &array->at(static_cast<size_t>(step[0] - '0'));
    } else {
      at = &at->at(std::string(step));
    }
  }
  return at->is_string() ? std::string(json::view(at->get_string())) : json::dump(*at);
}

TEST_F(ApiTest, ChatWhole) {
  start();
  const TestResponse r = hello(R"("model":"tiny")");
  ASSERT_EQ(r.status, 200) << r.body;
  const json::value v = r.json();
  EXPECT_EQ(text_at(v, {"object"}), "chat.completion");
  EXPECT_THAT(text_at(v, {"id"}), HasSubstr("chatcmpl-"));
  EXPECT_EQ(text_at(v, {"model"}), "tiny");
  EXPECT_EQ(text_at(v, {"choices", "0", "message", "content"}), "Hello world");
  EXPECT_EQ(text_at(v, {"choices", "0", "message", "role"}), "assistant");
  EXPECT_EQ(text_at(v, {"choices", "0", "finish_reason"}), "stop");
  EXPECT_EQ(text_at(v, {"choices", "0", "logprobs"}), "null");
  EXPECT_EQ(text_at(v, {"usage", "prompt_tokens"}), "19");  // "<user>hi<assistant>"
  EXPECT_EQ(text_at(v, {"usage", "completion_tokens"}), "11");
  EXPECT_EQ(text_at(v, {"usage", "total_tokens"}), "30");
  EXPECT_EQ(engine_->last_request().prompt, ids("<user>hi<assistant>"));
  EXPECT_EQ(engine_->last_request().sampling.max_tokens, 512 - 19);
}

TEST_F(ApiTest, ChatStreamIsTheWholeAnswerInPieces) {
  start("Grüße, 世界! 🎉");
  const TestResponse r = hello(
      R"("stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true})");
  ASSERT_EQ(r.status, 200);
  EXPECT_TRUE(r.complete);
  EXPECT_THAT(r.header("content-type"), HasSubstr("text/event-stream"));
  const std::vector<std::string> events = r.events();
  ASSERT_GT(events.size(), 4u);
  EXPECT_EQ(events.back(), "[DONE]");
  std::string text, finish;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const json::value v = *json::parse(events[i]);
    EXPECT_EQ(text_at(v, {"object"}), "chat.completion.chunk");
    text += text_at(v, {"choices", "0", "delta", "content"});
    EXPECT_EQ(v.at("choices").at(0).at("delta").as_object().contains("role"), i == 0);
    finish = text_at(v, {"choices", "0", "finish_reason"});
    EXPECT_EQ(text_at(v, {"usage", "prompt_tokens"}), "19");
  }
  EXPECT_EQ(text, "Grüße, 世界! 🎉");
  EXPECT_EQ(finish, "stop");
  const json::value usage = *json::parse(events[events.size() - 2]);
  EXPECT_TRUE(usage.at("choices").as_array().empty());
  EXPECT_EQ(text_at(usage, {"usage", "completion_tokens"}), format("{}", answer_.size()));
}

TEST_F(ApiTest, CompletionPrompts) {
  start();
  EXPECT_EQ(text_at(complete(R"({"prompt":"abc"})").json(), {"choices", "0", "text"}),
            "Hello world");
  EXPECT_EQ(engine_->last_request().sampling.max_tokens, 16);
  EXPECT_EQ(engine_->last_request().prompt, ids("abc"));
  complete(R"({"prompt":[5,6,7]})");
  EXPECT_THAT(engine_->last_request().prompt, ElementsAre(5, 6, 7));
  const json::value v = complete(R"({"prompt":["a","bb"],"n":2})").json();
  ASSERT_EQ(v.at("choices").as_array().size(), 4u);
  EXPECT_EQ(text_at(v, {"choices", "3", "index"}), "3");
  EXPECT_EQ(text_at(v, {"usage", "prompt_tokens"}), "3");
  EXPECT_EQ(text_at(v, {"usage", "completion_tokens"}), "44");
  EXPECT_EQ(complete(R"({"prompt":[[1,2],[3]]})").json().at("choices").as_array().size(), 2u);
  complete(R"({"prompt":"abcdef","truncate_prompt_tokens":2})");
  EXPECT_EQ(engine_->last_request().prompt, ids("ef"));
  expect_error(complete(R"({"prompt":""})"), 400, "prompt", "at least one token");
  expect_error(complete(R"({"prompt":[]})"), 400, "prompt", "empty");
  expect_error(complete(R"({"prompt":[1,"a"]})"), 400, "prompt", "token ids");
  expect_error(complete(R"({"prompt":[99999999]})"), 400, "prompt", "token ids");
  expect_error(complete(R"({"prompt":{"a":1}})"), 400, "prompt", "an object");
  expect_error(complete("{}"), 400, "prompt", "required");
}

TEST_F(ApiTest, SamplingFieldsReachTheEngine) {
  defaults_.temperature = 0.6;
  defaults_.top_k = 20;
  start();
  hello(R"("top_p":0.5)");
  EXPECT_EQ(engine_->last_request().sampling.temperature, 0.6)
      << "generation_config fills what is left out";
  EXPECT_EQ(engine_->last_request().sampling.top_k, 20);
  EXPECT_EQ(engine_->last_request().sampling.top_p, 0.5);
  hello(
      R"("temperature":0,"top_k":-1,"min_p":0.1,"presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"seed":-5,)"
      R"("max_completion_tokens":7,"max_tokens":9,"min_tokens":2,"ignore_eos":true,"stop_token_ids":[3],"logit_bias":{"4":-100},)"
      R"("logprobs":true,"top_logprobs":3,"priority":4,"cache_salt":"tenant")");
  const engine::Request q = engine_->last_request();
  const engine::SamplingParams& s = q.sampling;
  EXPECT_EQ(s.temperature, 0);
  EXPECT_EQ(s.top_k, 0);
  EXPECT_EQ(s.min_p, 0.1);
  EXPECT_EQ(s.presence_penalty, 1);
  EXPECT_EQ(s.frequency_penalty, -1);
  EXPECT_EQ(s.repetition_penalty, 1.5);
  EXPECT_EQ(s.seed, static_cast<uint64_t>(-5));
  EXPECT_EQ(s.max_tokens, 7);
  EXPECT_EQ(s.min_tokens, 2);
  EXPECT_TRUE(s.ignore_eos);
  EXPECT_THAT(s.stop_token_ids, ElementsAre(3));
  EXPECT_THAT(s.logit_bias, ElementsAre(std::pair<int32_t, float>(4, -100.f)));
  EXPECT_EQ(s.logprobs, 3);
  EXPECT_EQ(q.priority, 4);
  EXPECT_EQ(q.cache_salt, "tenant");
  EXPECT_THAT(hello(R"("cache_salt":"")").body, HasSubstr("cache_salt has 0 bytes"));
}

TEST_F(ApiTest, CachedTokensAreInTheUsageIfAskedFor) {
  start();
  EXPECT_THAT(hello("").body, Not(HasSubstr("cached_tokens")));
  config::ServerOptions options;
  options.enable_prompt_tokens_details = true;
  start("Hello", options);
  const json::value v = hello(R"("n":2)").json();
  const int prompt = std::stoi(text_at(v, {"usage", "prompt_tokens"}));
  EXPECT_EQ(text_at(v, {"usage", "prompt_tokens_details", "cached_tokens"}),
            std::to_string(prompt - 1));
}

TEST_F(ApiTest, StopStringsCutAndCancel) {
  start("one two three four five six");
  engine_->set_token_delay(std::chrono::microseconds(500));
  const json::value v = hello(R"("stop":["three","zzz"])").json();
  EXPECT_EQ(text_at(v, {"choices", "0", "message", "content"}), "one two ");
  EXPECT_EQ(text_at(v, {"choices", "0", "finish_reason"}), "stop");
  EXPECT_EQ(text_at(v, {"choices", "0", "stop_reason"}), "three");
  EXPECT_TRUE(engine_->wait_idle());
  EXPECT_EQ(engine_->cancelled(), 1) << "the engine must not go on behind a stop string";
  EXPECT_EQ(text_at(hello(R"("stop":"two","include_stop_str_in_output":true)").json(),
                    {"choices", "0", "message", "content"}),
            "one two");
  const json::value by_id = hello(format(R"("stop_token_ids":[{}])", ids("w")[0])).json();
  EXPECT_EQ(text_at(by_id, {"choices", "0", "message", "content"}), "one t");
  EXPECT_EQ(text_at(by_id, {"choices", "0", "stop_reason"}), format("{}", ids("w")[0]));
  EXPECT_EQ(text_at(hello(R"("max_tokens":3)").json(), {"choices", "0", "finish_reason"}),
            "length");
}

TEST_F(ApiTest, ChatLogprobs) {
  start("ab");
  const json::value v = hello(R"("logprobs":true,"top_logprobs":2)").json();
  const json::value& content = v.at("choices").at(0).at("logprobs").at("content");
  ASSERT_EQ(content.as_array().size(), 2u);
  EXPECT_EQ(text_at(content, {"0", "token"}), "a");
  EXPECT_EQ(text_at(content, {"0", "logprob"}), "-0.5");
  EXPECT_EQ(text_at(content, {"0", "bytes"}), "[97]");
  EXPECT_EQ(content.at(0).at("top_logprobs").as_array().size(), 2u);
  EXPECT_EQ(text_at(content, {"0", "top_logprobs", "0", "token"}), "a");
}

TEST_F(ApiTest, CompletionEchoWithLogprobs) {
  start("xy");
  const json::value v =
      complete(R"({"prompt":"pq","echo":true,"logprobs":1,"max_tokens":5})").json();
  EXPECT_EQ(text_at(v, {"choices", "0", "text"}), "pqxy");
  const json::value& l = v.at("choices").at(0).at("logprobs");
  EXPECT_EQ(text_at(l, {"tokens"}), R"(["p","q","x","y"])");
  EXPECT_EQ(text_at(l, {"text_offset"}), "[0,1,2,3]");
  EXPECT_EQ(text_at(l, {"token_logprobs"}), "[null,-0.5,-0.5,-0.5]");
  EXPECT_TRUE(l.at("top_logprobs").at(0).is_null());
  // Scoring a prompt without generating, as evaluation tools do.
  const json::value scored =
      complete(R"({"prompt":"pq","echo":true,"logprobs":1,"max_tokens":0})").json();
  EXPECT_EQ(text_at(scored, {"choices", "0", "text"}), "pq");
  EXPECT_EQ(scored.at("choices").at(0).at("logprobs").at("tokens").as_array().size(), 2u);
  EXPECT_EQ(text_at(scored, {"usage", "completion_tokens"}), "0");
  // Streamed: the same text.
  std::string text;
  for (const std::string& e :
       complete(R"({"prompt":"pq","echo":true,"logprobs":1,"stream":true})").events()) {
    if (e != "[DONE]") text += text_at(*json::parse(e), {"choices", "0", "text"});
  }
  EXPECT_EQ(text, "pqxy");
}

TEST_F(ApiTest, TokenIds) {
  start("ab");
  const json::value v =
      hello(R"("return_token_ids":true,"logprobs":true,"return_tokens_as_token_ids":true)").json();
  EXPECT_EQ(text_at(v, {"choices", "0", "token_ids"}), format("[{},{}]", answer_[0], answer_[1]));
  EXPECT_EQ(v.at("prompt_token_ids").as_array().size(), 19u);
  EXPECT_EQ(text_at(v, {"choices", "0", "logprobs", "content", "0", "token"}),
            format("token_id:{}", answer_[0]));
  EXPECT_EQ(complete(R"({"prompt":"pq","prompt_logprobs":1})")
                .json()
                .at("choices")
                .at(0)
                .at("prompt_logprobs")
                .as_array()
                .size(),
            2u);
}

TEST_F(ApiTest, TemplateFields) {
  config::ServerOptions options;
  options.default_chat_template_kwargs = json::object{{"mood", "calm"}};
  start("ok", options);
  const auto prompt = [&] { return tokenizer_->decode(engine_->last_request().prompt, false); };
  hello("");
  EXPECT_EQ(prompt(), "<user>hi(calm)<assistant>");
  hello(R"("chat_template_kwargs":{"mood":"wild"},"add_generation_prompt":false)");
  EXPECT_EQ(prompt(), "<user>hi(wild)");
  hello(
      R"("chat_template_kwargs":{"mood":""},"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto")");
  EXPECT_EQ(prompt(), "<user>hi[1 tools]<assistant>");
  chat(
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],"chat_template_kwargs":{"mood":""}})");
  EXPECT_EQ(prompt(), "<user>a\nb<assistant>");
  const TestResponse r = chat(
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"par"}],"continue_final_message":true,)"
      R"("echo":true,"chat_template_kwargs":{"mood":"x"}})");
  EXPECT_EQ(prompt(), "<user>q<assistant>par");
  EXPECT_EQ(text_at(r.json(), {"choices", "0", "message", "content"}), "parok");
  expect_error(hello(R"("continue_final_message":true,"add_generation_prompt":true)"), 400,
               "continue_final_message", "cannot both");
  expect_error(hello(R"("chat_template":"x")"), 400, "chat_template",
               "--trust-request-chat-template");
}

TEST_F(ApiTest, PartsForTemplatesThatWalkOverThem) {
  start("ok", {},
        "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}");
  hello("");
  EXPECT_EQ(tokenizer_->decode(engine_->last_request().prompt, false), "[hi]");
}

TEST_F(ApiTest, BadRequests) {
  start();
  const struct {
    const char* more;
    const char* param;
    const char* words;
  } cases[] = {
      {R"("temperature":-1)", "temperature", "-1"},
      {R"("temperature":1e999)", "temperature", ""},
      {R"("temperature":"hot")", "temperature", "a number"},
      {R"("top_p":0)", "top_p", "above 0"},
      {R"("top_p":1.5)", "top_p", "1.5"},
      {R"("top_k":-2)", "top_k", "-2"},
      {R"("min_p":2)", "min_p", "2"},
      {R"("n":0)", "n", "from 1 to 128"},
      {R"("n":100000)", "n", "from 1 to 128"},
      {R"("n":1.5)", "n", "1.5"},
      {R"("max_tokens":-3)", "max_tokens", "-3"},
      {R"("max_tokens":0)", "max_tokens", "0"},
      {R"("max_tokens":99999999999999999999)", "max_tokens", "integer"},
      {R"("max_tokens":9999)", "max_completion_tokens", "512"},
      {R"("min_tokens":9,"max_tokens":5)", "min_tokens", "9"},
      {R"("presence_penalty":3)", "presence_penalty", "3"},
      {R"("repetition_penalty":0)", "repetition_penalty", "0"},
      {R"("seed":1.5)", "seed", "1.5"},
      {R"("stop":[""])", "stop", "empty"},
      {R"("stop":[1])", "stop", "string"},
      {R"("stop_token_ids":[-1])", "stop_token_ids", "token ids"},
      {R"("logit_bias":{"x":1})", "logit_bias", "token ids"},
      {R"("logit_bias":{"1":1000})", "logit_bias", "-100"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs", "20"},
      {R"("top_logprobs":2)", "top_logprobs", "logprobs"},
      {R"("stream_options":{"include_usage":true})", "stream_options", "stream"},
      {R"("response_format":{"type":"xml"})", "response_format", "json_object"},
      {R"("tools":[{}])", "tools", "function"},
      {R"("functions":[{"name":"f"}])", "functions", "tools"},
      {R"("audio":{"voice":"x"})", "audio", "text only"},
      {R"("modalities":["text","audio"])", "modalities", "text only"},
      {R"("guided_json":{"type":"x"})", "guided_json", "no type"},
      {R"("use_beam_search":true)", "use_beam_search", "beam"},
      {R"("reasoning_effort":"high")", "reasoning_effort", "template"},
      {R"("store":true)", "store", "kept"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.more);
    expect_error(hello(c.more), 400, c.param, c.words);
  }
  expect_error(hello(R"("model":"gpt-5")"), 404, "model", "does not exist");
  for (
      const char* fine :
      {R"("user":"u","metadata":{"a":"b"},"store":false,"service_tier":"auto","response_format":{"type":"text"})",
       R"("temperature":null,"n":null,"stop":null,"tools":[],"modalities":["text"],"an_unknown_field":1)",
       R"("n":2.0)"}) {
    EXPECT_EQ(hello(fine).status, 200) << fine;
  }
}

TEST_F(ApiTest, BadMessages) {
  start();
  const struct {
    const char* body;
    const char* param;
    const char* words;
  } cases[] = {
      {"{}", "messages", "required"},
      {R"({"messages":[]})", "messages", "at least one"},
      {R"({"messages":"hi"})", "messages", "an array"},
      {R"({"messages":[1]})", "messages[0]", "an object"},
      {R"({"messages":[{"content":"x"}]})", "messages[0].role", "role"},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content", "required"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content", "string"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]})",
       "messages[0].content[0].type", "text only"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})",
       "messages[0].content[0].text", "string"},
      {"[]", "", "object"},
      {"", "", "JSON"},
      {"{\"a\":NaN}", "", "JSON"},
      {"{\"a\":1,\"a\":2}", "", "twice"},
      {"{\"messages\":\"\xff\xfe\"}", "", "JSON"},
      {R"({"messages":[)", "", "JSON"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.body);
    expect_error(chat(c.body), 400, c.param, c.words);
  }
  const std::string deep = std::string(10000, '[') + std::string(10000, ']');
  expect_error(chat("{\"messages\":" + deep + "}"), 400, "", "JSON");
  expect_error(complete(R"({"prompt":")" + std::string(600, 'x') + R"("})"), 400, "", "512");
  EXPECT_THAT(complete(R"({"prompt":")" + std::string(600, 'x') + R"("})").error_message(),
              HasSubstr("600"));
  expect_error(complete(R"({"prompt":")" + std::string(5 << 20, 'x') + R"("})"), 400, "",
               "at least");
}

TEST_F(ApiTest, TemplatesThatFailOrNeverEnd) {
  start("ok", {},
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% "
        "endif %}{% endfor %}"
        "{% if spin %}{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor "
        "%}{% endfor %}{% endif %}hi");
  expect_error(chat(R"({"messages":[{"role":"tool","content":"x"}]})"), 400, "messages",
               "no tools here");
  const TestResponse r = hello(R"("chat_template_kwargs":{"spin":true})");
  EXPECT_TRUE(r.status == 400 || r.status == 504) << r.body;  // steps, or on a slow machine time
  EXPECT_NE(r.error_message(), "");
  EXPECT_EQ(hello("").status, 200);
}

TEST_F(ApiTest, NoTemplate) {
  start("ok", {}, nullptr);
  expect_error(hello(""), 400, "messages", "--chat-template");
  EXPECT_EQ(complete(R"({"prompt":"a"})").status, 200);
}

TEST_F(ApiTest, Routes) {
  start();
  EXPECT_EQ(text_at(get("/v1/models").json(), {"data", "0", "id"}), "tiny");
  EXPECT_EQ(text_at(get("/v1/models").json(), {"data", "1", "max_model_len"}), "512");
  EXPECT_EQ(text_at(get("/v1/models/alias").json(), {"id"}), "alias");
  EXPECT_EQ(get("/v1/models/none").status, 404);
  EXPECT_EQ(text_at(get("/version").json(), {"version"}), "1.2.3");
  EXPECT_EQ(text_at(get("/v1/plan").json(), {"plan"}), "shown");
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/ping").status, 200);
  EXPECT_EQ(exchange(post_request("/ping", "")).status, 200);
  EXPECT_EQ(exchange(post_request("/reset_prefix_cache", "")).status, 200);
  EXPECT_EQ(engine_->prefix_resets(), 1);
  EXPECT_EQ(get("/reset_prefix_cache").status, 405);
  EXPECT_THAT(get("/metrics").body, HasSubstr("http_requests_total"));
  EXPECT_THAT(get("/").body, HasSubstr("/v1/chat/completions"));
  EXPECT_EQ(get("/load").status, 404);
  expect_error(get("/v1/chat/completion"), 404, "", "/v1/chat/completions");
  expect_error(get("/chat/completions"), 404, "", "/v1/chat/completions");
  expect_error(get("/wp-admin.php"), 404, "", "The API is at");
  TestResponse r = get("/v1/completions");
  EXPECT_EQ(r.status, 405);
  EXPECT_EQ(r.header("allow"), "POST, OPTIONS");
  EXPECT_EQ(exchange("DELETE /health HTTP/1.1\r\nHost: t\r\n\r\n").header("allow"),
            "GET, HEAD, OPTIONS");
  EXPECT_EQ(exchange("POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: "
                     "text/plain\r\nContent-Length: 2\r\n\r\n{}")
                .status,
            415);
}

TEST_F(ApiTest, RequestIds) {
  start();
  TestResponse r =
      exchange(post_request("/v1/completions", R"({"prompt":"a"})", "X-Request-Id: my-id-1\r\n"));
  EXPECT_EQ(r.header("x-request-id"), "my-id-1");
  EXPECT_EQ(text_at(r.json(), {"id"}), "cmpl-my-id-1");
  EXPECT_EQ(get("/health").header("x-request-id").size(), 32u);
  EXPECT_EQ(exchange(get_request("/health", "X-Request-Id: " + std::string(500, 'a') + "\r\n"))
                .header("x-request-id")
                .size(),
            32u);
}

TEST_F(ApiTest, Cors) {
  start();
  EXPECT_EQ(exchange(get_request("/health", "Origin: http://page\r\n"))
                .header("access-control-allow-origin"),
            "*");
  TestResponse r = exchange(
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: t\r\nOrigin: "
      "http://page\r\nAccess-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: content-type\r\n\r\n");
  EXPECT_EQ(r.status, 204);
  EXPECT_THAT(r.header("access-control-allow-methods"), HasSubstr("POST"));
  EXPECT_EQ(r.header("access-control-allow-headers"), "content-type");
  server_->shutdown({});
  config::ServerOptions options;
  options.allowed_origins = {"http://mine"};
  start("x", options);
  EXPECT_EQ(exchange(get_request("/health", "Origin: http://page\r\n"))
                .header("access-control-allow-origin"),
            "");
  EXPECT_EQ(exchange(get_request("/health", "Origin: http://mine\r\n"))
                .header("access-control-allow-origin"),
            "http://mine");
  EXPECT_EQ(exchange("OPTIONS /health HTTP/1.1\r\nHost: t\r\nOrigin: "
                     "http://page\r\nAccess-Control-Request-Method: GET\r\n\r\n")
                .status,
            403);
}

TEST_F(ApiTest, ApiKeys) {
  config::ServerOptions options;
  options.api_keys = {"secret-one", "secret-two"};
  start("x", options);
  EXPECT_EQ(get("/v1/models").status, 401);
  EXPECT_EQ(get("/v1/models").header("www-authenticate"), "Bearer");
  EXPECT_EQ(exchange(post_request("/reset_prefix_cache", "")).status, 401);
  EXPECT_EQ(engine_->prefix_resets(), 0);
  EXPECT_EQ(get("/health").status, 200);
  for (const char* key : {"secret-one", "secret-two"}) {
    EXPECT_EQ(
        exchange(get_request("/v1/models", format("Authorization: Bearer {}\r\n", key))).status,
        200);
  }
  for (const char* bad : {"Bearer secret", "Bearer secret-one2", "Basic secret-one", "secret-one",
                          "Bearer ", "Bearer secret-onesecret-one"}) {
    EXPECT_EQ(exchange(get_request("/v1/models", format("Authorization: {}\r\n", bad))).status, 401)
        << bad;
  }
  // Without a key no body is read.
  TestClient c(server_->port());
  c.send(
      "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: "
      "application/json\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(c.read_response().status, 401);
}

TEST_F(ApiTest, HealthMeansProgress) {
  start();
  engine_->set_stall_seconds(1000);
  EXPECT_EQ(get("/health").status, 200) << "idle is no stall";
  engine_->hold(true);
  TestClient c(server_->port());
  c.send(post_request("/v1/completions", R"({"prompt":"a"})"));
  ASSERT_TRUE(engine_->wait_running(1));
  const TestResponse r = get("/health");
  EXPECT_EQ(r.status, 503);
  EXPECT_THAT(r.body, HasSubstr("1000.0 s"));
  engine_->set_stall_seconds(0);
  EXPECT_EQ(get("/health").status, 200);
  engine_->hold(false);
  EXPECT_EQ(c.read_response().status, 200);
}

TEST_F(ApiTest, FullQueueIs429) {
  start();
  engine_->hold(true);
  const TestResponse r = complete(R"({"prompt":"a","n":101})");
  EXPECT_EQ(r.status, 429);
  EXPECT_EQ(r.header("retry-after"), "1");
  EXPECT_THAT(r.error_message(), HasSubstr("--max-waiting"));
  EXPECT_TRUE(engine_->wait_idle()) << "what was queued of a refused request must be cancelled";
  const TestResponse streamed = complete(R"({"prompt":"a","n":101,"stream":true})");
  EXPECT_EQ(streamed.status, 429) << "no 200 before the engine took the request";
}

TEST_F(ApiTest, DisconnectCancels) {
  start(std::string(400, 'x'));
  engine_->set_token_delay(std::chrono::milliseconds(5));
  for (const char* body :
       {R"({"prompt":"a","max_tokens":400})", R"({"prompt":"a","max_tokens":400,"stream":true})",
        R"({"prompt":"a","max_tokens":400,"n":3,"stream":true})"}) {
    const int before = engine_->cancelled();
    {
      TestClient c(server_->port());
      c.send(post_request("/v1/completions", body));
      ASSERT_TRUE(engine_->wait_running(1));
    }
    EXPECT_TRUE(engine_->wait_idle(2)) << body;
    EXPECT_GT(engine_->cancelled(), before);
  }
}

TEST_F(ApiTest, StreamThatNobodyReadsIsCancelled) {
  config::ServerOptions options;
  options.write_timeout_s = 0.5;
  start_with([](const engine::Request&) { return std::vector<int32_t>(400, 65); }, options);
  engine_->set_token_delay(
      std::chrono::milliseconds(5));  // it must not be done before the buffers are full
  TestClient c(server_->port(), 2048);
  std::string prompts;
  for (int i = 0; i < 90; ++i) prompts += format("{}\"p{}\"", i ? "," : "", i);
  c.send(post_request(
      "/v1/completions",
      format(R"({{"prompt":[{}],"max_tokens":400,"stream":true,"logprobs":5}})", prompts)));
  ASSERT_TRUE(engine_->wait_running(1));
  EXPECT_TRUE(engine_->wait_idle(10));
  EXPECT_GT(engine_->cancelled(), 0) << "90 streams of 400 chunks cannot fit in the buffers";
}

TEST_F(ApiTest, RequestTimeout) {
  config::ServerOptions options;
  options.request_timeout_s = 0.2;
  start(std::string(400, 'x'), options);
  engine_->set_token_delay(std::chrono::milliseconds(20));
  expect_error(complete(R"({"prompt":"a","max_tokens":400})"), 504, "", "0.2 s");
  const std::vector<std::string> events =
      complete(R"({"prompt":"a","max_tokens":400,"stream":true})").events();
  ASSERT_GE(events.size(), 2u);
  EXPECT_THAT(events[events.size() - 2], HasSubstr("\"error\""));
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(ApiTest, SixtyFourStreamsAtOnce) {
  start_with(
      [this](const engine::Request& r) { return r.prompt; });  // each answer is its own prompt
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 64; ++i) {
    threads.emplace_back([&, i] {
      const std::string prompt = format("client {} says something of its own: {}", i,
                                        std::string(static_cast<size_t>(i), 'z'));
      std::string text;
      for (const std::string& e :
           complete(format(R"({{"prompt":"{}","max_tokens":300,"stream":true}})", prompt))
               .events()) {
        if (e != "[DONE]") text += text_at(*json::parse(e), {"choices", "0", "text"});
      }
      if (text == prompt) ++right;
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(right, 64);
}

TEST_F(ApiTest, BigBodiesAtOnce) {
  config::ServerOptions options;
  options.text_threads = 2;
  start(std::string(100, 'x'), options);
  std::string big = R"({"prompt":[)";
  for (int i = 0; i < 200000; ++i) big += "1,";
  big += "1]}";
  std::vector<std::thread> heavy;
  for (int i = 0; i < 4; ++i) heavy.emplace_back([&] { EXPECT_EQ(complete(big).status, 400); });
  for (int i = 0; i < 5; ++i) EXPECT_EQ(get("/health").status, 200);
  for (std::thread& t : heavy) t.join();
}

TEST_F(ApiTest, DrainFinishesStreamsAndRefusesNewRequests) {
  start(std::string(100, 'x'));
  engine_->set_token_delay(std::chrono::milliseconds(5));
  TestClient running(server_->port()), late(server_->port());
  late.send(get_request("/version"));
  EXPECT_EQ(late.read_response().status, 200);
  running.send(post_request("/v1/completions", R"({"prompt":"a","max_tokens":100,"stream":true})"));
  ASSERT_TRUE(engine_->wait_running(1));
  std::thread stopper([&] { server_->shutdown(Deadline::after(std::chrono::seconds(20))); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  late.send(post_request("/v1/completions", R"({"prompt":"a"})"));
  const TestResponse refused = late.read_response();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("connection"), "close");
  EXPECT_EQ(get("/health").status, 503);
  const TestResponse r = running.read_response();
  EXPECT_TRUE(r.complete);
  ASSERT_FALSE(r.events().empty());
  EXPECT_EQ(r.events().back(), "[DONE]");
  stopper.join();
  EXPECT_EQ(engine_->cancelled(), 0);
  EXPECT_FALSE(TestClient(server_->port()).connected());
}

TEST_F(ApiTest, DrainDeadlineCancelsWithAMessage) {
  start(std::string(400, 'x'));
  engine_->set_token_delay(std::chrono::milliseconds(50));
  TestClient stream(server_->port()), whole(server_->port());
  stream.send(post_request("/v1/completions", R"({"prompt":"a","max_tokens":400,"stream":true})"));
  whole.send(post_request("/v1/completions", R"({"prompt":"a","max_tokens":400})"));
  ASSERT_TRUE(engine_->wait_running(2));
  server_->shutdown(Deadline::after(std::chrono::milliseconds(100)));
  EXPECT_EQ(whole.read_response().status, 503);
  const std::vector<std::string> events = stream.read_response().events();
  ASSERT_GE(events.size(), 2u);
  EXPECT_THAT(events[events.size() - 2], HasSubstr("shutting down"));
}

TEST_F(ApiTest, UnixSocketAndBadStarts) {
  ServerModel m;
  m.names = {"tiny"};
  EXPECT_FALSE(Server::start({}, m, metrics_).ok()) << "no tokenizer, no engine";
  m.tokenizer = tokenizer_;
  m.engine =
      std::make_shared<FakeEngine>([](const engine::Request&) { return std::vector<int32_t>{65}; });
  m.max_model_len = 100;
  config::ServerOptions options;
  options.port = 70000;
  EXPECT_FALSE(Server::start(options, m, metrics_).ok());
  options.port = 0;
  options.uds = testing::TempDir() + format("moestro_{}.sock", ::getpid());
  auto server = Server::start(options, m, metrics_);
  ASSERT_TRUE(server.ok()) << server.status().message();
  EXPECT_EQ((*server)->address(), "unix:" + *options.uds);
  EXPECT_EQ((*server)->port(), 0);
}

TEST(Auth, ConstantTimeCompare) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abcabc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("", ""));
  EXPECT_FALSE(equal_in_constant_time("", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abd", "abc"));
  EXPECT_TRUE(authorized("", {}));
  EXPECT_TRUE(authorized("bEaReR  k ", {"k"}));
}

}  // namespace
}  // namespace moestro::server
