// The other schemes, from the bytes of a checkpoint to the packed matrix: the packed weights must
// be those of a plain reading of the same bytes, written out here by the formats' definitions.
#include "checkpoint/slimquant_scales.h"
#include "quant/method_fixture.h"

namespace moestro::quant {
namespace {

TEST_F(MethodTest, BlockwiseInt8) {
  const int32_t n = 130, k = 200;
  config = config_of(R"({"quant_method":"blockwise_int8","weight_block_size":[128,128]})");
  std::vector<int8_t> q(static_cast<size_t>(n * k));
  for (int8_t& v : q) v = static_cast<int8_t>(rng_());
  const std::vector<float> s = {0.5f, 0.25f, 2, 1};
  w.add("m.weight", DType::kI8, {n, k}, q);
  w.add("m.weight_scale_inv", DType::kF32, {2, 2}, s);
  const ModuleSpec spec = check(n, k, [&](int32_t c, int32_t i) {
    return q[static_cast<size_t>(c * k + i)] *
           double{s[static_cast<size_t>(c / 128 * 2 + i / 128)]};
  });
  EXPECT_EQ(spec.method->name(), "int8_block");
  EXPECT_EQ(spec.format.activation_group, 128);
  EXPECT_EQ(spec.substitution, "");
}

// ---- slimquant_w4a8

TEST_F(MethodTest, SlimquantOfTheConverter) {
  config = config_of(R"({"quant_method":"slimquant_w4a8","activation_scheme":"dynamic"})");
  // High nibble first, two's complement: 1, -2 | 7, -8.
  w.add<uint8_t>("x.experts.0.m.weight", DType::kI8, {1, 2}, {0x1e, 0x78});
  w.add<float>("x.experts.0.m.weight_scale", DType::kF32, {1, 1}, {0.25f / 16});
  const ModuleSpec s = make_module(w, config, "x.experts.0.m", 1, 4, DType::kBF16).value();
  EXPECT_EQ(s.format, (PackedFormat{WeightType::kInt4, ActivationType::kInt8}));
  EXPECT_EQ(s.method->name(), "slimquant_w4a8");
  const auto m = load_matrix(context_, s).value();
  const double expected[] = {0.25, -0.5, 1.75, -2};
  for (int32_t i = 0; i < 4; ++i) EXPECT_EQ(weight(m, 0, i), expected[i]);
  // An expert whose rows are whole is int8.
  w.add<int8_t>("x.experts.1.m.weight", DType::kI8, {1, 4}, {1, 2, 3, 4});
  w.add<float>("x.experts.1.m.weight_scale", DType::kF32, {1, 1}, {1});
  EXPECT_EQ(make_module(w, config, "x.experts.1.m", 1, 4, DType::kBF16).value().format,
            PackedFormat::kInt8);
}

// What the stored scales mean is settled by the key, else by the shared expert beside, else
// guessed.
TEST_F(MethodTest, SlimquantScalesAreSettled) {
  const std::string base = R"({"quant_method":"slimquant_w4a8","activation_scheme":"dynamic")";
  w.add<uint8_t>("l.mlp.experts.0.up_proj.weight", DType::kI8, {2, 2}, {0x1e, 0x78, 0x1e, 0x78});
  const auto settled = [&](const std::string& keys) {
    config = config_of((base + keys + "}").c_str());
    EXPECT_TRUE(checkpoint::settle_slimquant_scales(w, config).ok());
    return make_module(w, config, "l.mlp.experts.0.up_proj", 2, 4, DType::kBF16).value();
  };
  const auto first_weight = [&](const ModuleSpec& s) {
    return weight(load_matrix(context_, s).value(), 0, 0);
  };
  const std::string experts = "l.mlp.experts.0.up_proj.weight_scale";
  w.add<float>(experts, DType::kF32, {2, 1}, {0.25f, 0.25f});

  ModuleSpec s = settled("");
  EXPECT_EQ(first_weight(s), 4);
  EXPECT_THAT(s.substitution, HasSubstr("int4_scale_divisor 1"));
  s = settled(R"(,"int4_scale_divisor":1)");
  EXPECT_EQ(first_weight(s), 0.25);
  EXPECT_EQ(s.substitution, "");
  EXPECT_THAT(s.weights, HasSubstr("whole"));

  // The shared expert's rows reach 1.5: so would these, with whole scales 1.75, with sixteenths 28.
  w.add<int8_t>("l.mlp.shared_experts.up_proj.weight", DType::kI8, {2, 4}, std::vector<int8_t>(8));
  w.add<float>("l.mlp.shared_experts.up_proj.weight_scale", DType::kF32, {2, 1},
               {1.5f / 127, 1.5f / 127});
  s = settled("");
  EXPECT_EQ(first_weight(s), 0.25);
  EXPECT_EQ(s.substitution, "");
  w.add<float>(experts, DType::kF32, {2, 1}, {0.25f / 16, 0.25f / 16});
  s = settled("");
  EXPECT_EQ(first_weight(s), 0.25);
  EXPECT_THAT(s.weights, HasSubstr("a sixteenth"));
  w.add<float>(experts, DType::kF32, {2, 1}, {0.25f / 4, 0.25f / 4});
  EXPECT_THAT(settled("").substitution, HasSubstr("could be either"));
}

TEST_F(MethodTest, SlimquantOfTheProvider) {
  config = config_of(
      R"({"quant_method":"slimquant_w4a8","w4_dir":true,"weight_bits":4,"group_size":-1,"sym":true})");
  w.add<uint8_t>("x.experts.0.m.qweight", DType::kU8, {1, 2}, {0xe1, 0x87});  // low nibble first
  w.add<float>("x.experts.0.m.scales", DType::kF32, {1, 1}, {0.25f});
  const auto s = make_module(w, config, "x.experts.0.m", 1, 4, DType::kBF16).value();
  EXPECT_EQ(s.method->name(), "slimquant_w4a8");
  const auto m = load_matrix(context_, s).value();
  const double expected[] = {0.25, -0.5, 1.75, -2};
  for (int32_t i = 0; i < 4; ++i) EXPECT_EQ(weight(m, 0, i), expected[i]);
}

// ---- fp4

double fp4_value(int32_t code) {
  constexpr double kMagnitude[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -kMagnitude[code & 7] : kMagnitude[code & 7];
}
std::vector<uint8_t> pack_bytes(const std::vector<int32_t>& codes) {  // low nibble first
  std::vector<uint8_t> out(codes.size() / 2);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
  return out;
}

TEST_F(MethodTest, Mxfp4OfCompressedTensors) {
  const int32_t n = 3, k = 64;
  config = compressed("mxfp4-pack-quantized",
                      R"({"num_bits":4,"type":"float","strategy":"group","group_size":32})");
  const auto q = codes(n, k);
  const std::vector<uint8_t> s = {120, 121, 122, 127, 130, 100};
  w.add("m.weight_packed", DType::kU8, {n, k / 2}, pack_bytes(q));
  w.add("m.weight_scale", DType::kU8, {n, 2}, s);
  const auto value = [&](int32_t c, int32_t i) {
    return fp4_value(q[static_cast<size_t>(c * k + i)]) *
           std::exp2(s[static_cast<size_t>(c * 2 + i / 32)] - 127);
  };
  ModuleSpec spec = check(n, k, value);
  EXPECT_EQ(spec.format,
            (PackedFormat{WeightType::kFp4, ActivationType::kBf16, 32, DType::kF8E8M0}));
  EXPECT_EQ(spec.substitution, "");
  EXPECT_NE(check(n, k, value, DType::kF32).substitution, "");
  config = compressed(
      "mxfp4-pack-quantized", R"({"num_bits":4,"type":"float","strategy":"group","group_size":32})",
      R"({"num_bits":4,"type":"float","strategy":"group","group_size":32,"dynamic":true})");
  spec = check(n, k, value);
  EXPECT_THAT(spec.substitution, HasSubstr("fp4 -> bfloat16 activations"));
  w.add<uint8_t>("m.weight_scale", DType::kU8, {n, 2}, {120, 121, 255, 127, 130, 100});
  EXPECT_THAT(failure(n, k).message(), HasSubstr("element 2 is not a finite number"));
}

TEST_F(MethodTest, Mxfp4OfGptOss) {
  const int32_t experts = 2, wide = 3, k = 64;  // gate and up rows alternate
  config = config_of(R"({"quant_method":"mxfp4"})");
  const auto q = codes(experts * 2 * wide, k);
  std::vector<uint8_t> s(static_cast<size_t>(experts * 2 * wide * 2));
  for (size_t i = 0; i < s.size(); ++i) s[i] = static_cast<uint8_t>(115 + i);
  const auto bias = bf16_scales(static_cast<size_t>(experts * 2 * wide));
  const std::string p = "model.layers.0.mlp.experts.";
  w.add(p + "gate_up_proj_blocks", DType::kU8, {experts, 2 * wide, 2, 16}, pack_bytes(q));
  w.add(p + "gate_up_proj_scales", DType::kU8, {experts, 2 * wide, 2}, s);
  w.add(p + "gate_up_proj_bias", DType::kBF16, {experts, 2 * wide}, bias);
  const auto gate = make_module(w, config, p + "1.gate_proj", wide, k, DType::kBF16).value();
  const auto up = make_module(w, config, p + "1.up_proj", wide, k, DType::kBF16).value();
  EXPECT_EQ(gate.method->name(), "mxfp4");
  EXPECT_EQ(gate.substitution, "");
  w.add("d.weight", DType::kBF16, {k, wide}, bf16_scales(static_cast<size_t>(k * wide)));
  const auto down = make_module(w, {}, "d", k, wide, DType::kBF16).value();
  const auto m = load_gated_mlp(context_, gate, up, down).value().gate_up;
  ASSERT_NE(m.bias, nullptr);
  for (int32_t c = 0; c < 2 * wide; ++c) {
    const int32_t row = 2 * wide + c, packed = c / 2 + (c % 2 ? 16 : 0);
    EXPECT_EQ(m.bias[packed], static_cast<float>(bf16_value(bias[static_cast<size_t>(row)])));
    for (int32_t i = 0; i < k; ++i)
      ASSERT_EQ(weight(m, packed, i), fp4_value(q[static_cast<size_t>(row * k + i)]) *
                                          std::exp2(s[static_cast<size_t>(row * 2 + i / 32)] - 127))
          << c << " " << i;
  }
  EXPECT_EQ(
      load_matrix(context_, make_module(w, config, p + "2.up_proj", wide, k, DType::kBF16).value())
          .status()
          .code(),
      Code::kDataLoss);
}

TEST_F(MethodTest, FusedFloatExpertsAreTransposed) {
  const int32_t experts = 2, wide = 3, hidden = 5;
  std::vector<float> v(static_cast<size_t>(experts * hidden * 2 * wide));
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i);
  w.add("e.experts.gate_up_proj", DType::kF32, {experts, hidden, 2 * wide}, v);
  const auto s = make_module(w, config, "e.experts.1.up_proj", wide, hidden, DType::kF32).value();
  const auto m = load_matrix(context_, s).value();
  for (int32_t c = 0; c < wide; ++c)
    for (int32_t i = 0; i < hidden; ++i)
      EXPECT_EQ(weight(m, c, i), (hidden + i) * 2 * wide + 2 * c + 1);
}

TEST_F(MethodTest, FusedFloatExpertsOfTransformersAreReadAsTheyLie) {
  const int32_t experts = 2, wide = 2, hidden = 4;  // 2 * wide == hidden: down's shape decides
  std::vector<float> gate_up(static_cast<size_t>(experts * 2 * wide * hidden)),
      down(static_cast<size_t>(experts * hidden * wide));
  for (size_t i = 0; i < gate_up.size(); ++i) gate_up[i] = static_cast<float>(i);
  for (size_t i = 0; i < down.size(); ++i) down[i] = static_cast<float>(100 + i);
  w.add("e.experts.gate_up_proj", DType::kF32, {experts, 2 * wide, hidden}, gate_up);
  w.add("e.experts.down_proj", DType::kF32, {experts, hidden, wide}, down);
  const auto load = [&](const char* name, int32_t n, int32_t k) {
    return load_matrix(context_, make_module(w, config, name, n, k, DType::kF32).value()).value();
  };
  const auto gate = load("e.experts.1.gate_proj", wide, hidden),
             up = load("e.experts.1.up_proj", wide, hidden),
             out = load("e.experts.1.down_proj", hidden, wide);
  for (int32_t c = 0; c < wide; ++c)
    for (int32_t i = 0; i < hidden; ++i) {
      EXPECT_EQ(weight(gate, c, i), (2 * wide + c) * hidden + i);
      EXPECT_EQ(weight(up, c, i), (3 * wide + c) * hidden + i);
      EXPECT_EQ(weight(out, i, c), 100 + (hidden + i) * wide + c);
    }
}

TEST_F(MethodTest, Nvfp4OfBothProducers) {
  const int32_t n = 2, k = 32;
  const auto q = codes(n, k);
  const std::vector<uint8_t> s = {0x38, 0x40, 0x30, 0x7e};  // 1, 2, 0.5, 448
  const double group[] = {1, 2, 0.5, 448};
  const auto value = [&](int32_t c, int32_t i) {
    return fp4_value(q[static_cast<size_t>(c * k + i)]) * group[c * 2 + i / 16] * 0.125;
  };
  config = compressed(
      "nvfp4-pack-quantized",
      R"({"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16})",
      R"({"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16,"dynamic":"local"})");
  w.add("m.weight_packed", DType::kU8, {n, k / 2}, pack_bytes(q));
  w.add("m.weight_scale", DType::kF8E4M3, {n, 2}, s);
  w.add<float>("m.weight_global_scale", DType::kF32, {1}, {8});  // a divisor
  ModuleSpec spec = check(n, k, value);
  EXPECT_EQ(spec.format,
            (PackedFormat{WeightType::kFp4, ActivationType::kBf16, 16, DType::kF8E4M3}));
  EXPECT_THAT(spec.substitution, HasSubstr("fp4 -> bfloat16 activations"));
  w.add<float>("m.weight_global_scale", DType::kF32, {1}, {0});
  EXPECT_THAT(failure(n, k).message(), HasSubstr("has no inverse"));

  for (const char* name : {"m.weight_packed", "m.weight_global_scale"}) w.remove(name);
  config = config_of(R"({"quant_method":"modelopt","quant_algo":"NVFP4","group_size":16})");
  w.add("m.weight", DType::kU8, {n, k / 2}, pack_bytes(q));
  w.add<float>("m.weight_scale_2", DType::kF32, {}, {0.125f});  // a multiplier
  spec = check(n, k, value);
  EXPECT_EQ(spec.method->name(), "nvfp4");
}

// ---- eight bits

TEST_F(MethodTest, Int8ScalesOfEveryShapeAndType) {
  w.add<int8_t>("m.weight", DType::kI8, {2, 3}, {1, -2, 3, 127, -128, 0});
  const double q[] = {1, -2, 3, 127, -128, 0};
  const auto expect_scales = [&](double a, double b) {
    EXPECT_EQ(check(2, 3, [&](int32_t c, int32_t i) { return q[c * 3 + i] * (c ? b : a); }).format,
              PackedFormat::kInt8);
  };
  w.add<float>("m.weight_scale", DType::kF32, {2, 1}, {0.5f, 0.25f});
  expect_scales(0.5, 0.25);
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {2}, {0x3f00, 0x4000});
  expect_scales(0.5, 2);
  w.add<float>("m.weight_scale", DType::kF32, {1}, {3});
  expect_scales(3, 3);
  EXPECT_EQ(spec(2, 3).value().weights, "int8 per tensor");
  w.add<float>("m.weight_scale", DType::kF32, {2, 1}, {0.5f, NAN});
  EXPECT_THAT(failure(2, 3).message(), HasSubstr("element 1"));
  w.add<float>("m.weight_scale", DType::kF32, {3, 1}, {1, 1, 1});
  EXPECT_EQ(failure(2, 3).code(), Code::kDataLoss);
}

TEST_F(MethodTest, AsymmetricInt8RunsInFloats) {
  config = compressed("int-quantized",
                      R"({"num_bits":8,"type":"int","symmetric":false,"strategy":"channel"})",
                      R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true})");
  w.add<int8_t>("m.weight", DType::kI8, {2, 2}, {1, -2, 127, -128});
  w.add<float>("m.weight_scale", DType::kF32, {2, 1}, {0.5f, 0.25f});
  w.add<int8_t>("m.weight_zero_point", DType::kI8, {2, 1}, {3, -4});
  const double expected[] = {-1, -2.5, 32.75, -31};
  const auto value = [&](int32_t c, int32_t i) { return expected[c * 2 + i]; };
  const ModuleSpec s = check(2, 2, value);
  EXPECT_EQ(s.format, PackedFormat::kBf16);
  EXPECT_THAT(s.substitution, HasSubstr("asymmetric int8 weights -> "));
  // Declared symmetric, old files still carry zeros.
  config = compressed("int-quantized", R"({"num_bits":8,"type":"int","strategy":"channel"})",
                      R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true})");
  EXPECT_EQ(spec(2, 2).value().format, PackedFormat::kInt8);
}

TEST_F(MethodTest, ActivationsThatAreNotKeptAreNamed) {
  w.add<int8_t>("m.weight", DType::kI8, {1, 2}, {1, 2});
  w.add<float>("m.weight_scale", DType::kF32, {1, 1}, {1});
  constexpr const char* kInt8 = R"({"num_bits":8,"type":"int","strategy":"channel"})";
  const auto said = [&](const char* activations) {
    config = compressed("int-quantized", kInt8, activations);
    return spec(1, 2).value().substitution;
  };
  EXPECT_EQ(said(R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true})"), "");
  EXPECT_THAT(said(R"({"num_bits":8,"type":"int","strategy":"tensor","dynamic":false})"),
              HasSubstr("int8 activations with a static scale -> int8 per token, dynamic"));
  EXPECT_THAT(said(R"({"num_bits":8,"type":"int","strategy":"tensor","dynamic":true})"),
              HasSubstr("a scale a tensor"));
  EXPECT_THAT(
      said(R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":false})"),
      HasSubstr("asymmetric"));
  EXPECT_THAT(said("null"), HasSubstr("int8 per channel x bfloat16 -> "));
}

TEST_F(MethodTest, Fp8ChannelsAndTensors) {
  const std::vector<uint8_t> q = {0x38, 0xb8, 0x7e, 0x01};  // 1, -1, 448, 2^-9
  const double value[] = {1, -1, 448, std::exp2(-9)};
  w.add("m.weight", DType::kF8E4M3, {2, 2}, q);
  w.add<float>("m.weight_scale", DType::kF32, {2, 1}, {0.5f, 2});
  config = compressed("float-quantized", R"({"num_bits":8,"type":"float","strategy":"channel"})",
                      R"({"num_bits":8,"type":"float","strategy":"token","dynamic":true})");
  ModuleSpec s =
      check(2, 2, [&](int32_t c, int32_t i) { return value[c * 2 + i] * (c ? 2 : 0.5); });
  EXPECT_EQ(s.format, (PackedFormat{WeightType::kFp8, ActivationType::kFp8}));
  EXPECT_EQ(s.substitution, "");
  config = compressed("float-quantized", R"({"num_bits":8,"type":"float","strategy":"channel"})");
  EXPECT_EQ(spec(2, 2).value().format, (PackedFormat{WeightType::kFp8, ActivationType::kBf16}));
  EXPECT_EQ(spec(2, 2).value().substitution, "");
  config = config_of(R"({"quant_method":"fp8","activation_scheme":"static"})");
  w.add<float>("m.weight_scale", DType::kF32, {}, {0.25f});
  w.add<float>("m.input_scale", DType::kF32, {}, {0.1f});
  s = check(2, 2, [&](int32_t c, int32_t i) { return value[c * 2 + i] * 0.25; });
  EXPECT_EQ(s.weights, "fp8 per tensor");
  EXPECT_THAT(s.substitution, HasSubstr("fp8 activations with a static scale -> fp8 per token"));
}

TEST_F(MethodTest, BlocksOfFp8AndInt8WithPartialEdges) {
  const int32_t n = 130, k = 200;  // blocks 2 x 2
  const std::vector<float> s = {0.5f, 2, 4, 8};
  std::vector<uint8_t> q(static_cast<size_t>(n * k));
  for (uint8_t& v : q) v = static_cast<uint8_t>(rng_() & 0x77);  // no NaN
  const auto scale = [&](int32_t c, int32_t i) {
    return double{s[static_cast<size_t>(c / 128 * 2 + i / 128)]};
  };
  config = config_of(
      R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128],"scale_fmt":"ue8m0"})");
  w.add("m.weight", DType::kF8E4M3, {n, k}, q);
  w.add("m.weight_scale_inv", DType::kF32, {2, 2}, s);
  const auto fp8 = [&](int32_t c, int32_t i) {
    return double{e4m3_to_float(q[static_cast<size_t>(c * k + i)])} * scale(c, i);
  };
  ModuleSpec spec = check(n, k, fp8);
  EXPECT_EQ(spec.format, (PackedFormat{WeightType::kFp8, ActivationType::kFp8, 128, DType::kF32,
                                       false, 128, true}));
  EXPECT_EQ(spec.substitution, "");
  w.add<uint8_t>("m.weight_scale_inv", DType::kF8E8M0, {2, 2}, {126, 128, 129, 130});
  check(n, k, fp8);
  w.add<float>("m.weight_scale_inv", DType::kF32, {2, 1}, {1, 1});
  EXPECT_EQ(failure(n, k).code(), Code::kDataLoss);
  w.remove("m.weight_scale_inv");
  config = compressed(
      "float-quantized",
      R"({"num_bits":8,"type":"float","strategy":"block","block_structure":[128,128]})",
      R"({"num_bits":8,"type":"float","strategy":"group","group_size":128,"dynamic":true})");
  w.add("m.weight_scale", DType::kF32, {2, 2}, s);
  spec = check(n, k, fp8);
  EXPECT_FALSE(spec.format.activation_pow2);
  EXPECT_EQ(spec.substitution, "");

  config =
      compressed("int-quantized",
                 R"({"num_bits":8,"type":"int","strategy":"block","block_structure":[128,128]})",
                 R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true})");
  w.add("m.weight", DType::kI8, {n, k}, q);
  spec = check(
      n, k, [&](int32_t c, int32_t i) { return q[static_cast<size_t>(c * k + i)] * scale(c, i); });
  EXPECT_EQ(spec.format,
            (PackedFormat{WeightType::kInt8, ActivationType::kInt8, 128, DType::kF32, false, 128}));
  EXPECT_THAT(spec.substitution, HasSubstr("per token and 128 values"));
}

TEST_F(MethodTest, ForcedFloatsOfAQuantisedModuleAreASubstitution) {
  w.add<int8_t>("m.weight", DType::kI8, {1, 2}, {1, 2});
  w.add<float>("m.weight_scale", DType::kF32, {1, 1}, {0.5f});
  ModuleSpec s = spec(1, 2).value();
  force_floats(s, PackedFormat::kF32, "it decides");
  EXPECT_EQ(s.format, PackedFormat::kF32);
  EXPECT_THAT(s.substitution, HasSubstr("int8 per channel x int8 per token, dynamic -> "));
  EXPECT_THAT(s.substitution, HasSubstr("because it decides; cost: 4 times"));
  EXPECT_EQ(weight(load_matrix(context_, s).value(), 0, 1), 1.0);
}

}  // namespace
}  // namespace moestro::quant
