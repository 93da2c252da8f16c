// Pre-tokenizer, normalizer and decoder sections against what the reference implementation (Hugging
// Face tokenizers 0.23.3) gives for them; and the scanners against the regular expressions they
// stand for.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/format.h"
#include "text/byte_map.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/onig_pattern.h"
#include "text/pretokenizer.h"
#include "text/unicode_class.h"

namespace moestro::text {
namespace {

struct Case {
  std::string_view section, text, expected;
};

class Joiner final : public Pretokenizer::Sink {
 public:
  explicit Joiner(bool byte_level) : byte_level_(byte_level) {}
  void pre_token(std::string_view text) override {
    if (!joined.empty()) joined += '|';
    if (byte_level_)
      append_mapped(joined, text);
    else
      joined += text;
  }
  std::string joined;

 private:
  bool byte_level_;
};

constexpr Case kPretokenizers[] = {
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Removed", "invert": false})j",
     "a-b--c-", "a|b|c"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Removed", "invert": false})j",
     "--a", "a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Removed", "invert": true})j",
     "a-b--c-", "-|-|-|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Removed", "invert": true})j",
     "--a", "-|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Isolated", "invert": false})j",
     "a-b--c-", "a|-|b|-|-|c|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Isolated", "invert": false})j",
     "--a", "-|-|a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Isolated", "invert": true})j",
     "a-b--c-", "a|-|b|-|-|c|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Isolated", "invert": true})j",
     "--a", "-|-|a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithPrevious", "invert": false})j",
     "a-b--c-", "a-|b-|-|c-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithPrevious", "invert": false})j",
     "--a", "-|-|a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithPrevious", "invert": true})j",
     "a-b--c-", "a|-b|-|-c|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithPrevious", "invert": true})j",
     "--a", "-|-a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithNext", "invert": false})j",
     "a-b--c-", "a|-b|-|-c|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithNext", "invert": false})j",
     "--a", "-|-a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithNext", "invert": true})j",
     "a-b--c-", "a-|b-|-|c-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithNext", "invert": true})j",
     "--a", "-|-|a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Contiguous", "invert": false})j",
     "a-b--c-", "a|-|b|--|c|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Contiguous", "invert": false})j",
     "--a", "--|a"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Contiguous", "invert": true})j",
     "a-b--c-", "a|-|b|--|c|-"},
    {R"j({"type": "Split", "pattern": {"String": "-"}, "behavior": "Contiguous", "invert": true})j",
     "--a", "--|a"},
    {R"j({"type": "Split", "pattern": {"Regex": "x*"}, "behavior": "Isolated", "invert": false})j",
     "axxb", "a|xx|b"},
    {R"j({"type": "Digits", "individual_digits": true})j", "a123 4b", "a|1|2|3| |4|b"},
    {R"j({"type": "Digits", "individual_digits": false})j", "a123 4b\u0663\u00bd",
     "a|123| |4|b|\u0663\u00bd"},
    {R"j({"type": "Whitespace"})j", "Hey, you!  \u00e9_1 \u4e2d\u6587\u3002",
     "Hey|,|you|!|\u00e9_1|\u4e2d\u6587|\u3002"},
    {R"j({"type": "WhitespaceSplit"})j", "a\u3000b \n c", "a|b|c"},
    {R"j({"type": "Punctuation", "behavior": "Isolated"})j", "a,b!! $c\u3002",
     "a|,|b|!|!| |$|c|\u3002"},
    {R"j({"type": "BertPreTokenizer"})j", "a,b!! $c\u3002 d", "a|,|b|!|!|$|c|\u3002|d"},
    {R"j({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})j",
     "Hello  world's\n\n \u00e9 12",
     "\u0120Hello|\u0120|\u0120world|'s|\u010a\u010a|\u0120\u00c3\u00a9|\u012012"},
    {R"j({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})j",
     "  x", "\u0120|\u0120x"},
    {R"j({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})j",
     "a b", "a\u0120b"},
    {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true})j",
     "a  b c", "\u2581a|\u2581|\u2581b|\u2581c"},
    {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true})j",
     "\u2581a ", "\u2581a|\u2581"},
    {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true})j",
     " a", "\u2581a"},
    {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": false})j",
     "a  b c", "\u2581a\u2581\u2581b\u2581c"},
    {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": false})j",
     " a", "\u2581a"},
    {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": true})j",
     "a  b c", "a|\u2581|\u2581b|\u2581c"},
    {R"j({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "MergedWithPrevious"}, {"type": "Digits", "individual_digits": true}]})j",
     "ab,c12 d!", "ab,|c|1|2|d!"},
    {R"j({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}, {"type": "Split", "pattern": {"String": "\u0120"}, "behavior": "MergedWithNext", "invert": false}]})j",
     "a b\u00e9 c", "a|\u0120b\u00c3\u00a9|\u0120c"},
    {R"j({"type": "Split", "pattern": {"Regex": "[\\p{Lu}&&[^A-C]]+|[a[xyz]]+|[^\\S\\n]"}, "behavior": "Isolated", "invert": false})j",
     "ABCDEFaxyzb q\n\tH", "ABC|DEF|axyz|b| |q\n|\t|H"},
    {R"j({"type": "Split", "pattern": {"Regex": "[\\p{Han}]+|[\\p{L}&&[^\\p{Han}]]+"}, "behavior": "Isolated", "invert": false})j",
     "abc\u4e2d\u6587de\u0444\u0433\u6f22\u5b57\u3002",
     "abc|\u4e2d\u6587|de\u0444\u0433|\u6f22\u5b57|\u3002"},
    {R"j({"type": "Split", "pattern": {"Regex": "(?<=a)b|\\h{2,3}|\\u4e2d"}, "behavior": "Isolated", "invert": false})j",
     "abfFf0\u4e2dgcb", "abf|Ff0|\u4e2d|g|cb"},
    {R"j({"type": "Split", "pattern": {"Regex": "^\\w+$|(?m:x.y)|\\bq\\b"}, "behavior": "Isolated", "invert": false})j",
     "one\ntwo three\nx\ny q qq", "one|\ntwo three\n|x|\ny |q| qq"},
    {R"j({"type": "Split", "pattern": {"Regex": "(?i:stra\u00dfe|k)"}, "behavior": "Isolated", "invert": false})j",
     "aKbKstra\u00dfe", "a|K|b|K|stra\u00dfe"},
};

TEST(Pretokenizer, EqualsTheReference) {
  for (const Case& c : kPretokenizers) {
    const json::value section = json::parse(c.section).value();
    const Result<Pretokenizer> pretokenizer = Pretokenizer::parse(&section);
    ASSERT_TRUE(pretokenizer.ok()) << c.section << pretokenizer.status().message();
    RegexScratch scratch;
    Joiner sink(pretokenizer->byte_level());
    pretokenizer->split(c.text, true, scratch, sink);
    EXPECT_EQ(sink.joined, c.expected) << c.section;
  }
}

constexpr Case kNormalizers[] = {
    {R"j({"type": "NFC"})j", "e\u0301 \u1100\u1161 \u212b", "\u00e9 \uac00 \u00c5"},
    {R"j({"type": "NFD"})j", "\u00e9 \uac00", "e\u0301 \u1100\u1161"},
    {R"j({"type": "NFKC"})j", "\ufb01 \u2460 \u00c5 \uff71", "fi 1 \u00c5 \u30a2"},
    {R"j({"type": "NFKD"})j", "\ufb01\u00e9", "fie\u0301"},
    {R"j({"type": "Lowercase"})j", "\u00c0BC \u0130\u03a3", "\u00e0bc i\u0307\u03c3"},
    {R"j({"type": "Strip", "strip_left": true, "strip_right": false})j", " \u3000a \n", "a \n"},
    {R"j({"type": "Strip", "strip_left": true, "strip_right": true})j", " \u3000a \n", "a"},
    {R"j({"type": "Strip", "strip_left": true, "strip_right": true})j", "   ", ""},
    {R"j({"type": "Prepend", "prepend": "\u2581"})j", "a b", "\u2581a b"},
    {R"j({"type": "Prepend", "prepend": "\u2581"})j", "", ""},
    {R"j({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"})j", "a  b",
     "a\u2581\u2581b"},
    {R"j({"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "})j", "a \n\t b  ",
     "a b "},
    {R"j({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]})j",
     "\u00c9\u00e0\u00fc \u00d1", "eau n"},
    {R"j({"type": "Sequence", "normalizers": []})j", "\u00c9", "\u00c9"},
};

TEST(Normalizer, EqualsTheReference) {
  for (const Case& c : kNormalizers) {
    const json::value section = json::parse(c.section).value();
    const Result<Normalizer> normalizer = Normalizer::parse(&section);
    ASSERT_TRUE(normalizer.ok()) << c.section << normalizer.status().message();
    RegexScratch scratch;
    std::string buffer;
    EXPECT_EQ(normalizer->apply(c.text, buffer, scratch), c.expected) << c.section;
  }
}

struct DecoderCase {
  std::string_view section;
  std::vector<std::string_view> tokens;
  std::string_view expected;
};

TEST(Decoder, EqualsTheReference) {
  const DecoderCase cases[] = {
      {R"j({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})j",
       {"\u2581a", "\u2581b", "c"},
       "a bc"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})j",
       {"\u2581", "\u2581a"},
       " a"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})j",
       {"<0xE4>", "<0xB8>", "<0xAD>", "x"},
       "\u4e2dx"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})j",
       {"<0x41>", "<0xFF>", "x", "<0xE4>"},
       "\ufffd\ufffdx\ufffd"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})j",
       {"<0xZZ>", "<0x0a>"},
       "<0xZZ>\n"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})j",
       {"a\u2581\u2581b"},
       "a  b"},
      {R"j({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})j",
       {"\u0120a", "\u00c3\u00a9", "\u00c3"},
       " a\u00e9\ufffd"},
      {R"j({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})j",
       {"\u00e9 b", "\u00e4\u00b8", "\u0143"},
       "\u00e9 b\u4e2d"},
      {R"j({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})j",
       {"\u00f0\u0141", "\u013a", "x"},
       "\ufffdx"},
      {R"j({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})j",
       {"<think> \u00e9"},
       "<think> \u00e9"},
      {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true})j",
       {"\u2581a\u2581", "\u2581b", "c"},
       "a bc"},
      {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true})j",
       {"\u2581", "\u2581a"},
       " a"},
      {R"j({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": true})j",
       {"\u2581a", "\u2581b"},
       " a b"},
      {R"j({"type": "Strip", "content": "x", "start": 2, "stop": 1})j",
       {"xxxa", "bxx", "c"},
       "xabxc"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "x", "start": 1, "stop": 2}]})j",
       {"x", "x", "a", "x", "b", "x", "x", "x"},
       "xaxbx"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "x", "start": 1, "stop": 2}]})j",
       {"a"},
       "a"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "ab"}, "content": "-"}]})j",
       {"a", "b", "ca", "bb"},
       "-c-b"},
      {R"j({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "[0-9]+"}, "content": "#"}, {"type": "Fuse"}]})j",
       {"a12", "3", "b"},
       "a##b"},
      {R"j({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": true}]})j",
       {"<0xE2>", "<0x96>", "<0x81>", "\u2581a"},
       " a"},
  };
  for (const DecoderCase& c : cases) {
    const json::value section = json::parse(c.section).value();
    const Result<DecodeProgram> program = DecodeProgram::parse(&section);
    ASSERT_TRUE(program.ok()) << c.section << program.status().message();
    DecodeStream stream(*program);
    std::string out;
    for (const std::string_view token : c.tokens) stream.push(token, out);
    stream.finish(out);
    EXPECT_EQ(out, c.expected) << c.section;
  }
}

TEST(Decoder, NoSectionJoinsWithSpaces) {
  const Result<DecodeProgram> program = DecodeProgram::parse(nullptr);
  ASSERT_TRUE(program.ok());
  DecodeStream stream(*program);
  std::string out;
  for (const char* token : {"a", "b"}) stream.push(token, out);
  stream.finish(out);
  EXPECT_EQ(out, "a b");
}

constexpr std::string_view kKnownPatterns[] = {
    R"re('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)re",
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re",
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re",
    R"re([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)re",
    R"re(\p{N}{1,3})re",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re",
};

// Text made to hit the seams of the patterns.
std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> parts = {
      " ",       "  ",         "\t",     "\n",         "\r\n",       "\u00a0", "\u3000",
      "\u0085",  "\u180e",     "\u200b", "'",          "'s",         "'LL",    "'re",
      "'\u017f", "a",          "Ab",     "ABC",        "don",        "\u01c5", "\u02b0",
      "\u0301",  "\u4e2d",     "\u306e", "\u30fb",     "\u3099",     "\u0663", "\u00bd",
      "1",       "123",        ".",      "/",          "//",         "$",      "\u3002",
      "\u20ac",  "\U0001f600", "\u0007", "\U0001e4d0", "\U00011f04", "\uac00"};
  std::string out;
  for (size_t n = random() % 12 + 1; n > 0; --n) {
    if (random() % 8 == 0) {
      const auto code = static_cast<uint32_t>(random() % (random() % 2 ? 0x3000 : 0x110000));
      if (code < 0xd800 || code > 0xdfff) append_utf8(out, code);
    } else {
      out += parts[random() % parts.size()];
    }
  }
  return out;
}

std::string spans(const Pattern& pattern, std::string_view text) {
  RegexScratch scratch;
  std::string out;
  pattern.for_each(text, scratch,
                   [&](size_t begin, size_t end) { out += format("{}-{} ", begin, end); });
  return out;
}

TEST(Scanners, EqualTheirRegularExpressions) {
  std::mt19937 random(5);
  for (const std::string_view text : kKnownPatterns) {
    ASSERT_NE(known_scanner(text), Scanner::kNone) << text;
    const Result<Pattern> fast = Pattern::regex(text), slow = Pattern::regex(text, false);
    ASSERT_TRUE(fast.ok() && slow.ok()) << slow.status().message();
    for (int i = 0; i < 4000; ++i) {
      const std::string sample = random_text(random);
      ASSERT_EQ(spans(*fast, sample), spans(*slow, sample)) << text << "\n"
                                                            << json::quote(sample, true);
    }
  }
}

TEST(Scanners, RegularExpressionsManageLongRuns) {
  for (const std::string_view text : kKnownPatterns) {
    const Result<Pattern> fast = Pattern::regex(text), slow = Pattern::regex(text, false);
    for (const char* unit : {"a", "A", " ", "\n", "1", ".", "\u4e2d"}) {
      std::string sample;
      while (sample.size() < 200'000) sample += unit;
      sample += "x";
      ASSERT_EQ(spans(*fast, sample), spans(*slow, sample)) << text << " on a run of " << unit;
    }
  }
}

// Kimi's pattern has no scanner and needs class intersection.
TEST(OnigPattern, IntersectsClasses) {
  const Result<Pattern> pattern = Pattern::regex(
      R"re([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?|\p{N}{1,3}|\s+)re");
  ASSERT_TRUE(pattern.ok()) << pattern.status().message();
  EXPECT_EQ(spans(*pattern, "ab\u4e2d\u6587cd's 12"), "0-2 2-8 8-12 12-13 13-15 ");
}

TEST(OnigPattern, RefusesWhatCouldRunAway) {
  for (const std::string_view bad : {"(a+)+b",
                                     "(?:a*)*",
                                     "(?:\\s+x?){2,}",
                                     "(a)\\1",
                                     "(?<n>a)\\g<n>",
                                     "(?(1)a)",
                                     "[a",
                                     "(a",
                                     "a)",
                                     "*a",
                                     "a**",
                                     "[z-a]",
                                     "\\p{",
                                     "\\p{Nonsense}",
                                     "\\xzz",
                                     "\\x{110000}",
                                     "a{2000}",
                                     "a{3,2}",
                                     "(?R)",
                                     "(*COMMIT)a",
                                     "\\Qa",
                                     "[[:alpha:]]",
                                     "\\"}) {
    EXPECT_FALSE(Regex::compile(bad).ok()) << bad;
  }
  EXPECT_FALSE(pcre2_pattern(std::string(20'000, 'a')).ok());
  EXPECT_FALSE(pcre2_pattern(std::string(200, '(') + "a" + std::string(200, ')')).ok());
  EXPECT_FALSE(pcre2_pattern(std::string(200, '[') + "a" + std::string(200, ']')).ok());
  EXPECT_TRUE(Regex::compile("a{,3}b{2,4}c?|{x}|[]a]|x{").ok());
}

TEST(UnicodeClass, CategoriesAndWhiteSpace) {
  const CharTable& table = CharTable::get();
  EXPECT_EQ(table['A'], kUpper | kWord);
  EXPECT_EQ(table[0x01c5], kTitle | kWord);
  EXPECT_EQ(table[0x00bd], kNumber);
  EXPECT_EQ(table['\n'], kSpace | kNewline);
  EXPECT_EQ(table[0x85] & kSpace, kSpace);
  EXPECT_EQ(table[0x180e] & kSpace, 0);
  EXPECT_EQ(table[0x200b] & kSpace, 0);
  EXPECT_EQ(table[0x105c0], kOtherLetter | kWord);  // Unicode 16
  EXPECT_EQ(table[0x10ffff], 0);
}

}  // namespace
}  // namespace moestro::text
