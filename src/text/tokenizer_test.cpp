// Whole tokenizers built in the test. Expected tokens are those of Hugging Face tokenizers 0.23.3.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "text/detokenizer.h"
#include "text/fixture_tokenizer.h"

namespace moestro::text {
namespace {

std::unique_ptr<Tokenizer> load(const Fixture& fixture, std::string_view config = "") {
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(fixture.json(), config);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

std::string round_trip(const Tokenizer& tokenizer, std::string_view text,
                       bool skip_special_tokens = false) {
  return tokenizer.decode(tokenizer.encode(text, false), skip_special_tokens);
}

TEST(Tokenizer, SentencePieceWithPrepend) {
  const auto t = load(mixtral_fixture());
  EXPECT_EQ(token_texts(*t, "hello world"), "▁hello|▁world");
  EXPECT_EQ(token_texts(*t, "hello  world"), "▁hello|▁▁|w|or|ld");
  EXPECT_EQ(token_texts(*t, ""), "");
  EXPECT_EQ(token_texts(*t, "a 中é."), "▁a|▁|<0xE4>|<0xB8>|<0xAD>|<0xC3>|<0xA9>|.");
  EXPECT_EQ(token_texts(*t, "hello<s>world</s> a"), "▁hello|<s>|▁world|</s>|▁▁|a");
  EXPECT_EQ(token_texts(*t, "x\nhello   world     a"), "▁|<0x78>|<0x0A>|hell|o|▁▁|▁world|▁▁▁▁|▁a");
  EXPECT_EQ(token_texts(*t, "ß▁a"), "▁|<0xC3>|<0x9F>|▁a");
  EXPECT_EQ(token_texts(*t, "hello", true), "<s>|▁hello");
  EXPECT_EQ(token_texts(*t, "", true), "<s>");
  EXPECT_EQ(round_trip(*t, "hello<s>world</s> a"), "hello<s> world</s>  a");
  EXPECT_EQ(round_trip(*t, "hello<s>world</s> a", true), "hello world  a");
  EXPECT_EQ(round_trip(*t, "a 中é."), "a 中é.");
  EXPECT_EQ(t->token_bytes(*t->token_id("▁hello")), " hello");
  EXPECT_EQ(t->token_bytes(*t->token_id("<0xE4>")), "\xe4");
  EXPECT_EQ(t->token_bytes(*t->token_id("<s>")), "<s>");
  ASSERT_TRUE(t->unk());
  EXPECT_EQ(t->unk()->id, 256);
}

TEST(Tokenizer, SentencePieceWithMetaspace) {
  const auto t = load(metaspace_fixture());
  EXPECT_EQ(token_texts(*t, "hello world"), "▁hello|▁world");
  EXPECT_EQ(token_texts(*t, " hello"), "▁hello");
  EXPECT_EQ(token_texts(*t, "<s>hello hello"), "<s>|hell|o|▁hello");
  EXPECT_EQ(token_texts(*t, "a<s> a"), "▁a|<s>|▁a");
  EXPECT_EQ(token_texts(*t, "▁a"), "▁a");
}

TEST(Tokenizer, ByteLevelWithOldAndNewMerges) {
  for (const bool pairs : {false, true}) {
    Fixture f = byte_level_fixture();
    f.merges_as_pairs = pairs;
    const auto t = load(f);
    EXPECT_EQ(token_texts(*t, "hello worldé"), "hello|Ġworld|Ã©");
    EXPECT_EQ(token_texts(*t, "wwhello"), "w|w|hello");
    EXPECT_EQ(round_trip(*t, "hello worldé 中\x01"), "hello worldé 中\x01");
    EXPECT_EQ(t->token_bytes(*t->token_id("Ġworld")), " world");
    EXPECT_EQ(t->token_bytes(*t->token_id("Ã")), "\xc3");
    EXPECT_EQ(t->token_bytes(-1), "");
    EXPECT_EQ(t->vocab_size(), 256 + 10);
  }
}

TEST(Tokenizer, RepairsInvalidUtf8) {
  const auto t = load(byte_level_fixture());
  EXPECT_EQ(round_trip(*t,
                       "a\xff"
                       "b\xe4\xb8"),
            "a\ufffdb\ufffd");
  EXPECT_EQ(t->encode("\xed\xa0\x80", false), t->encode("\ufffd\ufffd\ufffd", false));
  const std::vector<int32_t> broken = {*t->token_id("Ã"), *t->token_id("h")};
  EXPECT_EQ(t->decode(broken, false), "\ufffdh");
}

TEST(Tokenizer, IgnoreMerges) {
  Fixture f = byte_level_fixture();
  f.model_options = R"("ignore_merges": true, )";
  f.more_tokens = {"worldly", "\u0120hello"};
  const auto t = load(f);
  EXPECT_EQ(token_texts(*t, "worldly hello worldly"), "worldly|Ġhello|Ġworld|l|y");
  EXPECT_EQ(token_texts(*t, "hello hello"), "hello|Ġhello");
  f.model_options = "";
  EXPECT_EQ(token_texts(*load(f), "hello hello"), "hello|Ġ|hello");
}

TEST(Tokenizer, TheLaterOfTwoEqualMergesCounts) {
  Fixture f;
  f.characters = {"a", "b", "c"};
  f.merges = {"a b", "b c"};
  EXPECT_EQ(token_texts(*load(f), "abc"), "ab|c");
  f.merges = {"a b", "b c", "a b"};
  EXPECT_EQ(token_texts(*load(f), "abc"), "a|bc");
}

constexpr std::string_view kAddedTokens = R"([
  {"id": 300, "content": "<a>", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false, "special": true},
  {"id": 301, "content": "<b>", "single_word": false, "lstrip": false, "rstrip": true, "normalized": false, "special": true},
  {"id": 302, "content": "cat", "single_word": true, "lstrip": false, "rstrip": false, "normalized": false, "special": false},
  {"id": 303, "content": "<a><c>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false},
  {"id": 304, "content": "DOG", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false},
  {"id": 305, "content": "<n>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": true, "special": true}])";

TEST(Tokenizer, AddedTokens) {
  Fixture f = byte_level_fixture();
  f.added_tokens = kAddedTokens;
  f.normalizer = R"({"type": "Lowercase"})";
  const auto t = load(f);
  EXPECT_EQ(token_texts(*t, "x <a> <b>  y"), "x|<a>|Ġ|<b>|y");
  EXPECT_EQ(token_texts(*t, "catcat cat _cat, cat"), "c|a|t|c|a|t|Ġ|cat|Ġ|_|c|a|t|,|Ġ|cat");
  EXPECT_EQ(token_texts(*t, "<a><c> <a>"), "<a><c>|<a>");
  EXPECT_EQ(t->encode("dog DOG", false), (std::vector<int32_t>{304, *t->token_id("Ġ"), 304}));
  EXPECT_EQ(t->encode("x  <n>\n y", false),
            (std::vector<int32_t>{*t->token_id("x"), 305, *t->token_id("y")}));
  EXPECT_EQ(token_texts(*t, "écat caté"), "Ã©|c|a|t|Ġ|c|a|t|Ã©");
  EXPECT_EQ(token_texts(*t, "<b> <b>"), "<b>|<b>");
  EXPECT_EQ(round_trip(*t, "x <a> cat", true), "x cat");
  EXPECT_EQ(round_trip(*t, "x <a> cat", false), "x<a> cat");
  EXPECT_EQ(t->vocab_size(), 306);
  EXPECT_TRUE(t->is_special(300) && t->is_added(302) && !t->is_special(302) && !t->is_added(5) &&
              t->is_known(5));
  EXPECT_FALSE(t->is_known(299) || t->is_known(-1) || t->is_known(1 << 30));
  EXPECT_EQ(t->token_content(299), "");
  EXPECT_EQ(t->decode(std::vector<int32_t>{299, -5, 1 << 30, 302}, false), "cat");
}

TEST(Tokenizer, UnknownCharacters) {
  Fixture f;
  f.characters = {"<unk>", "a", "b"};
  f.merges = {"a b"};
  f.model_options = R"("unk_token": "<unk>", "fuse_unk": false, )";
  EXPECT_EQ(token_texts(*load(f), "axxb"), "a|<unk>|<unk>|b");
  EXPECT_EQ(round_trip(*load(f), "abx"), "ab <unk>");
  f.model_options = R"("unk_token": "<unk>", "fuse_unk": true, )";
  EXPECT_EQ(token_texts(*load(f), "axxb"), "a|<unk>|b");
  EXPECT_EQ(token_texts(*load(f), "xx"), "<unk>");
  f.model_options = "";
  EXPECT_EQ(token_texts(*load(f), "axxb"), "ab");
  f.characters = {"<unk>", "a", "<0xC3>", "<0xA9>"};
  f.merges = {};
  f.model_options = R"("unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, )";
  EXPECT_EQ(token_texts(*load(f), "aé中éa"), "a|<0xC3>|<0xA9>|<0xC3>|<0xA9>|<unk>|a");
}

TEST(Tokenizer, ConfigGivesRolesAndBos) {
  Fixture f = byte_level_fixture();
  f.added_tokens = R"([{"id": 300, "content": "<s>", "special": true, "normalized": false}])";
  const auto t = load(
      f,
      R"({"bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": "hello", "pad_token": null,
      "add_bos_token": true, "add_eos_token": false, "tokenizer_class": "LlamaTokenizerFast",
      "added_tokens_decoder": {"300": {"content": "<s>"}, "301": {"content": "<new>", "special": false}}})");
  EXPECT_EQ(token_texts(*t, "ab", true), "<s>|a|b");
  EXPECT_EQ(token_texts(*t, "<s>ab", true), "<s>|a|b");
  EXPECT_EQ(token_texts(*t, "ab", false), "a|b");
  EXPECT_EQ(t->bos()->id, 300);
  EXPECT_EQ(t->eos()->id, *t->token_id("hello"));
  EXPECT_TRUE(t->is_special(*t->eos()->id));
  EXPECT_FALSE(t->pad());
  EXPECT_EQ(t->encode("<new>", false), (std::vector<int32_t>{301}));

  const auto other = load(f, R"({"bos_token": "<s>", "eos_token": "nowhere", "add_bos_token": true,
      "tokenizer_class": "Qwen2Tokenizer"})");
  EXPECT_EQ(token_texts(*other, "ab", true), "a|b");
  ASSERT_TRUE(other->eos());
  EXPECT_FALSE(other->eos()->id);
}

TEST(Tokenizer, PostProcessors) {
  Fixture f = byte_level_fixture();
  f.added_tokens = R"([{"id": 300, "content": "<s>"}, {"id": 301, "content": "</s>"}])";
  f.post_processor =
      R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
      "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "both", "type_id": 0}}],
      "pair": [], "special_tokens": {"both": {"id": "both", "ids": [301, 300], "tokens": ["</s>", "<s>"]}}}]})";
  EXPECT_EQ(token_texts(*load(f), "ab", true), "a|b|</s>|<s>");
  EXPECT_EQ(token_texts(*load(f), "ab", false), "a|b");
  f.post_processor = R"({"type": "RobertaProcessing", "sep": ["</s>", 301], "cls": ["<s>", 300]})";
  EXPECT_EQ(token_texts(*load(f), "ab", true), "<s>|a|b|</s>");
}

// The plain definition of BPE, quadratic.
std::vector<std::string> slow_bpe(std::string_view text, const std::vector<std::string>& merges) {
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  for (;;) {
    size_t best_rank = merges.size(), best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i)
      for (size_t r = 0; r < best_rank; ++r)
        if (merges[r] == symbols[i] + " " + symbols[i + 1]) best_rank = r, best = i;
    if (best_rank == merges.size()) return symbols;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(Tokenizer, HeapAndShortMergeEqualTheDefinition) {
  Fixture f;
  f.characters = {"a", "b", "c"};
  std::mt19937 random(3);
  std::vector<std::string> tokens = f.characters;
  while (f.merges.size() < 40) {
    const std::string &x = tokens[random() % tokens.size()], &y = tokens[random() % tokens.size()];
    const std::string merge = x + " " + y, result = x + y;
    bool seen = result.size() > 6;
    for (const std::string& m : f.merges) seen |= m == merge;
    if (seen) continue;
    f.merges.push_back(merge);
    tokens.push_back(result);
  }
  const auto t = load(f);
  for (const size_t length : {1, 2, 5, 20, 39, 40, 41, 42, 60, 150})
    for (int i = 0; i < 30; ++i) {
      std::string text;
      while (text.size() < length) text += static_cast<char>('a' + random() % 3);
      std::string expected;
      for (const std::string& s : slow_bpe(text, f.merges))
        expected += (expected.empty() ? "" : "|") + s;
      ASSERT_EQ(token_texts(*t, text), expected) << text;
    }
}

TEST(Tokenizer, LongWordsAreNotQuadratic) {
  for (const Fixture& f : {byte_level_fixture(), mixtral_fixture()}) {
    const auto t = load(f);
    for (const char* unit : {"l", "hel", " ", "中", "\n"}) {
      std::string text;
      while (text.size() < 1'000'000) text += unit;
      EXPECT_EQ(round_trip(*t, text).size(), text.size()) << unit;  // quadratic would take hours
    }
  }
}

TEST(Tokenizer, EncodesFromManyThreads) {
  const auto t = load(byte_level_fixture());
  const std::string text = "hello world, hello é wor helloworld ";
  const std::vector<int32_t> expected = t->encode(text, false);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < wrong.size(); ++i)
    threads.emplace_back([&, i] {
      for (int n = 0; n < 500; ++n) wrong[i] += t->encode(text, false) != expected;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

bool whole_characters(std::string_view text) { return is_valid_utf8(text); }

TEST(StreamingDetokenizer, EqualsDecodeOnRandomIds) {
  std::mt19937 random(11);
  Fixture added = byte_level_fixture();
  added.added_tokens = kAddedTokens;
  Fixture fuse_strip = metaspace_fixture();
  fuse_strip.decoder =
      R"({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Replace", "pattern": {"Regex": "l+"}, "content": "L"}, {"type": "Strip", "content": "L", "start": 1, "stop": 2}]})";
  Fixture meta = metaspace_fixture();
  meta.decoder =
      R"({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": false})";
  Fixture bare = mixtral_fixture();
  bare.decoder = "null";
  for (const Fixture& f : {added, mixtral_fixture(), fuse_strip, meta, bare}) {
    const auto t = load(f);
    for (int i = 0; i < 2000; ++i) {
      std::vector<int32_t> ids;
      for (size_t n = random() % 20; n > 0; --n)
        ids.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(t->vocab_size() + 2)));
      const bool skip = random() % 2;
      StreamingDetokenizer stream(*t, skip);
      std::string all;
      for (const int32_t id : ids) {
        const std::string piece = stream.push(id);
        ASSERT_TRUE(whole_characters(piece));
        all += piece;
      }
      all += stream.flush();
      ASSERT_EQ(all, t->decode(ids, skip));
    }
  }
}

TEST(StreamingDetokenizer, EmitsAsSoonAsCharactersAreWhole) {
  const auto t = load(byte_level_fixture());
  StreamingDetokenizer stream(*t, false);
  EXPECT_EQ(stream.push(*t->token_id("hello")), "hello");
  const std::string emoji = "\U0001f600";
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(stream.push(t->encode(emoji, false)[i]), "");
  EXPECT_EQ(stream.push(t->encode(emoji, false)[3]), emoji);
  EXPECT_EQ(stream.push(t->encode(emoji, false)[0]), "");
  EXPECT_EQ(stream.push(t->encode(emoji, false)[1]), "");
  EXPECT_EQ(stream.push(*t->token_id("h")), "\ufffdh");
  EXPECT_EQ(stream.push(t->encode(emoji, false)[0]), "");
  EXPECT_EQ(stream.flush(), "\ufffd");
}

TEST(StreamingDetokenizer, PrimedStreamKeepsTheSpaceOfItsFirstToken) {
  const auto t = load(mixtral_fixture());
  StreamingDetokenizer fresh(*t, false), primed(*t, false);
  EXPECT_EQ(fresh.push(*t->token_id("▁world")), "world");
  primed.prime(t->encode("hello", false));
  EXPECT_EQ(primed.push(*t->token_id("▁world")), " world");
}

TEST(StreamingDetokenizer, HoldsByteRunsUntilTheyEnd) {
  const auto t = load(mixtral_fixture());
  StreamingDetokenizer stream(*t, false);
  for (const char* token : {"<0xE4>", "<0xB8>", "<0xAD>"})
    EXPECT_EQ(stream.push(*t->token_id(token)), "");
  EXPECT_EQ(stream.push(*t->token_id("a")), "中a");
  EXPECT_EQ(stream.push(*t->token_id("<0x41>")), "");
  EXPECT_EQ(stream.push(*t->token_id("<0xFF>")), "");
  EXPECT_EQ(stream.flush(), "\ufffd\ufffd");
}

}  // namespace
}  // namespace moestro::text
