#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>

#include "checkpoint/random_fill.h"
#include "checkpoint/test_files.h"
#include "checkpoint/weight_source.h"
#include "tensor/numeric.h"

namespace moestro::checkpoint {
namespace {

using testing::object_of;

ModelConfig glm(std::string_view type = "glm_moe_dsa") {
  json::object config = object_of(
      R"({"vocab_size":320,"hidden_size":256,"num_hidden_layers":5,"num_nextn_predict_layers":1,
    "first_k_dense_replace":1,"intermediate_size":512,"moe_intermediate_size":128,"n_routed_experts":16,"num_experts_per_tok":4,
    "n_shared_experts":1,"num_attention_heads":4,"q_lora_rank":64,"kv_lora_rank":32,"qk_nope_head_dim":16,"qk_rope_head_dim":16,
    "v_head_dim":16,"index_n_heads":4,"index_head_dim":32,"index_topk":24,"index_topk_freq":2,"max_position_embeddings":512})");
  config["model_type"] = std::string(type);
  auto parsed = parse_model_config(std::move(config), nullptr);
  CHECK(parsed.ok(), parsed.status().message());
  return std::move(parsed).value();
}

QuantConfig quant(std::string_view text) {
  json::object config;
  config["quantization_config"] = object_of(text);
  auto parsed = parse_quant_config(config);
  CHECK(parsed.ok(), parsed.status().message());
  return std::move(parsed).value();
}

std::vector<float> floats(const TensorView& view) {
  std::vector<float> out(static_cast<size_t>(view.num_elements()));
  for (size_t i = 0; i < out.size(); ++i) {
    const std::byte* p = view.bytes.data();
    uint16_t half = 0;
    switch (view.dtype) {
      case DType::kBF16:
        std::memcpy(&half, p + 2 * i, 2);
        out[i] = to_float(Bf16{half});
        break;
      case DType::kF16:
        std::memcpy(&half, p + 2 * i, 2);
        out[i] = to_float(F16{half});
        break;
      case DType::kF32:
        std::memcpy(&out[i], p + 4 * i, 4);
        break;
      case DType::kI8:
        out[i] = static_cast<float>(static_cast<int8_t>(p[i]));
        break;
      case DType::kF8E4M3:
        out[i] = e4m3_to_float(std::to_integer<uint8_t>(p[i]));
        break;
      case DType::kF8E8M0:
        out[i] = e8m0_to_float(std::to_integer<uint8_t>(p[i]));
        break;
      default:
        CHECK(false, "type");
    }
  }
  return out;
}

double mean(const std::vector<float>& v) {
  double sum = 0;
  for (const float x : v) sum += x;
  return sum / static_cast<double>(v.size());
}
double deviation(const std::vector<float>& v) {
  const double m = mean(v);
  double sum = 0;
  for (const float x : v) sum += (x - m) * (x - m);
  return std::sqrt(sum / static_cast<double>(v.size()));
}

TEST(DummyWeights, SameForSameNameAndSeedOnly) {
  const auto config = glm();
  const auto a = dummy_weights(config, {}, 1), b = dummy_weights(config, {}, 1),
             c = dummy_weights(config, {}, 2);
  const auto bytes = [](const WeightSource& s, std::string_view name) {
    const auto view = s.get(name, {64, 256}, {DType::kBF16});
    CHECK(view.ok(), view.status().message());
    return std::string(reinterpret_cast<const char*>(view->bytes.data()), view->bytes.size());
  };
  const std::string q = bytes(*a, "model.layers.0.self_attn.q_a_proj.weight");
  EXPECT_EQ(q, bytes(*b, "model.layers.0.self_attn.q_a_proj.weight"));
  EXPECT_NE(q, bytes(*c, "model.layers.0.self_attn.q_a_proj.weight"));
  EXPECT_NE(q, bytes(*a, "model.layers.1.self_attn.q_a_proj.weight"));
}

TEST(DummyWeights, FloatsHaveTheSizeThatKeepsActivationsNearOne) {
  const auto source = dummy_weights(glm(), {}, 7);
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const auto w =
        floats(*source->get("model.layers.1.mlp.experts.3.down_proj.weight", {256, 128}, {dtype}));
    EXPECT_NEAR(deviation(w), 1 / std::sqrt(128.0), 0.002) << torch_name(dtype);
    EXPECT_NEAR(mean(w), 0, 0.002);
  }
  const auto norm = floats(*source->get("model.norm.weight", {256}, {DType::kBF16}));
  EXPECT_NEAR(mean(norm), 1, 0.01);
  EXPECT_GT(deviation(norm), 0.005);
  const auto bias =
      floats(*source->get("model.layers.1.mlp.gate.e_score_correction_bias", {16}, {DType::kF32}));
  EXPECT_LT(std::abs(mean(bias)), 0.02);
}

// Dequantised, a weight has the deviation 1/sqrt(width) whatever it is stored as.
TEST(DummyWeights, ScalesFitTheCodes) {
  const auto config = glm();
  const double wanted = 1 / std::sqrt(256.0);
  const std::string_view weight = "model.layers.1.mlp.experts.3.up_proj.weight";
  {
    const auto source = dummy_weights(
        config,
        quant(R"({"quant_method":"compressed-tensors","config_groups":{"W8A8":["Linear"]}})"), 7);
    EXPECT_TRUE(source->has("model.layers.1.mlp.experts.3.up_proj.weight_scale"));
    EXPECT_FALSE(source->has("model.layers.1.mlp.gate.weight_scale"));
    const auto q = floats(*source->get(weight, {128, 256}, {DType::kI8}));
    const auto scale = floats(*source->get("model.layers.1.mlp.experts.3.up_proj.weight_scale",
                                           {128, 1}, {DType::kF32, DType::kBF16}));
    EXPECT_EQ(*std::max_element(q.begin(), q.end()), 127);
    EXPECT_EQ(*std::min_element(q.begin(), q.end()), -128);
    EXPECT_GT(*std::min_element(scale.begin(), scale.end()), 0);
    EXPECT_NEAR(deviation(q) * mean(scale), wanted, 0.05 * wanted);
  }
  {
    const auto source =
        dummy_weights(config, quant(R"({"quant_method":"fp8","weight_block_size":[128,128]})"), 7);
    EXPECT_TRUE(source->has("model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"));
    EXPECT_FALSE(source->has("model.layers.1.mlp.experts.3.up_proj.weight_scale"));
    const auto q = floats(*source->get(weight, {128, 256}, {DType::kF8E4M3}));
    for (const float x : q) ASSERT_TRUE(std::isfinite(x));
    const auto scale = floats(*source->get("model.layers.1.mlp.experts.3.up_proj.weight_scale_inv",
                                           {1, 2}, {DType::kF32}));
    EXPECT_NEAR(deviation(q) * mean(scale), wanted, 0.25 * wanted);
    const auto power = floats(*source->get("model.layers.1.mlp.experts.3.up_proj.weight_scale_inv",
                                           {1, 2}, {DType::kF8E8M0}));
    EXPECT_GT(deviation(q) * power[0], wanted / 1.6);
    EXPECT_LT(deviation(q) * power[0], wanted * 1.6);
  }
}

TEST(DummyWeights, PackedFormatsCarryTheirHelpers) {
  const auto source = dummy_weights(
      glm(),
      quant(R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"g":
    {"targets":["Linear"],"weights":{"num_bits":4,"group_size":32,"symmetric":false,"actorder":"group"}}}})"),
      7);
  const std::string x = "model.layers.1.mlp.experts.3.up_proj.";
  for (const char* suffix :
       {"weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"})
    EXPECT_TRUE(source->has(x + suffix)) << suffix;
  EXPECT_FALSE(source->has(x + "weight"));
  const auto shape = source->get(x + "weight_shape", {2}, {DType::kI64});
  int64_t sizes[2];
  std::memcpy(sizes, shape->bytes.data(), sizeof sizes);
  EXPECT_THAT(sizes, ::testing::ElementsAre(128, 256));
  const auto groups = source->get(x + "weight_g_idx", {256}, {DType::kI32});
  int32_t last = 0;
  std::memcpy(&last, groups->bytes.data() + 255 * 4, 4);
  EXPECT_EQ(last, 7);
  const auto zero = source->get(x + "weight_zero_point", {16, 8}, {DType::kI32});
  for (const std::byte b : zero->bytes) ASSERT_EQ(b, std::byte{0x88});  // offset binary: zero
}

TEST(DummyWeights, HasWhatSuchACheckpointHas) {
  const auto source = dummy_weights(glm(), {}, 7);
  for (const char* name :
       {"lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight",
        "model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.e_score_correction_bias",
        "model.layers.4.mlp.experts.15.down_proj.weight",
        "model.layers.1.mlp.shared_experts.up_proj.weight",
        "model.layers.0.self_attn.q_a_layernorm.weight",
        "model.layers.1.self_attn.indexer.wq_b.weight",
        "model.layers.1.self_attn.indexer.k_norm.bias", "model.layers.5.eh_proj.weight",
        "model.layers.5.shared_head.norm.weight", "model.layers.5.mlp.experts.0.up_proj.weight"})
    EXPECT_TRUE(source->has(name)) << name;
  for (const char* name :
       {"model.layers.0.mlp.gate.weight", "model.layers.1.mlp.gate_proj.weight",
        "model.layers.1.mlp.experts.16.up_proj.weight", "model.layers.1.mlp.experts.gate_up_proj",
        "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_a_proj.bias",
        "model.layers.2.self_attn.indexer.wk.weight",  // a layer that shares
        "model.layers.5.embed_tokens.weight", "model.layers.5.shared_head.head.weight",
        "model.layers.6.eh_proj.weight", "model.layers.0.self_attn.k_scale", "nonsense", ""})
    EXPECT_FALSE(source->has(name)) << name;
}

TEST(DummyWeights, ManyHundredMegabytesASecond) {
  const auto source = dummy_weights(glm(), {}, 7);
  const auto rate = [&](DType dtype) {
    const auto start = std::chrono::steady_clock::now();
    const auto view = source->get("model.layers.0.mlp.up_proj.weight", {4096, 8192}, {dtype});
    return static_cast<double>(view->bytes.size()) / 1e6 /
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const DType dtype : {DType::kBF16, DType::kF32, DType::kI8, DType::kF8E4M3}) {
    const double megabytes = rate(dtype);
    RecordProperty(std::string(torch_name(dtype)), std::to_string(megabytes));
#if defined(NDEBUG) || defined(__OPTIMIZE__)
    EXPECT_GT(megabytes, 20) << torch_name(dtype);  // the machine may be busy
#endif
  }
}

TEST(DummyWeights, MemoryGoesWithTheOwner) {
  const auto source = dummy_weights(glm(), {}, 7);
  auto view = source->get("model.norm.weight", {256}, {DType::kF32});
  const std::weak_ptr<const void> memory = view->owner;
  EXPECT_FALSE(memory.expired());
  view->owner.reset();
  EXPECT_TRUE(memory.expired());
}

TEST(DummyWeights, RefusesAbsurdSizes) {
  const auto view =
      dummy_weights(glm(), {}, 7)->get("w", {int64_t{1} << 40, int64_t{1} << 40}, {DType::kF32});
  EXPECT_THAT(view.status().message(), ::testing::HasSubstr("tensor w is too large"));
}

TEST(RandomFill, ATensorIsAPrefixOfALongerOne) {
  std::vector<std::byte> shorter(2 * 4095), longer(2 * 10000);
  fill_normal(5, shorter, DType::kBF16, 0, 1);
  fill_normal(5, longer, DType::kBF16, 0, 1);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
  fill_random_bytes(5, std::span(shorter).first(13));
  fill_random_bytes(5, longer);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.begin() + 13, longer.begin()));
}

}  // namespace
}  // namespace moestro::checkpoint
