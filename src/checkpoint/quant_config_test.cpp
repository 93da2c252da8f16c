#include "checkpoint/quant_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "checkpoint/module_matcher.h"
#include "checkpoint/test_files.h"

namespace moestro::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::object_of;
using testing::TempDir;

Result<QuantConfig> parse(std::string_view quantization_config) {
  return parse_quant_config(
      object_of(format(R"({}"quantization_config":{}{})", "{", quantization_config, "}")));
}

QuantConfig parsed(std::string_view quantization_config) {
  auto q = parse(quantization_config);
  CHECK(q.ok(), q.status().message());
  return std::move(q).value();
}

std::string compressed(std::string_view args, std::string_view rest = "") {
  return format(
      R"({}"quant_method":"compressed-tensors","config_groups":{}"group_0":{}"targets":["Linear"],"weights":{}{}{}{}{})",
      "{", "{", "{", args, "}", "}", rest, "}");
}

TEST(QuantConfig, NoneWithoutTheKey) {
  const auto q = parse_quant_config(object_of(R"({"hidden_size":1,"quantization_config":null})"));
  ASSERT_TRUE(q.ok());
  EXPECT_EQ(q->method, QuantMethodName::kNone);
  EXPECT_EQ(q->match("model.layers.0.mlp.down_proj"), nullptr);
}

// The config of GLM-5-W8A8 exports, which use the other key (reference facts, "SlimQuant").
TEST(QuantConfig, ReadsInt8ChannelUnderCompressionConfig) {
  const auto q = parse_quant_config(object_of(
      R"({"compression_config":{"quant_method":"compressed-tensors","format":"int-quantized",
    "quantization_status":"compressed","ignore":["lm_head","model.layers.3.mlp.gate"],"kv_cache_scheme":null,
    "sparsity_config":{},"transform_config":{},"config_groups":{"group_0":{"targets":["Linear"],
    "weights":{"num_bits":8,"type":"int","symmetric":true,"strategy":"channel","dynamic":false,"group_size":null,"actorder":null},
    "input_activations":{"num_bits":8,"type":"int","symmetric":true,"strategy":"token","dynamic":true},"output_activations":null}}}})"));
  ASSERT_TRUE(q.ok()) << q.status().message();
  EXPECT_EQ(q->method, QuantMethodName::kCompressedTensors);
  EXPECT_EQ(q->config_key, "compression_config");
  ASSERT_EQ(q->groups.size(), 1u);
  const QuantGroup& g = q->groups[0];
  EXPECT_EQ(g.format, "int-quantized");
  EXPECT_EQ(g.weights->num_bits, 8);
  EXPECT_FALSE(g.weights->is_float);
  EXPECT_EQ(g.weights->strategy, QuantStrategy::kChannel);
  EXPECT_EQ(g.input_activations->strategy, QuantStrategy::kToken);
  EXPECT_TRUE(g.input_activations->dynamic);
  EXPECT_EQ(describe(g), "int8 channel, activations int8 token dynamic");
  EXPECT_EQ(q->match("model.layers.3.mlp.experts.7.gate_proj"), &g);
  EXPECT_EQ(q->match("model.layers.3.mlp.gate"), nullptr);
  EXPECT_EQ(q->match("model.layers.4.mlp.gate"), &g);  // exact names only
  EXPECT_EQ(q->match("lm_head"), nullptr);
}

TEST(QuantConfig, PatternsAreAnchoredAtTheStartOnly) {
  const auto q = parsed(R"({"quant_method":"compressed-tensors","format":"pack-quantized",
    "ignore":["lm_head","re:.*mlp.gate$","re:.*self_attn.*","re:model\\.layers\\.(0|1)\\."],
    "config_groups":{"group_0":{"targets":["re:.*experts\\.\\d+\\.(gate|up)_proj"],"weights":{"num_bits":4,"group_size":32}},
                     "group_1":{"targets":["LINEAR"],"weights":{"num_bits":8,"group_size":-1}}}})");
  const auto group = [&](std::string_view module) {
    return q.match(module) ? q.match(module)->name : std::string("none");
  };
  EXPECT_EQ(group("model.layers.3.mlp.experts.12.gate_proj"), "group_0");
  EXPECT_EQ(group("model.layers.3.mlp.experts.12.gate_proj.tail"),
            "group_0");  // not anchored at the end
  EXPECT_EQ(group("model.layers.3.mlp.experts.12.down_proj"), "group_1");  // by class
  EXPECT_EQ(group("model.layers.3.mlp.gate"), "none");
  EXPECT_EQ(group("model.layers.3.mlp.gate_proj"), "group_1");  // '$' holds
  EXPECT_EQ(group("model.layers.3.self_attn.q_proj"), "none");
  EXPECT_EQ(group("model.layers.1.mlp.up_proj"), "none");
  EXPECT_EQ(group("model.layers.10.mlp.up_proj"), "group_1");
  EXPECT_EQ(group("x.model.layers.1.mlp.up_proj"), "group_1");  // anchored at the start
  EXPECT_EQ(group("lm_head"), "none");
  EXPECT_EQ(q.groups[0].weights->strategy, QuantStrategy::kGroup);
  EXPECT_EQ(q.groups[0].weights->group_size, 32);
  EXPECT_EQ(q.groups[1].weights->strategy, QuantStrategy::kChannel);
}

TEST(QuantConfig, LookAroundsWork) {
  const auto q = parsed(
      compressed(R"({"num_bits":4,"group_size":32})", R"(,"ignore":["re:(?!.*experts).*"])"));
  EXPECT_NE(q.match("model.layers.3.mlp.experts.1.up_proj"), nullptr);
  EXPECT_EQ(q.match("model.layers.3.self_attn.o_proj"), nullptr);
}

TEST(QuantConfig, MatchingTimeIsBounded) {
  const auto q =
      parsed(compressed(R"({"num_bits":8})", R"(,"ignore":["re:(a+)+$","re:(.*)*(.*)*x"])"));
  const std::string module = std::string(200, 'a') + "b";
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 10000; ++i) EXPECT_NE(q.match(module), nullptr);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(QuantConfig, InfersFormats) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"num_bits":8,"type":"float","strategy":"channel"})", "float-quantized"},
      {R"({"num_bits":8,"type":"float","strategy":"block","block_structure":[128,128]})",
       "float-quantized"},
      {R"({"num_bits":8,"type":"float","strategy":"group","group_size":32})", "mxfp8-quantized"},
      {R"({"num_bits":8,"type":"int","strategy":"channel"})", "pack-quantized"},
      {R"({"num_bits":4,"type":"int","group_size":128})", "pack-quantized"},
      {R"({"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16})",
       "nvfp4-pack-quantized"},
      {R"({"num_bits":4,"type":"float","group_size":32})", "mxfp4-pack-quantized"},
  };
  for (const auto& [args, wanted] : cases)
    EXPECT_EQ(parsed(compressed(args)).groups[0].format, wanted) << args;
  const auto both =
      parsed(R"({"quant_method":"compressed-tensors","format":"mixed-precision","config_groups":{
    "a":{"targets":["x"],"weights":{"num_bits":8},"input_activations":{"num_bits":8,"dynamic":true,"strategy":"token"}},
    "b":{"targets":["y"],"format":"pack-quantized","weights":{"num_bits":8}}}})");
  EXPECT_EQ(both.groups[0].format, "int-quantized");
  EXPECT_EQ(both.groups[0].weights->strategy, QuantStrategy::kTensor);
  EXPECT_EQ(both.groups[1].format, "pack-quantized");
}

TEST(QuantConfig, ReadsArguments) {
  const auto q =
      parsed(compressed(R"({"num_bits":4,"group_size":128,"symmetric":false,"actorder":"group"})"));
  EXPECT_FALSE(q.groups[0].weights->symmetric);
  EXPECT_TRUE(q.groups[0].weights->actorder);
  EXPECT_FALSE(parsed(compressed(R"({"num_bits":4,"group_size":128,"actorder":"static"})"))
                   .groups[0]
                   .weights->actorder);
  const auto block = parsed(
      compressed(R"({"num_bits":8,"type":"float","strategy":"block","block_structure":"64x128"})"));
  EXPECT_EQ(block.groups[0].weights->block_n, 64);
  EXPECT_EQ(block.groups[0].weights->block_k, 128);
}

TEST(QuantConfig, ReadsPresets) {
  const auto q =
      parsed(R"({"quant_method":"compressed-tensors","config_groups":{"W8A8":["Linear"]}})");
  EXPECT_EQ(describe(q.groups[0]), "int8 channel, activations int8 token dynamic");
  EXPECT_EQ(q.groups[0].format, "int-quantized");
  EXPECT_EQ(parsed(R"({"quant_method":"compressed-tensors","config_groups":{"NVFP4":["Linear"]}})")
                .groups[0]
                .format,
            "nvfp4-pack-quantized");
}

TEST(QuantConfig, ReadsDeepseekFp8) {
  const auto q = parsed(
      R"({"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,128],"scale_fmt":"ue8m0",
    "modules_to_not_convert":["model.layers.0.self_attn","indexer.wk"]})");
  EXPECT_EQ(q.method, QuantMethodName::kFp8);
  EXPECT_EQ(q.scale_fmt, "ue8m0");
  EXPECT_EQ(describe(q.groups[0]), "fp8 block 128x128, activations fp8 group 128 dynamic");
  EXPECT_NE(q.match("model.layers.3.mlp.experts.0.gate_proj"), nullptr);
  EXPECT_NE(q.match("model.layers.3.self_attn.kv_b_proj"), nullptr);
  EXPECT_EQ(q.match("model.layers.0.self_attn.kv_b_proj"), nullptr);  // all below a listed part
  EXPECT_NE(q.match("model.layers.10.self_attn.kv_b_proj"), nullptr);
  EXPECT_EQ(q.match("model.layers.3.self_attn.indexer.wk"), nullptr);
  for (const char* module : {"lm_head", "model.layers.3.mlp.gate", "model.layers.61.eh_proj",
                             "model.layers.3.self_attn.indexer.weights_proj"})
    EXPECT_EQ(q.match(module), nullptr) << module;  // by convention: no list says it
  const auto tensor = parsed(R"({"quant_method":"fp8","activation_scheme":"static"})");
  EXPECT_EQ(describe(tensor.groups[0]), "fp8 tensor, activations fp8 tensor");
}

TEST(QuantConfig, ReadsMxfp4WithGlobs) {
  const auto q = parsed(
      R"({"quant_method":"mxfp4","modules_to_not_convert":["model.layers.*.self_attn","model.layers.*.mlp.router","model.embed_tokens","lm_head"]})");
  EXPECT_NE(q.match("model.layers.3.mlp.experts"), nullptr);
  EXPECT_EQ(q.match("model.layers.3.self_attn.q_proj"), nullptr);
  EXPECT_EQ(q.match("model.layers.3.mlp.router"), nullptr);
  EXPECT_EQ(q.groups[0].weights->group_size, 32);
}

TEST(QuantConfig, ReadsGptqAwqModeloptSlimquant) {
  const auto gptq = parsed(
      R"({"quant_method":"gptq","bits":4,"group_size":128,"desc_act":true,"sym":false,"checkpoint_format":"gptq_v2","dynamic":{"-:.*attn.*":{}}})");
  EXPECT_EQ(gptq.groups[0].format, "gptq_v2");
  EXPECT_TRUE(gptq.groups[0].weights->actorder);
  EXPECT_FALSE(gptq.groups[0].weights->symmetric);
  EXPECT_EQ(gptq.match("model.layers.3.self_attn.q_proj"), nullptr);
  EXPECT_NE(gptq.match("model.layers.3.mlp.up_proj"), nullptr);
  const auto awq = parsed(
      R"({"quant_method":"awq","bits":4,"group_size":64,"zero_point":true,"version":"gemm","modules_to_not_convert":null})");
  EXPECT_EQ(awq.groups[0].weights->group_size, 64);
  EXPECT_FALSE(awq.groups[0].weights->symmetric);
  const auto nv = parsed(
      R"({"quant_method":"modelopt","quant_algo":"NVFP4","ignore":["lm_head","model.layers.0*"]})");
  EXPECT_EQ(nv.groups[0].format, "nvfp4-modelopt");
  EXPECT_EQ(nv.match("model.layers.0.mlp.up_proj"), nullptr);
  EXPECT_NE(nv.match("model.layers.1.mlp.up_proj"), nullptr);
  const auto slim = parsed(
      R"({"quant_method":"slimquant_w4a8","activation_scheme":"dynamic","modules_to_not_convert":["lm_head"]})");
  EXPECT_EQ(slim.match("model.layers.3.mlp.experts.2.up_proj")->format, "slimquant-int4");
  EXPECT_EQ(slim.match("model.layers.3.self_attn.o_proj")->weights->num_bits, 8);
  EXPECT_EQ(slim.match("model.layers.3.mlp.shared_experts.up_proj")->weights->num_bits, 8);
  const auto blocks = parsed(
      R"({"quant_method":"blockwise_int8","weight_block_size":[128,64],"ignored_layers":["lm_head"]})");
  EXPECT_EQ(describe(blocks.groups[0]), "int8 block 128x64, activations int8 group 64 dynamic");
  EXPECT_EQ(blocks.match("model.layers.0.mlp.gate"), nullptr);
}

TEST(QuantConfig, EveryRefusalNamesItsReason) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"quant_method":"bitsandbytes","load_in_4bit":true})",
       "quant_method bitsandbytes is not supported: its nf4"},
      {R"({"quant_method":"quark"})", "quant_method quark is not supported"},
      {R"({"quant_method":"magic"})",
       "quant_method \"magic\" is not supported; supported are compressed-tensors, fp8, mxfp4, "
       "gptq, awq, modelopt, slimquant_w4a8, blockwise_int8"},
      {R"({"quant_method":"blockwise_int8"})", "weight_block_size is missing"},
      {R"({"quant_method":"blockwise_int8","weight_block_size":[128,128],"activation_scheme":"static"})",
       "activation_scheme \"static\" is not supported"},
      {R"({"quant_method":"slimquant_w4a8","int4_scale_divisor":4})",
       "int4_scale_divisor is 4; it must be 1 or 16"},
      {R"({"bits":4})", "quant_method is missing"},
      {R"({"quant_method":3})", "quant_method"},
      {R"({"quant_method":"compressed-tensors"})", "config_groups must be an object"},
      {compressed("{}", R"(,"format":"marlin-24")"),
       "marlin-24 (2:4 sparse weights) is not supported"},
      {compressed("{}", R"(,"format":"zip")"),
       "format \"zip\" is not supported; supported are int-quantized"},
      {compressed("{}", R"(,"sparsity_config":{"format":"sparse-24-bitmask"})"),
       "sparsity_config: sparse weights (format \"sparse-24-bitmask\")"},
      {compressed("{}", R"(,"transform_config":{"config_groups":{"u":{}}})"),
       "transform_config: weights with Hadamard"},
      {compressed("{}", R"(,"ignore":"lm_head")"), "ignore must be a list of strings"},
      {compressed("{}", R"(,"ignore":[1])"), "ignore holds 1"},
      {compressed("{}", R"(,"ignore":["re:(unclosed"])"),
       "the pattern \"(unclosed\" is not valid at character 9"},
      {compressed("{}", format(R"(,"ignore":["re:{}"])", std::string(5000, 'a'))),
       "over the limit of 4096"},
      {compressed(R"({"num_bits":99})"),
       "config_groups.group_0: weights: num_bits is 99, allowed is 1 to 16"},
      {compressed(R"({"type":"complex"})"), "type is \"complex\""},
      {compressed(R"({"strategy":"attn_head"})"), "strategy \"attn_head\" is not supported"},
      {compressed(R"({"strategy":"group"})"), "strategy group needs a group_size"},
      {compressed(R"({"strategy":"block"})"), "strategy block needs block_structure"},
      {compressed(R"({"strategy":"block","block_structure":[128]})"), "block_structure is [128]"},
      {compressed(R"({"strategy":"block","block_structure":"0x128"})"),
       "block_structure is \"0x128\""},
      {compressed(R"({"actorder":"random"})"), "actorder \"random\" is not supported"},
      {compressed(R"({"num_bits":16})"), "weights of 16 int bits fit none"},
      {R"({"quant_method":"compressed-tensors","config_groups":{"W3A3":["Linear"]}})",
       "config_groups.W3A3: a group that is a list must bear a preset's name"},
      {R"({"quant_method":"compressed-tensors","config_groups":{"g":1}})",
       "config_groups.g: must be an object or a list"},
      {R"({"quant_method":"compressed-tensors","config_groups":{"g":{"output_activations":{}}}})",
       "output_activations are not supported"},
      {R"({"quant_method":"fp8","fmt":"e5m2"})", "fmt \"e5m2\" is not supported"},
      {R"({"quant_method":"fp8","weight_block_size":[0,128]})", "weight_block_size is [0,128]"},
      {R"({"quant_method":"fp8","weight_block_size":[128,128],"activation_scheme":"static"})",
       "static with weight_block_size"},
      {R"({"quant_method":"gptq","bits":3})", "bits 3 is not supported; supported are 4, 8"},
      {R"({"quant_method":"gptq","bits":4,"dynamic":{"+:.*up.*":{"bits":8}}})",
       "only exceptions (\"-:\") are supported"},
      {R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})",
       "checkpoint_format \"marlin\" is not supported"},
      {R"({"quant_method":"awq","bits":8})", "bits 8 is not supported; supported is 4"},
      {R"({"quant_method":"awq","version":"gemv"})", "version \"gemv\" is not supported"},
      {R"({"quant_method":"modelopt","quant_algo":"W4A16_AWQ"})",
       "quant_algo \"W4A16_AWQ\" is not supported; supported are FP8, NVFP4"},
      {R"({"quant_method":"slimquant_w4a8","weight_bits":8})", "weight_bits 8"},
  };
  for (const auto& [config, message] : cases) {
    const auto q = parse(config);
    ASSERT_FALSE(q.ok()) << config;
    EXPECT_THAT(q.status().message(), AllOf(HasSubstr("quantization_config: "), HasSubstr(message)))
        << config;
  }
}

TEST(ReadQuantConfig, LooksAtTheFilesOfOtherTools) {
  TempDir dir;
  dir.write("config.json", "{}");
  EXPECT_EQ(read_quant_config(*dir.open(), {})->method, QuantMethodName::kNone);
  dir.write(
      "quant_model_description.json",
      R"({"model_quant_type":"W8A8_DYNAMIC","model.layers.0.mlp.up_proj.weight":"W8A8_DYNAMIC","model.layers.0.mlp.up_proj.weight_scale":"W8A8_DYNAMIC","lm_head.weight":"FLOAT"})");
  const auto ascend = read_quant_config(*dir.open(), {});
  ASSERT_TRUE(ascend.ok()) << ascend.status().message();
  EXPECT_EQ(ascend->match("model.layers.0.mlp.up_proj")->format, "int-quantized");
  EXPECT_EQ(ascend->match("lm_head"), nullptr);
  dir.write("quant_model_description.json", R"({"a.weight":"W8A8"})");
  EXPECT_THAT(read_quant_config(*dir.open(), {}).status().message(),
              HasSubstr("quant_model_description.json: tensor \"a.weight\" is \"W8A8\""));
  dir.write("hf_quant_config.json",
            R"({"producer":{},"quantization":{"quant_algo":"FP8","exclude_modules":["lm_head"]}})");
  const auto modelopt = read_quant_config(*dir.open(), {});
  ASSERT_TRUE(modelopt.ok()) << modelopt.status().message();
  EXPECT_EQ(modelopt->method, QuantMethodName::kModelOpt);
  EXPECT_EQ(describe(modelopt->groups[0]), "fp8 tensor, activations fp8 tensor");
  // config.json stands before them.
  EXPECT_EQ(
      read_quant_config(*dir.open(), object_of(R"({"quantization_config":{"quant_method":"awq"}})"))
          ->method,
      QuantMethodName::kAwq);
}

TEST(EntryList, PartsAreWhole) {
  const std::string entries[] = {"gate", "model.layers.1", "*_head"};
  const auto list = EntryList::compile(entries, EntryRule::kParts);
  ASSERT_TRUE(list.ok());
  EXPECT_TRUE(list->matches("model.layers.5.mlp.gate"));
  EXPECT_FALSE(list->matches("model.layers.5.mlp.gate_proj"));
  EXPECT_TRUE(list->matches("model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(list->matches("model.layers.11.mlp.up_proj"));
  EXPECT_TRUE(list->matches("lm_head"));
  EXPECT_FALSE(list->matches(""));
}

}  // namespace
}  // namespace moestro::checkpoint
