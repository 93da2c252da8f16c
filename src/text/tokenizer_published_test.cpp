// The published tokenizers of four model families and their id vectors (made with Hugging Face
// tokenizers 0.23.2), and the demo model's tokenizer. The files are not part of the repository;
// without them the tests are skipped.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/json.h"
#include "base/strings.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace moestro::text {
namespace {

const std::string kShared = std::string(MOESTRO_SOURCE_DIR) + "/../shared";

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream out;
  out << file.rdbuf();
  return out.str();
}

// Empty if the file or the xz program is missing.
std::string read_xz(const std::string& path) {
  std::string out;
  FILE* pipe = popen(("xz -dc '" + path + "' 2>/dev/null").c_str(), "r");
  if (!pipe) return out;
  char buffer[1 << 16];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  pclose(pipe);
  return out;
}

std::vector<int32_t> ids_of(const json::object& line, std::string_view key) {
  std::vector<int32_t> out;
  for (const json::value& v : line.at(key).as_array())
    out.push_back(static_cast<int32_t>(v.as_int64()));
  return out;
}

struct Published {
  const char* folder;
  bool config_adds_bos;  // beyond tokenizer.json, which made the vectors
  int32_t vocab_size;
  const char* special;
  int32_t special_id;
};

class PublishedTokenizer : public testing::TestWithParam<Published> {};

TEST_P(PublishedTokenizer, EqualsItsVectors) {
  const std::string folder = kShared + "/tokenizers/" + GetParam().folder;
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is missing";
  const std::string tokenizer_json = read_xz(folder + "/tokenizer.json.xz");
  const std::string vectors = read_xz(folder + "/vectors.jsonl.xz");
  if (tokenizer_json.empty() || vectors.empty())
    GTEST_SKIP() << "cannot unpack the .xz files in " << folder;
  const auto loaded = Tokenizer::load(tokenizer_json, read_file(folder + "/tokenizer_config.json"));
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const Tokenizer& tokenizer = **loaded;
  EXPECT_EQ(tokenizer.vocab_size(), GetParam().vocab_size);
  EXPECT_EQ(tokenizer.token_id(GetParam().special), GetParam().special_id);
  size_t lines = 0;
  for (const std::string_view text : split(vectors, '\n')) {
    if (text.empty()) continue;
    ++lines;
    const json::value parsed = json::parse(text).value();
    const json::object& line = parsed.get_object();
    const std::string input(json::view(line.at("text").get_string()));
    const std::vector<int32_t> ids = ids_of(line, "ids");
    ASSERT_EQ(tokenizer.encode(input, false), ids) << text;
    std::vector<int32_t> with_special = ids_of(line, "ids_special");
    if (GetParam().config_adds_bos &&
        (with_special.empty() || with_special[0] != tokenizer.bos()->id))
      with_special.insert(with_special.begin(), *tokenizer.bos()->id);
    ASSERT_EQ(tokenizer.encode(input, true), with_special) << text;
    const std::string decoded(json::view(line.at("decoded").get_string()));
    ASSERT_EQ(tokenizer.decode(ids, false), decoded) << text;
    StreamingDetokenizer stream(tokenizer, false);
    std::string streamed, bytes;
    for (const int32_t id : ids) {
      streamed += stream.push(id);
      ASSERT_TRUE(is_valid_utf8(streamed));
      bytes += tokenizer.token_bytes(id);
    }
    ASSERT_EQ(streamed + stream.flush(), decoded);
    ASSERT_EQ(repair_utf8(bytes), decoded);
  }
  EXPECT_EQ(lines, 400u);
}

INSTANTIATE_TEST_SUITE_P(
    Families, PublishedTokenizer,
    testing::Values(Published{"deepseek_v3", true, 128815, "<｜User｜>", 128803},
                    Published{"qwen3", false, 151669, "<think>", 151667},
                    Published{"llama3_1", false, 128256, "<|eot_id|>", 128009},
                    Published{"gptoss", false, 200019, "<|call|>", 200012}),
    [](const testing::TestParamInfo<Published>& info) { return std::string(info.param.folder); });

TEST(DemoTokenizer, EqualsTheGoldenPrompts) {
  const std::string folder = kShared + "/demo-model/checkpoint";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is missing";
  const auto tokenizer = Tokenizer::load(read_file(folder + "/tokenizer.json"),
                                         read_file(folder + "/tokenizer_config.json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const json::value golden = json::parse_file(folder + "/golden.json").value();
  const json::array& prompts = golden.at("prompts").as_array();
  size_t with_text = 0;
  for (const json::value& prompt : prompts) {
    const std::vector<int32_t> ids = ids_of(prompt.as_object(), "ids");
    const json::value* text = json::find(prompt.get_object(), "text");
    if (!text) {  // given as ids only
      EXPECT_EQ((*tokenizer)->encode((*tokenizer)->decode(ids, false), false), ids);
      continue;
    }
    ++with_text;
    const std::string_view input = json::view(text->as_string());
    EXPECT_EQ((*tokenizer)->encode(input, false), ids) << input;
    EXPECT_EQ((*tokenizer)->decode(ids, false), input);
  }
  EXPECT_GT(with_text, 0u);
}

}  // namespace
}  // namespace moestro::text
