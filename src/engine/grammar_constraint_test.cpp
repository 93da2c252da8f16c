// Masks of tokens: exactly the tokens whose bytes the grammar allows, end tokens only where a text
// may end; computed by the workers, in order, and applied by sampling.
#include "engine/grammar_constraint.h"

#include <gtest/gtest.h>

#include <random>

#include "base/format.h"
#include "engine/sampling_state.h"
#include "text/fixture_tokenizer.h"
#include "text/grammar/grammar_sources.h"

namespace moestro::engine {
namespace {

std::shared_ptr<const text::CompiledGrammar> grammar(std::string_view schema) {
  text::GrammarBuilder b;
  auto node = text::add_json_schema(b, json::parse(schema).value());
  EXPECT_TRUE(node.ok()) << node.status().message();
  auto compiled = b.compile(*node);
  EXPECT_TRUE(compiled.ok());
  return *compiled;
}

constexpr std::string_view kSchema =
    R"({"type":"object","properties":{"name":{"type":"string"},"n":{"type":"array","items":{"type":"integer"}}},
        "required":["name","n"]})";

class GrammarConstraintTest : public testing::Test {
 protected:
  void SetUp() override {
    text::Fixture f;
    f.byte_alphabet = true;
    f.decoder =
        R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
    f.more_tokens = {"<end>", "\"}",  "{\"",       "\":", "Ġ\"", "],",
                     "na",    "name", "\",Ġ\"n\"", "12",  "Ã¤",  "[1"};
    f.added_tokens =
        R"([{"id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}])";
    auto tokenizer = text::Tokenizer::load(f.json(), "");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    tokenizer_ = std::move(*tokenizer);
    trie_ = std::make_shared<text::TokenTrie>(*tokenizer_, std::vector<std::string>{});
  }
  std::shared_ptr<GrammarConstraint> make(const std::shared_ptr<const text::CompiledGrammar>& g) {
    auto c = GrammarConstraint::create(g, trie_, {stop_}, workers_);
    EXPECT_TRUE(c.ok()) << c.status().message();
    return *c;
  }
  static bool allowed(std::span<const uint32_t> mask, int32_t id) {
    return mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1;
  }

  static constexpr int32_t stop_ = 256;
  MaskWorkers workers_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::shared_ptr<const text::TokenTrie> trie_;
};

TEST_F(GrammarConstraintTest, MasksAreWhatTheGrammarAllows) {
  std::mt19937 random(3);
  const auto g = grammar(kSchema);
  for (int round = 0; round < 10; ++round) {
    const auto c = make(g);
    text::GrammarMatcher reference(g);
    std::string text;
    for (int step = 0; step < 200; ++step) {
      const auto mask = c->mask();
      std::vector<int32_t> all;
      for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
        bool want = id == stop_ ? reference.accepting() : false;
        if (!trie_->bytes(id).empty()) {
          auto state = reference.state();
          for (const char c : trie_->bytes(id))
            if (state != text::GrammarMatcher::kDead)
              state = reference.step(state, static_cast<uint8_t>(c));
          want = state != text::GrammarMatcher::kDead;
        }
        ASSERT_EQ(allowed(mask, id), want) << "token " << id << " after " << text;
        if (want) all.push_back(id);
      }
      ASSERT_FALSE(all.empty());
      const int32_t id = all[random() % all.size()];
      if (id == stop_) break;
      c->advance(id);
      text += trie_->bytes(id);
      ASSERT_TRUE(reference.accept(trie_->bytes(id)));
    }
  }
}

TEST_F(GrammarConstraintTest, SamplingMasksLogits) {
  SamplingParams params;
  params.constraint = make(grammar("{\"const\":34}"));
  SamplingState state(params, {}, std::vector<int32_t>{stop_}, 1, tokenizer_->vocab_size());
  ASSERT_TRUE(state.edits(0));
  std::vector<float> row(static_cast<size_t>(tokenizer_->vocab_size()) + 40, 1.0f);
  for (const char digit : {'3', '4'}) {
    std::vector<float> edited = row;
    state.edit(edited.data(), static_cast<int32_t>(edited.size()), 0);
    for (size_t i = 0; i < edited.size(); ++i)
      EXPECT_EQ(edited[i] == 1.0f, static_cast<int32_t>(i) == digit) << i;
    state.add(digit);
  }
  state.edit(row.data(), static_cast<int32_t>(row.size()), 2);
  for (size_t i = 0; i < row.size(); ++i)
    EXPECT_EQ(row[i] == 1.0f, static_cast<int32_t>(i) == stop_);
}

TEST_F(GrammarConstraintTest, MayEndWhileAMaskIsComputed) {
  for (int i = 0; i < 200; ++i) {
    auto c = make(grammar("true"));
    c->advance('[');
    if (i % 2 == 0) c->mask();
  }
}

TEST_F(GrammarConstraintTest, ATokenOutsideTheGrammarLeavesNone) {
  auto c = make(grammar("true"));
  c->advance('x');
  for (const uint32_t word : c->mask()) EXPECT_EQ(word, 0u);
}

}  // namespace
}  // namespace moestro::engine
