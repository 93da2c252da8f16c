#include "checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "checkpoint/model_family.h"
#include "checkpoint/test_files.h"

namespace moestro::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::object_of;
using testing::TempDir;

// GLM-5.2 as published (reference facts, "Published values").
constexpr std::string_view kGlm52 = R"({
  "architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", "dtype": "bfloat16", "vocab_size": 154880,
  "hidden_size": 6144, "num_hidden_layers": 78, "num_nextn_predict_layers": 1, "first_k_dense_replace": 3, "moe_layer_freq": 1,
  "intermediate_size": 12288, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8,
  "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 2.5, "norm_topk_prob": true,
  "scoring_func": "sigmoid", "topk_method": "noaux_tc", "num_attention_heads": 64, "num_key_value_heads": 64, "head_dim": 192,
  "q_lora_rank": 2048, "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256,
  "index_n_heads": 32, "index_head_dim": 128, "index_topk": 2048, "index_topk_freq": 4, "index_skip_topk_offset": 3,
  "indexer_rope_interleave": true, "index_share_for_mtp_iteration": true, "rope_interleave": true,
  "rope_parameters": {"rope_type": "default", "rope_theta": 8000000}, "max_position_embeddings": 1048576,
  "rms_norm_eps": 1e-05, "hidden_act": "silu", "attention_bias": false, "tie_word_embeddings": false,
  "bos_token_id": null, "eos_token_id": [154820, 154827, 154829], "pad_token_id": 154820})";

Result<ModelConfig> parse_glm(std::string_view changes = "{}") {
  json::object config = object_of(kGlm52);
  for (const auto& [key, value] : object_of(changes)) config[key] = value;
  return parse_model_config(std::move(config), nullptr);
}

TEST(ModelConfig, ReadsGlm52) {
  const auto c = parse_glm();
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->model_type, "glm_moe_dsa");
  EXPECT_EQ(c->architecture, "GlmMoeDsaForCausalLM");
  EXPECT_EQ(c->dtype, DType::kBF16);
  EXPECT_THAT(std::vector({c->vocab_size, c->hidden_size, c->num_layers, c->intermediate_size,
                           c->num_heads, c->num_kv_heads}),
              ElementsAre(154880, 6144, 78, 12288, 64, 64));
  EXPECT_EQ(c->max_position_embeddings, 1048576);
  EXPECT_FLOAT_EQ(c->rms_norm_eps, 1e-5f);
  EXPECT_TRUE(c->uses_mla() && c->uses_dsa());
  EXPECT_THAT(std::vector({c->q_lora_rank, c->kv_lora_rank, c->qk_nope_head_dim,
                           c->qk_rope_head_dim, c->v_head_dim, c->rotary_dim}),
              ElementsAre(2048, 512, 192, 64, 256, 64));
  EXPECT_THAT(std::vector({c->index_n_heads, c->index_head_dim, c->index_topk}),
              ElementsAre(32, 128, 2048));
  EXPECT_TRUE(c->rope_interleave && c->indexer_rope_interleave && c->index_share_for_mtp_iteration);
  EXPECT_EQ(c->rope.type, RopeType::kDefault);
  EXPECT_EQ(c->rope.theta, 8e6);
  EXPECT_THAT(std::vector({c->num_experts, c->num_experts_per_tok, c->moe_intermediate_size,
                           c->num_shared_experts, c->shared_expert_intermediate_size, c->n_group,
                           c->topk_group, c->num_mtp_layers}),
              ElementsAre(256, 8, 2048, 1, 2048, 1, 1, 1));
  EXPECT_EQ(c->scoring, ScoringFunc::kSigmoid);
  EXPECT_EQ(c->topk_method, TopkMethod::kNoauxTc);
  EXPECT_TRUE(c->norm_topk_prob);
  EXPECT_EQ(c->routed_scaling_factor, 2.5);
  for (size_t l = 0; l < 78; ++l) EXPECT_EQ(c->moe_layer[l], l >= 3) << l;
  EXPECT_THAT(c->attention_kinds, Each(AttentionKind::kFull));
  EXPECT_THAT(c->eos_token_ids, ElementsAre(154820, 154827, 154829));
  EXPECT_EQ(c->bos_token_id, -1);
  EXPECT_EQ(c->pad_token_id, 154820);
  EXPECT_EQ(c->raw.at("head_dim").as_int64(), 192);
}

std::vector<int> full_layers(const ModelConfig& c) {
  std::vector<int> full;
  for (size_t l = 0; l < c.indexer_full.size(); ++l)
    if (c.indexer_full[l]) full.push_back(static_cast<int>(l));
  return full;
}

TEST(ModelConfig, IndexerLayersFollowThePublishedRule) {
  std::vector<int> published = {0, 1};
  for (int l = 2; l <= 74; l += 4) published.push_back(l);
  ASSERT_EQ(published.size(), 21u);
  EXPECT_EQ(full_layers(*parse_glm()), published);
  // Without the frequency every layer has its own.
  EXPECT_EQ(
      full_layers(*parse_glm(R"({"index_topk_freq":null,"index_skip_topk_offset":null})")).size(),
      78u);
  // Patterns and lists stand before the frequency.
  const auto four = [](std::string_view rest) {
    return parse_glm(format(R"({}"num_hidden_layers":4,{}{})", "{", rest, "}"));
  };
  EXPECT_THAT(full_layers(*four(R"("index_topk_pattern":"FSFS")")), ElementsAre(0, 2));
  EXPECT_THAT(full_layers(*four(R"("index_topk_pattern":["F","F","S","S"])")), ElementsAre(0, 1));
  EXPECT_THAT(
      full_layers(*four(
          R"("indexer_types":["full","shared","shared","full"],"index_topk_pattern":"FFFF")")),
      ElementsAre(0, 3));
  EXPECT_THAT(four(R"("indexer_types":["shared","full","full","full"])").status().message(),
              HasSubstr("first layer shares an indexer"));
  EXPECT_THAT(four(R"("indexer_types":["full","half","full","full"])").status().message(),
              HasSubstr("indexer_types[1] is \"half\""));
  EXPECT_THAT(four(R"("indexer_types":["full"])").status().message(),
              HasSubstr("indexer_types has 1 entries for 4 layers"));
  EXPECT_THAT(four(R"("index_topk_pattern":"FXFF")").status().message(),
              HasSubstr("index_topk_pattern has \"X\" at layer 1"));
}

TEST(ModelConfig, EveryWrongValueIsNamed) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"model_type":"glm5_next","architectures":["Glm5NextForCausalLM"]})",
       "model_type \"glm5_next\" (architecture \"Glm5NextForCausalLM\") is not supported; "
       "supported are glm_moe_dsa, deepseek_v2"},
      {R"({"model_type":7})", "\"model_type\""},
      {R"({"architectures":"x"})", "architectures must be an array of strings"},
      {R"({"architectures":[3]})", "architectures must be an array of strings"},
      {R"({"hidden_size":0})", "hidden_size is 0, allowed is 1 to 2147483647"},
      {R"({"hidden_size":-1})", "hidden_size is -1"},
      {R"({"hidden_size":2147483648})", "hidden_size is 2147483648"},
      {R"({"hidden_size":6144.0})", "hidden_size"},
      {R"({"hidden_size":"6144"})", "hidden_size"},
      {R"({"hidden_size":null})", "hidden_size is missing"},
      {R"({"num_hidden_layers":2000000000})",
       "num_hidden_layers is 2000000000, allowed is 1 to 10000"},
      {R"({"n_routed_experts":1000000})", "n_routed_experts is 1000000"},
      {R"({"n_routed_experts":null})", "the number of experts is missing"},
      {R"({"apply_router_weight_on_input":true})",
       "apply_router_weight_on_input is true with num_experts_per_tok 8"},
      {R"({"num_experts_per_tok":257})", "num_experts_per_tok 257 is more than the 256 experts"},
      {R"({"n_group":3})", "must be a multiple of n_group 3"},
      {R"({"n_group":8,"topk_group":9})", "topk_group 9 is more than n_group 8"},
      {R"({"n_group":64,"topk_group":1})",
       "num_experts_per_tok 8 is more than the 4 experts of topk_group 1 groups"},
      {R"({"n_shared_experts":60000,"moe_intermediate_size":2000000})", "is too large"},
      {R"({"hidden_act":"gelu"})", "hidden_act \"gelu\" is not supported; supported is silu"},
      {R"({"scoring_func":"tanh"})",
       "scoring_func \"tanh\" is not supported; supported are softmax, sigmoid"},
      {R"({"topk_method":"best"})", "topk_method \"best\" is not supported; supported are greedy"},
      {R"({"dtype":"int3"})", "dtype is \"int3\"; supported are bfloat16, float16, float32"},
      {R"({"kv_lora_rank":null})", "kv_lora_rank is missing"},
      {R"({"q_lora_rank":null})", "q_lora_rank is missing; sparse attention needs it"},
      {R"({"index_topk":null})", "index_topk is missing"},
      {R"({"index_head_dim":32})", "index_head_dim 32 must be at least qk_rope_head_dim 64"},
      {R"({"qk_rope_head_dim":63})", "63 of a head's values rotate"},
      {R"({"mlp_layer_types":["dense"]})", "mlp_layer_types has 1 entries for 78 layers"},
      {R"({"mlp_layer_types":"dense"})", "mlp_layer_types must be an array, not a string"},
      {R"({"num_hidden_layers":1,"mlp_layer_types":["thick"]})",
       "mlp_layer_types[0] is \"thick\"; supported are dense, sparse"},
      {R"({"num_hidden_layers":1,"layer_types":["linear_attention"]})",
       "layer_types[0] is \"linear_attention\""},
      {R"({"num_hidden_layers":1,"layer_types":["sliding_attention"]})",
       "there is no sliding_window"},
      {R"({"rope_parameters":{"rope_type":"longrope"}})",
       "rope_parameters: rope_type \"longrope\" is not supported; supported are default, linear, "
       "yarn, llama3"},
      {R"({"rope_parameters":{"rope_type":"dynamic","factor":2}})",
       "rope_type \"dynamic\" is not supported"},
      {R"({"rope_parameters":{"rope_type":"linear"}})", "rope_parameters: factor is missing"},
      {R"({"rope_parameters":{"rope_theta":0.5}})", "rope_theta is 0.5"},
      {R"({"rope_parameters":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4}})",
       "must be more than low_freq_factor"},
      {R"({"rope_parameters":{"full_attention":{}}})",
       "rotary parameters that differ by layer kind"},
      {R"({"rope_parameters":[1]})", "rope_parameters must be an object, not an array"},
      {R"({"rms_norm_eps":-1})", "rms_norm_eps is -1.0"},
      {R"({"tie_word_embeddings":1})", "tie_word_embeddings"},
      {R"({"eos_token_id":"</s>"})", "eos_token_id holds \"</s>\""},
      {R"({"eos_token_id":[1,-2]})", "eos_token_id holds -2"},
      {R"({"num_nextn_predict_layers":65})", "num_nextn_predict_layers is 65"},
  };
  for (const auto& [changes, message] : cases) {
    const auto c = parse_glm(changes);
    ASSERT_FALSE(c.ok()) << changes;
    EXPECT_THAT(c.status().message(), AllOf(HasSubstr("config.json: "), HasSubstr(message)))
        << changes;
    EXPECT_THAT(c.status().code(), ::testing::AnyOf(Code::kInvalidArgument, Code::kUnsupported))
        << changes;
  }
}

TEST(ModelConfig, UnknownModelTypeListsEveryKnownOne) {
  const auto c = parse_model_config(object_of(R"({"model_type":"gpt2"})"), nullptr);
  EXPECT_EQ(c.status().code(), Code::kUnsupported);
  EXPECT_EQ(model_families().size(), 15u);
  for (const ModelFamily& f : model_families())
    EXPECT_THAT(c.status().message(), HasSubstr(f.model_type));
}

TEST(ModelConfig, FallsBackToTheArchitecture) {
  EXPECT_EQ(parse_glm(R"({"model_type":null})")->model_type, "glm_moe_dsa");
  EXPECT_EQ(parse_glm(R"({"model_type":"glm_moe_dsa_ext"})")->model_type, "glm_moe_dsa");
  EXPECT_EQ(parse_glm(R"({"model_type":"kimi_k2","architectures":["DeepseekV3ForCausalLM"]})")
                ->model_type,
            "kimi_k2");
}

TEST(ModelConfig, ReadsTheLanguageModelOfAWrapper) {
  json::object outer = object_of(
      R"({"model_type":"kimi_vl","architectures":["KimiVlForConditionalGeneration"],"pad_token_id":3})");
  json::object inner = object_of(kGlm52);
  inner["model_type"] = "kimi_k2";
  inner["pad_token_id"] = nullptr;
  outer["text_config"] = inner;
  const auto c = parse_model_config(outer, nullptr);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->model_type, "kimi_k2");
  EXPECT_EQ(c->hidden_size, 6144);
  EXPECT_EQ(c->pad_token_id, 3);
  EXPECT_FALSE(c->uses_dsa());
}

TEST(ModelConfig, ReadsLegacyRopeScaling) {
  const auto c = parse_glm(
      R"({"model_type":"deepseek_v3","rope_parameters":null,"rope_theta":10000,"rope_scaling":{"type":"yarn",
    "factor":40,"original_max_position_embeddings":4096,"beta_fast":32,"beta_slow":1,"mscale":1.0,"mscale_all_dim":1.0}})");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->rope.type, RopeType::kYarn);
  EXPECT_EQ(c->rope.factor, 40);
  EXPECT_EQ(c->rope.theta, 10000);
  EXPECT_EQ(c->rope.original_max_position, 4096);
  EXPECT_EQ(c->rope.mscale_all_dim, 1);
  EXPECT_FALSE(c->uses_dsa());
  // A missing factor follows from the two lengths.
  EXPECT_EQ(
      parse_glm(
          R"({"rope_parameters":{"rope_type":"yarn","original_max_position_embeddings":65536}})")
          ->rope.factor,
      16);
}

constexpr std::string_view kGrouped =
    R"({"model_type":"llama","vocab_size":320,"hidden_size":64,"num_hidden_layers":4,
  "num_attention_heads":4,"max_position_embeddings":512,"intermediate_size":128})";

Result<ModelConfig> parse_grouped(std::string_view changes) {
  json::object config = object_of(kGrouped);
  for (const auto& [key, value] : object_of(changes)) config[key] = value;
  return parse_model_config(std::move(config), nullptr);
}

TEST(ModelConfig, GroupedQueryDefaultsAndChecks) {
  const auto c = parse_grouped("{}");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->num_kv_heads, 4);
  EXPECT_EQ(c->head_dim, 16);
  EXPECT_EQ(c->rotary_dim, 16);
  EXPECT_EQ(c->dtype, DType::kBF16);
  EXPECT_EQ(c->num_experts, 0);
  EXPECT_THAT(c->moe_layer, ElementsAre(false, false, false, false));
  EXPECT_THAT(parse_grouped(R"({"num_key_value_heads":3})").status().message(),
              HasSubstr("must be a multiple of num_key_value_heads 3"));
  EXPECT_THAT(parse_grouped(R"({"hidden_size":63})").status().message(),
              HasSubstr("there is no head_dim"));
  EXPECT_EQ(parse_grouped(R"({"head_dim":32})")->head_dim, 32);
  EXPECT_THAT(parse_grouped(R"({"head_dim":15})").status().message(),
              HasSubstr("15 of a head's values rotate"));
  EXPECT_EQ(parse_grouped(R"({"torch_dtype":"torch.float16"})")->dtype, DType::kF16);
}

TEST(ModelConfig, QwenMixesDenseAndSparseLayers) {
  const auto c = parse_grouped(
      R"({"model_type":"qwen3_moe","num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":32,
    "decoder_sparse_step":2,"mlp_only_layers":[3]})");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_THAT(c->moe_layer, ElementsAre(false, true, false, false));
  EXPECT_TRUE(c->use_qk_norm);
  EXPECT_THAT(
      parse_grouped(
          R"({"model_type":"qwen3_moe","num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":32,
    "intermediate_size":null,"mlp_only_layers":[3]})")
          .status()
          .message(),
      HasSubstr("intermediate_size is missing, and some layers are dense"));
}

TEST(ModelConfig, ADenseQwenNeedsItsWidth) {
  EXPECT_THAT(
      parse_grouped(R"({"model_type":"qwen3_moe","intermediate_size":null})").status().message(),
      HasSubstr("intermediate_size is missing"));
}

TEST(ModelConfig, MinimaxRotatesRotaryDim) {
  const auto parse = [](int rotary_dim) {
    return parse_grouped(format(
        R"({}"model_type":"minimax_m2","num_local_experts":8,"num_experts_per_tok":2,"rotary_dim":{}{})",
        "{", rotary_dim, "}"));
  };
  EXPECT_EQ(parse(8)->rotary_dim, 8);
  EXPECT_THAT(parse(18).status().message(), HasSubstr("rotary_dim is 18, allowed is 1 to 16"));
}

TEST(ModelConfig, SlidingWindows) {
  using enum AttentionKind;
  EXPECT_THAT(
      parse_grouped(
          R"({"model_type":"qwen3","sliding_window":8,"use_sliding_window":true,"max_window_layers":2})")
          ->attention_kinds,
      ElementsAre(kFull, kFull, kSliding, kSliding));
  EXPECT_THAT(
      parse_grouped(
          R"({"model_type":"qwen3_moe","sliding_window":8,"use_sliding_window":true,"max_window_layers":2})")
          ->attention_kinds,
      Each(kSliding));
  const auto off =
      parse_grouped(R"({"model_type":"qwen3","sliding_window":8,"use_sliding_window":false})");
  EXPECT_THAT(off->attention_kinds, Each(kFull));
  EXPECT_EQ(off->sliding_window, 0);
  const auto oss =
      parse_grouped(R"({"model_type":"gpt_oss","num_local_experts":8,"experts_per_token":2})");
  ASSERT_TRUE(oss.ok()) << oss.status().message();
  EXPECT_THAT(oss->attention_kinds, ElementsAre(kSliding, kFull, kSliding, kFull));
  EXPECT_EQ(oss->sliding_window, 128);
  EXPECT_EQ(oss->num_experts_per_tok, 2);
}

TEST(ReadModelConfig, MergesOverridesAndGenerationConfig) {
  TempDir dir;
  dir.write("config.json", kGlm52);
  dir.write("generation_config.json",
            R"({"eos_token_id":[154829,7],"temperature":0.6,"bos_token_id":5})");
  const auto c = read_model_config(
      *dir.open(),
      object_of(
          R"({"num_hidden_layers":4,"rope_parameters":{"rope_theta":1e6},"pad_token_id":null})"));
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->num_layers, 4);
  EXPECT_EQ(c->rope.theta, 1e6);
  EXPECT_EQ(c->raw.at("rope_parameters").at("rope_type").as_string(), "default");
  EXPECT_EQ(c->pad_token_id, -1);
  EXPECT_EQ(c->bos_token_id, 5);
  EXPECT_THAT(c->eos_token_ids, ElementsAre(154820, 154827, 154829, 7));
  EXPECT_EQ(c->generation.at("temperature").as_double(), 0.6);
}

TEST(ReadModelConfig, CutsLayerListsWithTheModel) {
  TempDir dir;
  json::object config = object_of(kGlm52);
  config["num_hidden_layers"] = 3;
  config["mlp_layer_types"] = object_of(R"({"v":["dense","sparse","sparse"]})").at("v");
  dir.write("config.json", json::dump(config));
  EXPECT_THAT(read_model_config(*dir.open(), object_of(R"({"num_hidden_layers":2})"))->moe_layer,
              ElementsAre(false, true));
  EXPECT_THAT(
      read_model_config(*dir.open(), object_of(R"({"num_hidden_layers":4})")).status().message(),
      HasSubstr("3 entries for 4 layers"));
}

TEST(ReadModelConfig, ErrorsNameTheFile) {
  const auto read = [](std::string_view config, std::string_view generation) {
    TempDir dir;
    dir.write("config.json", config);
    if (!generation.empty()) dir.write("generation_config.json", generation);
    return read_model_config(*dir.open(), {}).status().message();
  };
  EXPECT_THAT(read("[]", ""), HasSubstr("/config.json must hold an object"));
  EXPECT_THAT(read("{", ""), HasSubstr("/config.json: JSON is not valid"));
  EXPECT_THAT(read(std::string(100, '['), ""),
              HasSubstr("/config.json: JSON is nested deeper than 64"));
  EXPECT_THAT(read("{\"a\":1,\"a\":2}", ""), HasSubstr("\"a\" twice"));
  EXPECT_THAT(read(kGlm52, "{\"eos_token_id\":1.5}"),
              HasSubstr("generation_config.json: eos_token_id holds 1.5"));
  EXPECT_THAT(read(kGlm52, "nonsense"), HasSubstr("/generation_config.json: JSON is not valid"));
}

struct Golden {
  std::string name;
  std::function<void(const ModelConfig&)> check;
};

std::vector<Golden> goldens() {
  const auto mla = [](const ModelConfig& c) {
    EXPECT_THAT(std::vector({c.kv_lora_rank, c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim,
                             c.rotary_dim}),
                ElementsAre(32, 16, 16, 16, 16));
    EXPECT_TRUE(c.rope_interleave);
    EXPECT_THAT(std::vector({c.num_experts, c.num_experts_per_tok, c.moe_intermediate_size,
                             c.num_shared_experts, c.shared_expert_intermediate_size}),
                ElementsAre(16, 4, 32, 1, 32));
    EXPECT_EQ(c.routed_scaling_factor, 2.5);
    EXPECT_FALSE(c.moe_layer[0]);
    EXPECT_TRUE(c.moe_layer[1]);
  };
  const auto sigmoid = [mla](const ModelConfig& c) {
    mla(c);
    EXPECT_EQ(c.q_lora_rank, 48);
    EXPECT_EQ(c.scoring, ScoringFunc::kSigmoid);
    EXPECT_EQ(c.topk_method, TopkMethod::kNoauxTc);
    EXPECT_TRUE(c.norm_topk_prob);
  };
  const auto yarn = [](const ModelConfig& c) {
    EXPECT_EQ(c.rope.type, RopeType::kYarn);
    EXPECT_EQ(c.rope.factor, 4);
    EXPECT_EQ(c.rope.original_max_position, 128);
    EXPECT_EQ(c.rope.mscale, 1);
    EXPECT_EQ(c.rope.mscale_all_dim, 1);
    EXPECT_THAT(std::vector({c.n_group, c.topk_group}), ElementsAre(4, 2));
  };
  const auto dsa = [](const ModelConfig& c) {
    EXPECT_TRUE(c.uses_dsa());
    EXPECT_THAT(std::vector({c.index_n_heads, c.index_head_dim, c.index_topk}),
                ElementsAre(32, 32, 24));
    EXPECT_EQ(c.indexer_rope_interleave, c.model_type == "glm_moe_dsa");
  };
  const auto grouped = [](const ModelConfig& c) {
    EXPECT_FALSE(c.uses_mla() || c.uses_dsa() || c.rope_interleave);
    EXPECT_THAT(std::vector({c.num_heads, c.num_kv_heads, c.head_dim}), ElementsAre(4, 2, 16));
  };
  const auto small_moe = [grouped](const ModelConfig& c) {
    grouped(c);
    EXPECT_THAT(std::vector({c.num_experts, c.num_experts_per_tok}), ElementsAre(8, 2));
    EXPECT_THAT(c.moe_layer, Each(true));
    EXPECT_EQ(c.routed_scaling_factor, 1);
  };
  return {
      {"deepseek_v2",
       [=](const ModelConfig& c) {
         mla(c);
         EXPECT_EQ(c.q_lora_rank, 0);
         EXPECT_EQ(c.scoring, ScoringFunc::kSoftmax);
         EXPECT_EQ(c.topk_method, TopkMethod::kGreedy);
         EXPECT_FALSE(c.norm_topk_prob);
       }},
      {"deepseek_v3",
       [=](const ModelConfig& c) {
         sigmoid(c);
         yarn(c);
         EXPECT_FALSE(c.uses_dsa());
         EXPECT_EQ(c.num_mtp_layers, 1);
       }},
      {"deepseek_v32",
       [=](const ModelConfig& c) {
         sigmoid(c);
         yarn(c);
         dsa(c);
         EXPECT_THAT(full_layers(c), ElementsAre(0, 1, 2));
       }},
      {"glm4_moe",
       [=](const ModelConfig& c) {
         grouped(c);
         EXPECT_TRUE(c.attention_bias && c.use_qk_norm && c.norm_topk_prob);
         EXPECT_EQ(c.rotary_dim, 8);
         EXPECT_EQ(c.rope.theta, 1e6);
         EXPECT_EQ(c.topk_method, TopkMethod::kNoauxTc);
         EXPECT_EQ(c.num_mtp_layers, 1);
         EXPECT_THAT(c.moe_layer, ElementsAre(false, true, true));
         EXPECT_EQ(c.routed_scaling_factor, 2.5);
         EXPECT_EQ(c.shared_expert_intermediate_size, 32);
       }},
      {"glm4_moe_lite",
       [=](const ModelConfig& c) {
         sigmoid(c);
         EXPECT_EQ(c.rope.theta, 1e6);
         EXPECT_FALSE(c.uses_dsa());
         EXPECT_FLOAT_EQ(c.rms_norm_eps, 1e-5f);
       }},
      {"glm_moe_dsa",
       [=](const ModelConfig& c) {
         sigmoid(c);
         dsa(c);
         EXPECT_THAT(full_layers(c), ElementsAre(0, 1, 2));
         EXPECT_EQ(c.n_group, 1);
       }},
      {"glm_moe_dsa_shared_index",
       [=](const ModelConfig& c) {
         sigmoid(c);
         dsa(c);
         EXPECT_EQ(c.num_layers, 5);
         EXPECT_THAT(full_layers(c), ElementsAre(0, 1, 3));
       }},
      {"gpt_oss",
       [=](const ModelConfig& c) {
         small_moe(c);
         EXPECT_TRUE(c.attention_bias && c.attention_sinks && c.norm_topk_prob);
         EXPECT_EQ(c.swiglu_limit, 7);
         EXPECT_EQ(c.sliding_window, 24);
         EXPECT_EQ(c.moe_intermediate_size, 32);
         EXPECT_EQ(c.rope.type, RopeType::kYarn);
         EXPECT_FALSE(c.rope.truncate);
         EXPECT_EQ(c.rope.theta, 150000);
         EXPECT_EQ(c.rope.factor, 32);
         using enum AttentionKind;
         EXPECT_THAT(c.attention_kinds, ElementsAre(kSliding, kFull, kSliding));
       }},
      {"llama",
       [=](const ModelConfig& c) {
         grouped(c);
         EXPECT_EQ(c.num_experts, 0);
         EXPECT_EQ(c.rope.type, RopeType::kLlama3);
         EXPECT_EQ(c.rope.low_freq_factor, 1);
         EXPECT_EQ(c.rope.high_freq_factor, 4);
         EXPECT_EQ(c.rope.original_max_position, 128);
         EXPECT_EQ(c.rope.theta, 500000);
         EXPECT_FALSE(c.use_qk_norm);
       }},
      {"minimax_m2",
       [=](const ModelConfig& c) {
         small_moe(c);
         EXPECT_EQ(c.rotary_dim, 8);
         EXPECT_EQ(c.rope.theta, 5e6);
         EXPECT_EQ(c.scoring, ScoringFunc::kSigmoid);
         EXPECT_EQ(c.topk_method, TopkMethod::kNoauxTc);
         EXPECT_TRUE(c.use_qk_norm && c.norm_topk_prob);
         EXPECT_EQ(c.moe_intermediate_size, 32);
       }},
      {"mixtral",
       [=](const ModelConfig& c) {
         small_moe(c);
         EXPECT_EQ(c.moe_intermediate_size, 64);
         EXPECT_TRUE(c.norm_topk_prob);
         EXPECT_EQ(c.rope.theta, 1e6);
         EXPECT_EQ(c.sliding_window, 0);
       }},
      {"olmoe",
       [=](const ModelConfig& c) {
         small_moe(c);
         EXPECT_TRUE(c.use_qk_norm);
         EXPECT_FALSE(c.norm_topk_prob);
         EXPECT_EQ(c.clip_qkv, 0);
         EXPECT_EQ(c.moe_intermediate_size, 32);
       }},
      {"qwen2_moe",
       [=](const ModelConfig& c) {
         small_moe(c);
         EXPECT_TRUE(c.attention_bias);
         EXPECT_FALSE(c.norm_topk_prob || c.use_qk_norm);
         EXPECT_EQ(c.shared_expert_intermediate_size, 48);
         EXPECT_EQ(c.num_shared_experts, 1);
         EXPECT_EQ(c.moe_intermediate_size, 32);
         EXPECT_EQ(c.sliding_window, 0);
       }},
      {"qwen3",
       [=](const ModelConfig& c) {
         grouped(c);
         EXPECT_TRUE(c.use_qk_norm);
         EXPECT_EQ(c.num_experts, 0);
         EXPECT_FALSE(c.tie_word_embeddings);
       }},
      {"qwen3_moe",
       [=](const ModelConfig& c) {
         small_moe(c);
         EXPECT_TRUE(c.use_qk_norm && c.norm_topk_prob);
         EXPECT_EQ(c.num_shared_experts, 0);
       }},
  };
}

TEST(ReadModelConfig, ReadsEveryGoldenCheckpoint) {
  const std::string root = MOESTRO_SOURCE_DIR "/tests/golden/";
  for (const Golden& golden : goldens()) {
    SCOPED_TRACE(golden.name);
    const auto files = open_model_directory(root + golden.name);
    ASSERT_TRUE(files.ok()) << files.status().message();
    const auto c = read_model_config(**files, {});
    ASSERT_TRUE(c.ok()) << c.status().message();
    EXPECT_EQ(c->model_type,
              golden.name == "glm_moe_dsa_shared_index" ? "glm_moe_dsa" : golden.name);
    EXPECT_THAT(std::vector({c->vocab_size, c->hidden_size, c->bos_token_id, c->pad_token_id}),
                ElementsAre(320, 64, 0, 2));
    EXPECT_THAT(c->eos_token_ids, ElementsAre(1));
    EXPECT_EQ(c->max_position_embeddings, 512);
    golden.check(*c);
  }
}

}  // namespace
}  // namespace moestro::checkpoint
