// Damaged and hostile files: every one is an error at load that says what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "text/fixture_tokenizer.h"
#include "text/tokenizer.h"

namespace moestro::text {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view tokenizer_json, std::string_view config = "") {
  const auto t = Tokenizer::load(tokenizer_json, config);
  return t.ok() ? "loaded" : t.status().message();
}

std::string with_model(std::string_view model) {
  return R"({"model": )" + std::string(model) + "}";
}

TEST(MalformedTokenizer, Json) {
  EXPECT_THAT(error_of(""), HasSubstr("tokenizer.json"));
  EXPECT_THAT(error_of("[]"), HasSubstr("must be a JSON object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("no object \"model\""));
  EXPECT_THAT(error_of(R"({"model": {"vocab": {"a": 0}, "merges": []})"), HasSubstr("incomplete"));
  EXPECT_THAT(error_of(R"({"model": 3})"), HasSubstr("no object \"model\""));
  EXPECT_THAT(error_of(with_model(R"({"vocab": {"a": 0, "a": 1}, "merges": []})")),
              HasSubstr("twice"));
  EXPECT_THAT(error_of(with_model("{\"vocab\": {\"\xff\": 0}, \"merges\": []}")),
              HasSubstr("not valid"));
  EXPECT_THAT(
      error_of(R"({"normalizer": )" + std::string(1000, '[') + std::string(1000, ']') + "}"),
      HasSubstr("nested deeper"));
}

TEST(MalformedTokenizer, Model) {
  EXPECT_EQ(error_of(with_model(R"({"vocab": {"a": 0}, "merges": []})")), "loaded");
  const std::pair<const char*, const char*> cases[] = {
      {R"({"type": "Unigram", "vocab": [], "merges": []})", "Unigram"},
      {R"({"merges": []})", "\"vocab\""},
      {R"({"vocab": {}, "merges": []})", "empty"},
      {R"({"vocab": {"a": 0}})", "\"merges\""},
      {R"({"vocab": {"a": -1}, "merges": []})", "-1"},
      {R"({"vocab": {"a": 16777216}, "merges": []})", "16777216"},
      {R"({"vocab": {"a": 18446744073709551615}, "merges": []})", "18446744073709551615"},
      {R"({"vocab": {"a": "x"}, "merges": []})", "id"},
      {R"({"vocab": {"a": 1.0}, "merges": []})", "id"},
      {R"({"vocab": {"a": 0, "b": 0}, "merges": []})", "two tokens"},
      {R"({"vocab": {"a": 0, "b": 1}, "merges": ["a b"]})", "makes the token ab"},
      {R"({"vocab": {"a": 0, "ab": 1}, "merges": ["a b"]})", "names the token b"},
      {R"({"vocab": {"a": 0, "aa": 1}, "merges": ["a  a"]})", "one space"},
      {R"({"vocab": {"a": 0, "aa": 1}, "merges": ["aa"]})", "one space"},
      {R"({"vocab": {"a": 0, "": 1}, "merges": [["a", ""]]})", "empty part"},
      {R"({"vocab": {"a": 0}, "merges": [["a"]]})", "merge 0"},
      {R"({"vocab": {"a": 0}, "merges": [7]})", "merge 0"},
      {R"({"vocab": {"a": 0}, "merges": {}})", "\"merges\""},
      {R"({"vocab": {"a": 0}, "merges": [], "dropout": 0.1})", "dropout"},
      {R"({"vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"})", "end_of_word_suffix"},
      {R"({"vocab": {"a": 0}, "merges": [], "byte_fallback": 1})", "byte_fallback"},
  };
  for (const auto& [model, expected] : cases)
    EXPECT_THAT(error_of(with_model(model)), HasSubstr(expected)) << model;
}

TEST(MalformedTokenizer, Sections) {
  const auto with = [](std::string Fixture::*section, std::string_view text) {
    Fixture f = byte_level_fixture();
    f.*section = text;
    return error_of(f.json());
  };
  const auto added = &Fixture::added_tokens;
  EXPECT_THAT(with(added, R"([{"id": 300, "content": "x"}, {"id": 300, "content": "y"}])"),
              HasSubstr("share the id"));
  EXPECT_THAT(with(added, R"([{"id": 300, "content": "x"}, {"id": 301, "content": "x"}])"),
              HasSubstr("twice"));
  EXPECT_THAT(with(added, R"([{"id": 16777216, "content": "x"}])"), HasSubstr("16777216"));
  EXPECT_THAT(with(added, R"([{"content": "x"}])"), HasSubstr("-1"));
  EXPECT_THAT(with(added, R"({})"), HasSubstr("list"));
  EXPECT_THAT(with(&Fixture::normalizer, R"({"type": "Precompiled"})"), HasSubstr("Precompiled"));
  EXPECT_THAT(with(&Fixture::normalizer, R"("NFC")"), HasSubstr("object"));
  EXPECT_THAT(with(&Fixture::normalizer,
                   R"({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})"),
              HasSubstr("missing )"));
  EXPECT_THAT(with(&Fixture::pre_tokenizer,
                   R"({"type": "Split", "pattern": {"Regex": "(a*)*"}, "behavior": "Isolated"})"),
              HasSubstr("nested unbounded"));
  EXPECT_THAT(with(&Fixture::pre_tokenizer,
                   R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Maybe"})"),
              HasSubstr("Maybe"));
  EXPECT_THAT(with(&Fixture::pre_tokenizer, R"({"type": "Metaspace", "replacement": "ab"})"),
              HasSubstr("one character"));
  EXPECT_THAT(with(&Fixture::decoder, R"({"type": "WordPiece"})"), HasSubstr("WordPiece"));
  EXPECT_THAT(
      with(&Fixture::decoder, R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})"),
      HasSubstr("-1"));
  EXPECT_THAT(with(&Fixture::post_processor,
                   R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}],
      "special_tokens": {}})"),
              HasSubstr("no ids"));
  EXPECT_THAT(with(&Fixture::post_processor,
                   R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}],
      "special_tokens": {"x": {"id": "x", "ids": [999], "tokens": ["x"]}}})"),
              HasSubstr("999"));
  std::string deep = R"({"type": "NFC"})";
  for (int i = 0; i < 20; ++i) deep = R"({"type": "Sequence", "normalizers": [)" + deep + "]}";
  EXPECT_THAT(with(&Fixture::normalizer, deep), HasSubstr("nested"));
}

TEST(MalformedTokenizer, Config) {
  const std::string good = byte_level_fixture().json();
  EXPECT_THAT(error_of(good, "["), HasSubstr("tokenizer_config.json"));
  EXPECT_THAT(error_of(good, "3"), HasSubstr("object"));
  EXPECT_THAT(error_of(good, R"({"bos_token": 3})"), HasSubstr("bos_token"));
  EXPECT_THAT(error_of(good, R"({"added_tokens_decoder": {"x": {}}})"), HasSubstr("\"x\""));
  EXPECT_THAT(error_of(good, R"({"added_tokens_decoder": {"99999999": {"content": "y"}}})"),
              HasSubstr("99999999"));
  EXPECT_EQ(
      error_of(good, R"({"bos_token": null, "tokenizer_class": null, "chat_template": null})"),
      "loaded");
}

// Any damage either loads or is an error; what loads can be used.
TEST(MalformedTokenizer, RandomDamage) {
  std::mt19937 random(17);
  for (const std::string& good : {mixtral_fixture().json(), byte_level_fixture().json()})
    for (int i = 0; i < 400; ++i) {
      std::string text = good;
      for (size_t n = random() % 4 + 1; n > 0; --n) {
        const size_t at = random() % text.size();
        switch (random() % 3) {
          case 0:
            text[at] = static_cast<char>(random());
            break;
          case 1:
            text.erase(at, random() % 30);
            break;
          default:
            text.insert(at, text.substr(random() % text.size(), random() % 30));
            break;
        }
      }
      const auto t = Tokenizer::load(text, "");
      if (!t.ok()) {
        EXPECT_NE(t.status().message(), "");
        continue;
      }
      const std::vector<int32_t> ids = (*t)->encode("hello <s> world \xff é", true);
      EXPECT_TRUE(is_valid_utf8((*t)->decode(ids, true)));
    }
}

}  // namespace
}  // namespace moestro::text
