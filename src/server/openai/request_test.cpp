// Requests mutated at random: parsing them, and making prompts of what is accepted, never fails in
// any other way than by an ApiError.
#include "server/openai/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "server/openai/prompt.h"
#include "server/tokenizer_for_test.h"

namespace moestro::server::openai {
namespace {

constexpr std::string_view kSeeds[] = {
    R"({"model":"tiny","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hi"}]},)"
    R"({"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},)"
    R"({"role":"tool","content":"3","tool_call_id":"1"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],)"
    R"("tool_choice":"auto","temperature":0.5,"top_p":0.9,"n":2,"logprobs":true,"top_logprobs":3,"max_completion_tokens":20})",
    R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":" y "}],"continue_final_message":true,"echo":true,)"
    R"("chat_template_kwargs":{"a":[1,2,{"b":null}]},"stop":["a","b"],"stop_token_ids":[1,2],"logit_bias":{"5":-3.5},"seed":-1})",
    R"({"prompt":["a","bb",[1,2,3]],"echo":true,"logprobs":2,"max_tokens":0,"stream":false,"truncate_prompt_tokens":2})",
    R"({"prompt":[7,8,9],"stream":true,"stream_options":{"include_usage":true},"min_p":0.1,"top_k":-1,"best_of":1,"suffix":null,)"
    R"("response_format":{"type":"text"},"user":"u","allowed_token_ids":[65,66],"repetition_penalty":1.1,"priority":-3})",
};

// Values that take the place of others.
const char* const kValues[] = {"null",
                               "true",
                               "-1",
                               "0",
                               "1e308",
                               "-1e999",
                               "18446744073709551615",
                               "-9223372036854775808",
                               "1.5",
                               "\"\"",
                               "\"x\"",
                               "[]",
                               "{}",
                               "[[]]",
                               "[{}]",
                               "{\"type\":\"text\"}",
                               "[null,1,\"a\"]",
                               "\"\\ud83d\\ude00\""};

class RequestFuzz : public testing::Test {
 protected:
  RequestFuzz() {
    model_.names = {"tiny"};
    model_.tokenizer = byte_tokenizer();
    auto compiled = text::ChatTemplate::compile(
        "{% for m in messages %}{{ m.role }}:{{ m.content | trim }}{% for c in m.tool_calls or [] "
        "%}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}");
    CHECK(compiled.ok(), compiled.status().message());
    model_.chat_template = std::move(*compiled);
    model_.max_model_len = 128;
  }
  // True if the request was accepted all the way.
  bool run(std::string_view text) {
    const auto body = json::parse(text);
    if (!body.ok() || !body->is_object()) return false;
    const PromptContext prompts{.model = model_, .options = options_};
    bool accepted = false;
    CompletionRequest completion;
    check(parse_completion_request(body->get_object(), {model_, options_}, completion), completion,
          [&] {
            for (size_t i = 0; i < completion.prompts.size(); ++i) {
              Prompt p;
              accepted |= fits(make_completion_prompt(completion, i, prompts, p), completion, p);
            }
          });
    ChatRequest chat;
    check(parse_chat_request(body->get_object(), {model_, options_}, chat), chat, [&] {
      Prompt p;
      accepted |= fits(make_chat_prompt(chat, prompts, {}, p), chat, p);
    });
    return accepted;
  }

 private:
  template <class F>
  void check(const std::optional<ApiError>& error, const GenerateRequest& r, F&& then) {
    if (error) {
      EXPECT_FALSE(error->message.empty());
      EXPECT_TRUE(json::parse(error_json(*error)).ok());
      return;
    }
    EXPECT_TRUE(r.n >= 1 && r.sampling.temperature >= 0 && r.sampling.top_p > 0 &&
                r.sampling.top_k >= 0 && r.sampling.repetition_penalty > 0);
    then();
  }
  bool fits(const std::optional<ApiError>& error, const GenerateRequest& r, const Prompt& p) {
    if (error) {
      EXPECT_FALSE(error->message.empty());
      return false;
    }
    EXPECT_FALSE(p.ids.empty());
    int32_t max_tokens = 0;
    if (fit_to_context(r, true, p.ids.size(), model_, max_tokens)) return false;
    EXPECT_GE(max_tokens, 1);
    EXPECT_LE(p.ids.size() + static_cast<size_t>(max_tokens), 129u);
    return true;
  }

  ServerModel model_;
  config::ServerOptions options_;
};

TEST_F(RequestFuzz, Seeds) {
  for (std::string_view seed : kSeeds) EXPECT_TRUE(run(seed)) << seed;
}

TEST_F(RequestFuzz, Mutations) {
  std::mt19937 random(11);
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text(kSeeds[random() % std::size(kSeeds)]);
    for (size_t edits = 1 + random() % 3; edits > 0 && !text.empty(); --edits) {
      const size_t at = random() % text.size();
      if (random() % 2 == 0) {  // another value behind a colon or comma
        const size_t begin = text.find_first_of(":,[", at);
        if (begin == std::string::npos) continue;
        const size_t end = text.find_first_of(",]}", begin + 1);
        text.replace(begin + 1, end == std::string::npos ? end : end - begin - 1,
                     kValues[random() % std::size(kValues)]);
      } else if (random() % 2 == 0) {
        text[at] = static_cast<char>(random());
      } else {
        text.erase(at, 1 + random() % 8);
      }
    }
    accepted += run(text);
  }
  EXPECT_GT(accepted, 200) << "the mutations are too wild to test anything";
}

}  // namespace
}  // namespace moestro::server::openai
