// Text streams: whatever way a text falls into tokens and events, the client sees the same text,
// the same cut at a stop string, nothing that is taken back, and every token once.
#include "engine/text_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "text/fixture_tokenizer.h"

namespace moestro::engine {
namespace {

using testing::ElementsAre;
constexpr int32_t kEos = 256;  // ids below 256 are the bytes in the order of their values

// A token for each byte, the special token "</s>", and any further tokens.
std::unique_ptr<text::Tokenizer> tokenizer_with(std::vector<std::string> more = {}) {
  text::Fixture fixture;
  fixture.byte_alphabet = true;
  fixture.pre_tokenizer =
      R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
  fixture.decoder =
      R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})";
  fixture.characters = {"</s>"};
  fixture.more_tokens = std::move(more);
  fixture.added_tokens = R"([{"id": 256, "content": "</s>", "single_word": false, "lstrip": false,
      "rstrip": false, "normalized": false, "special": true}])";
  auto tokenizer = text::Tokenizer::load(fixture.json(), "");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return std::move(tokenizer).value();
}

std::vector<int32_t> bytes_of(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

struct Seen {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string stop_string;
  int32_t stop_token = -1;
};

// Pushes the tokens, `per_event` at a time, with a logprob that tells which one it was.
Seen stream(const text::Tokenizer& tokenizer, const TextStreamOptions& options,
            const std::vector<int32_t>& tokens, FinishReason finish = FinishReason::kLength,
            int32_t stop_token = -1, size_t per_event = 1) {
  TextStream stream(tokenizer, options);
  Seen seen;
  for (size_t i = 0; i < tokens.size() && !stream.finished(); i += per_event) {
    TokenEvent event;
    for (size_t j = i; j < std::min(tokens.size(), i + per_event); ++j) {
      event.tokens.push_back(tokens[j]);
      event.logprobs.push_back({{{tokens[j], static_cast<float>(j), 1}}});
    }
    if (i + per_event >= tokens.size()) {
      event.finish = finish;
      event.stop_token = stop_token;
    }
    const TextDelta delta = stream.push(event);
    EXPECT_TRUE(is_valid_utf8(delta.text));
    EXPECT_EQ(delta.tokens.size(), delta.logprobs.size());
    seen.text += delta.text;
    seen.tokens.insert(seen.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    for (const auto& p : delta.logprobs) seen.logprobs.push_back(p.entries[0].logprob);
    seen.finish = delta.finish;
    seen.stop_string = delta.stop_string.value_or("");
    seen.stop_token = delta.stop_token.value_or(-1);
  }
  EXPECT_TRUE(stream.finished());
  EXPECT_EQ(static_cast<size_t>(stream.num_tokens()), seen.tokens.size());
  for (size_t i = 0; i < seen.logprobs.size(); ++i)
    EXPECT_EQ(seen.logprobs[i], static_cast<float>(i));
  TokenEvent late;
  late.tokens = {'x'};
  EXPECT_TRUE(stream.push(late).text.empty());
  EXPECT_TRUE(stream.push(late).tokens.empty());
  return seen;
}

TEST(TextStream, WithoutStopsTheTextIsTheDecodedText) {
  const auto tokenizer = tokenizer_with();
  const std::string text = "caf\u00e9 \u20ac \U0001F600 end";
  for (size_t per_event = 1; per_event < 8; ++per_event) {
    const Seen seen = stream(*tokenizer, {}, bytes_of(text), FinishReason::kLength, -1, per_event);
    EXPECT_EQ(seen.text, text);
    EXPECT_EQ(seen.tokens, bytes_of(text));
    EXPECT_EQ(seen.finish, FinishReason::kLength);
  }
  EXPECT_EQ(stream(*tokenizer, {}, {'a', 0xe2, 0x82}).text, "a\ufffd");  // cut inside a character
}

// Every way to cut "xxSTOPyy" into tokens: 2^7 vocabularies of pieces.
TEST(TextStream, AStopStringSplitInEveryWay) {
  const std::string text = "xxSTOPyy";
  for (uint32_t cuts = 0; cuts < 1u << (text.size() - 1); ++cuts) {
    std::vector<std::string> pieces(1);
    for (size_t i = 0; i < text.size(); ++i) {
      pieces.back() += text[i];
      if (i + 1 < text.size() && (cuts >> i & 1)) pieces.emplace_back();
    }
    std::vector<std::string> vocabulary;
    std::vector<int32_t> tokens;
    for (const std::string& piece : pieces) {
      if (piece.size() == 1) {
        tokens.push_back(static_cast<uint8_t>(piece[0]));
      } else {
        tokens.push_back(257 + static_cast<int32_t>(vocabulary.size()));
        vocabulary.push_back(piece);
      }
    }
    // The token that completes the stop string is the last one the client hears of.
    size_t completing = 0;
    for (size_t length = 0; completing < pieces.size() && length < 6; ++completing)
      length += pieces[completing].size();
    const auto tokenizer = tokenizer_with(vocabulary);
    for (const bool include : {false, true})
      for (const size_t per_event : {size_t{1}, size_t{3}, size_t{10}}) {
        TextStreamOptions options;
        options.stop = {"STOP"};
        options.include_stop_in_output = include;
        const Seen seen = stream(*tokenizer, options, tokens, FinishReason::kLength, -1, per_event);
        EXPECT_EQ(seen.text, include ? "xxSTOP" : "xx") << cuts;
        EXPECT_EQ(seen.stop_string, "STOP");
        EXPECT_EQ(seen.finish, FinishReason::kStop);
        EXPECT_EQ(seen.tokens,
                  std::vector<int32_t>(tokens.begin(),
                                       tokens.begin() + static_cast<std::ptrdiff_t>(completing)));
      }
  }
}

// The definition, on the whole text: the match that ends first, of those the one that begins first.
std::pair<std::string, std::string> cut_directly(const std::string& text,
                                                 const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view before = std::string_view(text).substr(0, end);
    const std::string* best = nullptr;
    for (const std::string& stop : stops)
      if (before.ends_with(stop) && (best == nullptr || stop.size() > best->size())) best = &stop;
    if (best != nullptr) return {text.substr(0, end - best->size()), *best};
  }
  return {text, ""};
}

TEST(TextStream, RandomTextsAgreeWithTheDefinition) {
  const auto tokenizer = tokenizer_with({"ab", "ba", "aab", "bb", "abab"});
  const std::vector<std::string> pieces{"ab", "ba", "aab", "bb", "abab"};
  std::mt19937 rng(4);
  for (int round = 0; round < 3000; ++round) {
    TextStreamOptions options;
    for (uint32_t n = rng() % 4; n > 0; --n) {
      std::string stop;
      for (auto length = 1 + rng() % 6; length > 0; --length) stop += "abc"[rng() % 3];
      options.stop.push_back(stop);
    }
    std::string text;
    std::vector<int32_t> tokens;
    for (int i = 0; i < 12; ++i) {
      const uint32_t pick = rng() % 8;
      tokens.push_back(pick < 5 ? 257 + static_cast<int32_t>(pick)
                                : 'a' + static_cast<int32_t>(pick) - 5);
      text += pick < 5 ? pieces[pick] : std::string(1, "abc"[pick - 5]);
    }
    const auto [expected, stop] = cut_directly(text, options.stop);
    const Seen seen = stream(*tokenizer, options, tokens, FinishReason::kLength, -1, 1 + rng() % 4);
    ASSERT_EQ(seen.text, expected) << text;
    ASSERT_EQ(seen.stop_string, stop) << text;
  }
}

TEST(TextStream, OnlyAPossibleBeginningIsHeldBack) {
  const auto tokenizer = tokenizer_with();
  TextStreamOptions options;
  options.stop = {"\n\nQ:", "###"};
  TextStream stream(*tokenizer, options);
  const auto push = [&](char c) {
    TokenEvent event;
    event.tokens = {static_cast<uint8_t>(c)};
    return stream.push(event);
  };
  EXPECT_EQ(push('a').text, "a");
  const TextDelta held = push('\n');
  EXPECT_EQ(held.text, "");
  EXPECT_TRUE(held.tokens.empty());
  EXPECT_EQ(push('\n').text, "");
  EXPECT_EQ(push('\n').text, "\n");  // the last two may still begin it
  const TextDelta freed = push('b');
  EXPECT_EQ(freed.text, "\n\nb");
  EXPECT_THAT(freed.tokens, ElementsAre('\n', '\n', 'b'));
  EXPECT_EQ(push('#').text, "");
}

TEST(TextStream, HeldTextComesOutAtTheEnd) {
  const auto tokenizer = tokenizer_with();
  TextStreamOptions options;
  options.stop = {"STOP"};
  const Seen seen = stream(*tokenizer, options, bytes_of("abSTO"));
  EXPECT_EQ(seen.text, "abSTO");
  EXPECT_EQ(seen.finish, FinishReason::kLength);
  EXPECT_EQ(seen.tokens, bytes_of("abSTO"));
}

TEST(TextStream, AStopTokenHasNoTextUnlessAskedFor) {
  const auto tokenizer = tokenizer_with();
  for (const bool include : {false, true}) {
    TextStreamOptions options;
    options.include_stop_in_output = include;
    options.skip_special_tokens = false;
    const Seen seen = stream(*tokenizer, options, {'h', 'i', kEos}, FinishReason::kStop, kEos);
    EXPECT_EQ(seen.text, include ? "hi</s>" : "hi");
    EXPECT_EQ(seen.stop_token, kEos);
    EXPECT_THAT(seen.tokens, ElementsAre('h', 'i', kEos));
  }
  TextStreamOptions hidden;
  hidden.include_stop_in_output = true;  // but it is a special token, and these are skipped
  EXPECT_EQ(stream(*tokenizer, hidden, {'h', 'i', kEos}, FinishReason::kStop, kEos).text, "hi");
}

TEST(TextStream, StopStringsCountOnlyAfterMinTokens) {
  const auto tokenizer = tokenizer_with();
  TextStreamOptions options;
  options.stop = {"ab"};
  options.min_tokens = 2;
  EXPECT_EQ(stream(*tokenizer, options, bytes_of("abcab!")).text, "abc");
  options.min_tokens = 1;  // completed by the second token: counts
  EXPECT_EQ(stream(*tokenizer, options, bytes_of("abcab!")).text, "");
  options.min_tokens = 6;
  EXPECT_EQ(stream(*tokenizer, options, bytes_of("abcab!")).text, "abcab!");
}

TEST(TextStream, ContinuesThePrompt) {
  const auto created = text::Tokenizer::load(text::mixtral_fixture().json(), "");
  ASSERT_TRUE(created.ok());
  const text::Tokenizer& tokenizer =
      *const_cast<Result<std::unique_ptr<text::Tokenizer>>&>(created).value();
  const std::vector<int32_t> prompt = tokenizer.encode("hello", false),
                             next = tokenizer.encode("world", false);
  TextStreamOptions options;
  EXPECT_EQ(stream(tokenizer, options, next).text, "world");
  options.prompt_tail = prompt;
  EXPECT_EQ(stream(tokenizer, options, next).text, " world");
}

}  // namespace
}  // namespace moestro::engine
