#include "checkpoint/quant_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/test_files.h"

namespace moestro::checkpoint {
namespace {

using ::testing::HasSubstr;

QuantConfig config(std::string_view text) {
  json::object outer;
  outer["quantization_config"] = testing::object_of(text);
  return parse_quant_config(outer).value();
}

QuantConfig int8(std::string_view strategy = "channel") {
  return config(
      R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{"group_0":{"targets":["Linear"],
    "weights":{"num_bits":8,"type":"int","strategy":")" +
      std::string(strategy) +
      R"("},"input_activations":{"num_bits":8,"type":"int","strategy":"token","dynamic":true}}}})");
}

std::string story(const char* asked, const QuantConfig& quant) {
  const auto r = resolve_quantization(asked, quant);
  EXPECT_TRUE(r.ok()) << r.status().message();
  return r.ok() ? *r : "";
}
std::string refusal(const char* asked, const QuantConfig& quant) {
  const Status s = resolve_quantization(asked, quant).status();
  EXPECT_EQ(s.code(), Code::kInvalidArgument) << asked;
  return s.message();
}

TEST(QuantRequest, NotAskedSaysNothing) {
  EXPECT_EQ(resolve_quantization(std::nullopt, int8()).value(), "");
}

TEST(QuantRequest, TheCheckpointsOwnNameMatches) {
  EXPECT_THAT(story("compressed-tensors", int8()),
              HasSubstr("int8 channel, activations int8 token dynamic"));
  EXPECT_THAT(story("fp8", config(R"({"quant_method":"fp8","weight_block_size":[128,128]})")),
              HasSubstr("says fp8"));
}

TEST(QuantRequest, NamesOfKernelsForTheSameTensorsMatch) {
  for (const char* name : {"slimquant_marlin", "slimquant_compressed_tensors_marlin"}) {
    EXPECT_THAT(story(name, int8()), HasSubstr("says compressed-tensors"));
    EXPECT_THAT(story(name, int8()), HasSubstr("the plan chooses kernels"));
    EXPECT_THAT(refusal(name, int8("tensor")), HasSubstr("needs int8 or fp8 weights"));
    EXPECT_THAT(refusal(name, QuantConfig()), HasSubstr("not quantised"));
  }
  const QuantConfig gptq = config(R"({"quant_method":"gptq","bits":4,"group_size":128})");
  for (const char* name : {"gptq", "gptq_marlin", "auto_gptq", "moe_wna16"})
    EXPECT_THAT(story(name, gptq), HasSubstr("says gptq")) << name;
  const QuantConfig awq = config(R"({"quant_method":"awq","bits":4,"group_size":128})");
  for (const char* name : {"awq", "awq_marlin", "auto_awq", "moe_wna16"})
    EXPECT_THAT(story(name, awq), HasSubstr("says awq")) << name;
  EXPECT_THAT(story("gpt_oss_mxfp4", config(R"({"quant_method":"mxfp4"})")), HasSubstr("mxfp4"));
  EXPECT_THAT(refusal("modelopt_fp4", config(R"({"quant_method":"modelopt","quant_algo":"FP8"})")),
              HasSubstr("modelopt is fp8"));
}

TEST(QuantRequest, AnythingElseIsRefusedWithWhatTheCheckpointIs) {
  EXPECT_THAT(refusal("fp8", int8()), HasSubstr("quantization_config says compressed-tensors"));
  EXPECT_THAT(refusal("fp8", QuantConfig()), HasSubstr("moestro quantize"));
  EXPECT_THAT(refusal("experts_int8", QuantConfig()), HasSubstr("not quantised while loading"));
  EXPECT_THAT(refusal("bitsandbytes", int8()), HasSubstr("not read here"));
  EXPECT_THAT(refusal("gptq_marlin", int8()), HasSubstr("says compressed-tensors"));
  EXPECT_THAT(refusal("slimquant_marlim", int8()), HasSubstr("did you mean slimquant_marlin?"));
}

}  // namespace
}  // namespace moestro::checkpoint
