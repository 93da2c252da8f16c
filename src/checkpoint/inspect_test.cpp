#include "checkpoint/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/test_files.h"

namespace moestro::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Made;
using testing::safetensors_of;
using testing::TempDir;

constexpr std::string_view kConfig =
    R"({"model_type":"qwen3_moe","architectures":["Qwen3MoeForCausalLM"],"vocab_size":10,"hidden_size":4,
  "num_hidden_layers":1,"num_attention_heads":1,"max_position_embeddings":32,"num_experts":4,"num_experts_per_tok":1,
  "moe_intermediate_size":8,"quantization_config":{"quant_method":"compressed-tensors","ignore":["lm_head","re:.*mlp.gate$"],
  "config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":4,"group_size":4}}}}})";

std::vector<Made> tensors() {
  std::vector<Made> out = {
      {"model.embed_tokens.weight", "BF16", "[10,4]", std::string(80, '\0')},
      {"lm_head.weight", "BF16", "[10,4]", std::string(80, '\0')},
      {"model.layers.0.mlp.gate.weight", "BF16", "[4,4]", std::string(32, '\0')}};
  for (int e = 0; e < 4; ++e) {
    const std::string x = format("model.layers.0.mlp.experts.{}.up_proj", e);
    out.push_back(
        {x + ".weight_packed", "I32", "[8,1]", std::string(32, '\0')});  // 8 x 4 values and padding
    out.push_back({x + ".weight_scale", "BF16", "[8,1]", std::string(16, '\0')});
  }
  return out;
}

TEST(Inspect, CountsLogicalParametersAndNamesWhatIsQuantised) {
  TempDir dir;
  dir.write("config.json", kConfig);
  dir.write("model.safetensors", safetensors_of(tensors()));
  dir.write("tokenizer.json", "{}");
  const json::object o = inspect_checkpoint(dir.open(), {});
  EXPECT_EQ(o.at("model_type").as_string(), "qwen3_moe");
  // 40 + 40 + 16 shared, and 64 codes an expert of which one of four is active.
  EXPECT_EQ(o.at("parameters").at("total").as_int64(), 96 + 4 * 64);
  EXPECT_EQ(o.at("parameters").at("active").as_int64(), 96 + 64);
  EXPECT_EQ(o.at("weights").at("dtypes").at("I32").at("bytes").as_uint64(), 128u);
  EXPECT_EQ(o.at("quantization")
                .at("quantized")
                .at("model.layers.*.mlp.experts.*.up_proj")
                .at("tensors")
                .as_int64(),
            4);
  EXPECT_TRUE(
      o.at("quantization").at("unquantized").as_object().contains("model.layers.*.mlp.gate"));
  EXPECT_EQ(o.at("experts").at("count").as_int64(), 4);
  EXPECT_THAT(o.at("problems").as_array(), ::testing::IsEmpty());
  const std::string text = inspection_text(o);
  for (const char* part : {"qwen3_moe", "int4 group 4", "model.layers.*.mlp.experts.*.up_proj",
                           "none found", "tokenizer.json", "384 B in 11 tensors"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST(Inspect, ListsProblemsAndStillTellsTheRest) {
  TempDir dir;
  dir.write("config.json", kConfig);
  std::vector<Made> made = tensors();
  made.erase(made.begin() + 1);  // lm_head
  made.pop_back();               // a scale
  made.push_back({"model.layers.0.new", "F8_FUTURE", "[1]", "x"});
  dir.write("model.safetensors", safetensors_of(made));
  const std::string problems =
      json::dump(inspect_checkpoint(
                     dir.open(), testing::object_of(R"({"num_hidden_layers":2,"num_experts":8})"))
                     .at("problems"));
  for (const char* part :
       {"lm_head.weight is missing", "no scale, for example model.layers.0.mlp.experts.3.up_proj",
        "1 of 2 layers have no tensors", "the tensors are of 4 experts, config.json says 8",
        "no tokenizer.json", "type that is not known"})
    EXPECT_THAT(problems, HasSubstr(part));
}

TEST(Inspect, SurvivesUnreadableFiles) {
  TempDir dir;
  dir.write("config.json", "{");
  dir.write("model.safetensors", "short");
  const json::object o = inspect_checkpoint(dir.open(), {});
  EXPECT_THAT(inspection_text(o), HasSubstr("too few for the 8-byte header length"));
  EXPECT_THAT(inspection_text(o), HasSubstr("config.json: JSON is not valid"));
}

// The goldens have every tensor that their configs ask for.
TEST(Inspect, FindsNoProblemInAGoldenButItsTokenizer) {
  for (const char* name : {"glm_moe_dsa", "deepseek_v2", "gpt_oss", "mixtral", "llama"}) {
    auto files = open_model_directory(std::string(MOESTRO_SOURCE_DIR "/tests/golden/") + name);
    ASSERT_TRUE(files.ok()) << files.status().message();
    const json::object o =
        inspect_checkpoint(std::shared_ptr<const ModelFiles>(std::move(files).value()), {});
    ASSERT_EQ(o.at("problems").as_array().size(), 1u) << json::dump(o.at("problems"));
    EXPECT_THAT(json::dump(o.at("problems")), HasSubstr("tokenizer.json"));
    EXPECT_GT(o.at("parameters").at("total").as_int64(), 50000);
    EXPECT_LE(o.at("parameters").at("active").as_int64(),
              o.at("parameters").at("total").as_int64());
  }
}

}  // namespace
}  // namespace moestro::checkpoint
