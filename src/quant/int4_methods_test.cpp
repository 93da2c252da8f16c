// The int4 schemes, from the bytes of a checkpoint to the packed matrix: the packed weights must be
// those of a plain reading of the same bytes, written out here by the formats' definitions.
#include <algorithm>

#include "kernels/ref/expert_mlp_ref.h"
#include "quant/method_fixture.h"

namespace moestro::quant {
namespace {

// ---- pack-quantized

TEST_F(MethodTest, PackedWordsOfTheFormatsOwnExamples) {
  w.add<uint32_t>("m.weight_packed", DType::kI32, {2, 1}, {0x76543210u, 0xFEDCBA98u});
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {2, 1}, {0x3f80, 0x3f00});
  w.add<int64_t>("m.weight_shape", DType::kI64, {2}, {2, 8});
  const ModuleSpec s = check(2, 8, [](int32_t c, int32_t i) { return c == 0 ? i - 8 : i * 0.5; });
  EXPECT_EQ(s.format, (PackedFormat{WeightType::kInt4, ActivationType::kBf16}));
  EXPECT_EQ(s.weights, "int4 per channel");
  EXPECT_EQ(s.substitution, "");
}

TEST_F(MethodTest, PackedGroupsWithZeroPoints) {
  const int32_t n = 9, k = 96, groups = 3;
  config = compressed(
      "pack-quantized",
      R"({"num_bits":4,"type":"int","symmetric":false,"strategy":"group","group_size":32})");
  const auto q = codes(n, k), z = codes(n, groups);
  const auto s = bf16_scales(n * groups);
  w.add("m.weight_packed", DType::kI32, {n, k / 8}, pack_words(q, n, k));
  w.add("m.weight_scale", DType::kBF16, {n, groups}, s);
  // Packed along n: row g of [groups, n] first, then turned.
  w.add("m.weight_zero_point", DType::kI32, {2, groups},
        transposed(pack_words(transposed(z, n, groups), groups, n), groups, 2));
  const auto value = [&](int32_t c, int32_t i) {
    const auto cell = static_cast<size_t>(c * groups + i / 32);
    return (q[static_cast<size_t>(c * k + i)] - z[cell]) * bf16_value(s[cell]);
  };
  ModuleSpec spec = check(n, k, value);
  EXPECT_EQ(spec.format,
            (PackedFormat{WeightType::kInt4, ActivationType::kBf16, 32, DType::kBF16, true}));
  EXPECT_EQ(spec.weights, "int4, groups of 32, zero points");
  EXPECT_EQ(spec.substitution, "");
  spec = check(n, k, value, DType::kF32);
  EXPECT_EQ(spec.format, PackedFormat::kF32);
  EXPECT_THAT(spec.substitution, HasSubstr("float32"));
  EXPECT_THAT(spec.substitution, HasSubstr("8 times the memory"));
}

TEST_F(MethodTest, PackedChannelsWithZeroPointsRepeatThemByGroup) {
  const int32_t n = 8, k = 160;
  config = compressed("pack-quantized",
                      R"({"num_bits":4,"type":"int","symmetric":false,"strategy":"channel"})");
  const auto q = codes(n, k), z = codes(n, 1);
  const auto s = bf16_scales(n);
  w.add("m.weight_packed", DType::kI32, {n, k / 8}, pack_words(q, n, k));
  w.add("m.weight_scale", DType::kBF16, {n, 1}, s);
  w.add("m.weight_zero_point", DType::kI32, {1, 1}, pack_words(z, 1, n));
  const ModuleSpec spec = check(n, k, [&](int32_t c, int32_t i) {
    return (q[static_cast<size_t>(c * k + i)] - z[static_cast<size_t>(c)]) *
           bf16_value(s[static_cast<size_t>(c)]);
  });
  EXPECT_EQ(spec.format.group_k, 128);
  EXPECT_EQ(spec.substitution, "");
}

TEST_F(MethodTest, OneGroupThatIsAllInputsKeepsTheDeclaredFormat) {
  // As wide as the group, or narrower: gate and down of one expert must agree.
  config = compressed("pack-quantized",
                      R"({"num_bits":4,"type":"int","strategy":"group","group_size":8})");
  w.add<uint32_t>("m.weight_packed", DType::kI32, {1, 1}, {0x76543210u});
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {1, 1}, {0x4000});
  const auto value = [](int32_t, int32_t i) { return (i - 8) * 2.0; };
  EXPECT_EQ(check(1, 8, value).format.group_k, 8);
  config = compressed("pack-quantized",
                      R"({"num_bits":4,"type":"int","strategy":"group","group_size":128})");
  EXPECT_EQ(check(1, 8, value).format.group_k, 128);
}

TEST_F(MethodTest, SymmetricPackedWeightsIgnoreZeroPoints) {
  config = compressed("pack-quantized",
                      R"({"num_bits":4,"type":"int","strategy":"group","group_size":8})");
  w.add<uint32_t>("m.weight_packed", DType::kI32, {1, 2}, {0x76543210u, 0x76543210u});
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {1, 2}, {0x3f80, 0x4000});
  w.add<uint32_t>("m.weight_zero_point", DType::kI32, {1, 2}, {0, 0});
  check(1, 16, [](int32_t, int32_t i) { return (i % 8 - 8) * (i < 8 ? 1.0 : 2.0); });
}

// A group index that gives each group as many columns as it has, in random order.
std::vector<int32_t> random_index(int32_t k, int32_t group, std::mt19937& rng) {
  std::vector<int32_t> index(static_cast<size_t>(k));
  for (int32_t i = 0; i < k; ++i) index[static_cast<size_t>(i)] = i / group;
  std::shuffle(index.begin(), index.end(), rng);
  return index;
}

constexpr const char* kActorderG16 =
    R"({"num_bits":4,"type":"int","strategy":"group","group_size":16,"actorder":"group"})";

TEST_F(MethodTest, ActivationOrderIsUndoneWhileLoading) {
  const int32_t n = 3, k = 64, groups = 4;
  config = compressed("pack-quantized", kActorderG16);
  const auto q = codes(n, k), index = random_index(k, 16, rng_);
  const auto s = bf16_scales(n * groups);
  w.add("m.weight_packed", DType::kI32, {n, k / 8}, pack_words(q, n, k));
  w.add("m.weight_scale", DType::kBF16, {n, groups}, s);
  w.add("m.weight_g_idx", DType::kI32, {k}, index);
  const auto value = [&](int32_t c, int32_t i) {
    return (q[static_cast<size_t>(c * k + i)] - 8) *
           bf16_value(s[static_cast<size_t>(c * groups + index[static_cast<size_t>(i)])]);
  };
  check(n, k, value, DType::kF32);
  ModuleSpec spec = check(n, k, value);
  EXPECT_EQ(spec.format,
            (PackedFormat{WeightType::kInt4, ActivationType::kBf16, 16, DType::kBF16}));
  EXPECT_EQ(spec.substitution, "");
  EXPECT_THAT(spec.weights, HasSubstr("activation order"));
  EXPECT_NE(load_matrix(context_, spec).value().k_order, nullptr);

  config.actorder_in_floats = true;
  spec = check(n, k, value, DType::kBF16, 1.0 / 256);
  EXPECT_EQ(spec.format, PackedFormat::kBf16);
  EXPECT_THAT(spec.substitution, HasSubstr("4 times the memory"));
  config.actorder_in_floats = false;

  std::vector<int32_t> bad = index;
  bad[5] = groups;
  w.add("m.weight_g_idx", DType::kI32, {k}, bad);
  EXPECT_THAT(failure(n, k).message(), HasSubstr("group 4 of column 5"));
  bad[5] = (index[5] + 1) % groups;
  w.add("m.weight_g_idx", DType::kI32, {k}, bad);
  EXPECT_THAT(failure(n, k).message(), HasSubstr("columns, wanted 16"));
}

// Groups that are runs need no order, and -1 says that there is none.
TEST_F(MethodTest, GroupIndexThatOrdersNothing) {
  const int32_t n = 2, k = 32;
  config = compressed("pack-quantized", kActorderG16);
  const auto q = codes(n, k);
  const auto s = bf16_scales(n * 2);
  w.add("m.weight_packed", DType::kI32, {n, k / 8}, pack_words(q, n, k));
  w.add("m.weight_scale", DType::kBF16, {n, 2}, s);
  for (const bool set : {true, false}) {
    std::vector<int32_t> index(k, -1);
    for (int32_t i = 0; set && i < k; ++i) index[static_cast<size_t>(i)] = i / 16;
    w.add("m.weight_g_idx", DType::kI32, {k}, index);
    const ModuleSpec spec = check(n, k, [&](int32_t c, int32_t i) {
      return (q[static_cast<size_t>(c * k + i)] - 8) *
             bf16_value(s[static_cast<size_t>(c * 2 + i / 16)]);
    });
    EXPECT_EQ(load_matrix(context_, spec).value().k_order, nullptr);
  }
}

// y = down(silu(gate x) * up x) of what was loaded, by the reference kernel.
std::vector<float> run_mlp(const GatedMlp& mlp, const std::vector<float>& x) {
  const int32_t offsets[] = {0, 1};
  std::vector<float> y(static_cast<size_t>(mlp.down.n));
  const kernels::ExpertMlpShape shape{mlp.down.format, 1, 1, 1, mlp.gate_up.k, mlp.down.k};
  const auto scratch = platform::Buffer::allocate(
                           static_cast<size_t>(kernels::ref::expert_mlp_scratch_bytes(shape, 1)))
                           .value();
  platform::Gang gang(1, false);
  gang.run([&](platform::Worker& worker) {
    kernels::ref::expert_mlp_run({.x = x.data(),
                                  .x_stride = mlp.gate_up.k,
                                  .tokens = 1,
                                  .row_offsets = offsets,
                                  .row_token = nullptr,
                                  .gate_up = std::span(&mlp.gate_up, 1),
                                  .down = std::span(&mlp.down, 1),
                                  .activation = kernels::kSilu,
                                  .y = y.data(),
                                  .y_stride = mlp.down.n,
                                  .scratch = const_cast<std::byte*>(scratch.data())},
                                 worker);
  });
  return y;
}

// An MLP whose matrices are all in activation order gives what its float values give: its down
// matrix has no order left, because gate's and up's channels (with scales and zero points) moved.
TEST_F(MethodTest, GatedMlpInActivationOrder) {
  const int32_t hidden = 64, wide = 48;
  config = compressed(
      "pack-quantized",
      R"({"num_bits":4,"type":"int","strategy":"group","group_size":16,"actorder":"group","symmetric":false})");
  const auto add = [&](const std::string& name, int32_t n, int32_t k,
                       const std::vector<int32_t>& index) {
    w.add(name + ".weight_packed", DType::kI32, {n, k / 8}, pack_words(codes(n, k), n, k));
    w.add(name + ".weight_scale", DType::kBF16, {n, k / 16},
          bf16_scales(static_cast<size_t>(n * k / 16)));
    w.add(name + ".weight_zero_point", DType::kI32, {n / 8, k / 16},
          transposed(pack_words(codes(k / 16, n), k / 16, n), k / 16, n / 8));
    w.add(name + ".weight_g_idx", DType::kI32, {k}, index);
  };
  const auto index = random_index(hidden, 16, rng_);
  add("gate", wide, hidden, index);
  add("up", wide, hidden, index);
  add("down", hidden, wide, random_index(wide, 16, rng_));
  const auto load = [&](DType compute) {
    const auto module = [&](const char* name, int32_t n, int32_t k) {
      return make_module(w, config, name, n, k, compute).value();
    };
    return load_gated_mlp(context_, module("gate", wide, hidden), module("up", wide, hidden),
                          module("down", hidden, wide));
  };
  std::vector<float> x(hidden);
  for (float& v : x)
    v = static_cast<float>(static_cast<int>(rng_() % 33) - 16) / 8;  // exact in bf16
  const GatedMlp packed = load(DType::kBF16).value();
  EXPECT_NE(packed.gate_up.k_order, nullptr);
  EXPECT_EQ(packed.down.k_order, nullptr);
  const std::vector<float> got = run_mlp(packed, x), want = run_mlp(load(DType::kF32).value(), x);
  float largest = 0;
  for (const float v : want) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(got[i], want[i], 0.01f * largest) << i;  // the intermediate is rounded to bfloat16

  w.add("up.weight_g_idx", DType::kI32, {hidden}, random_index(hidden, 16, rng_));
  const Status s = load(DType::kBF16).status();
  EXPECT_EQ(s.code(), Code::kUnsupported);
  EXPECT_THAT(s.message(), HasSubstr("actorder_in_floats true"));
  EXPECT_TRUE(load(DType::kF32).ok());
}

constexpr const char* kInt4G8 = R"({"num_bits":4,"type":"int","strategy":"group","group_size":8})";

TEST_F(MethodTest, ActivationsOfInt4) {
  w.add<uint32_t>("m.weight_packed", DType::kI32, {1, 2}, {0x76543210u, 0x76543210u});
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {1, 2}, {0x3f80, 0x3f80});
  config = compressed("pack-quantized", kInt4G8,
                      R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true})");
  ModuleSpec s = spec(1, 16).value();
  EXPECT_EQ(s.format.activation, ActivationType::kInt8);
  EXPECT_EQ(s.format.activation_group, 0);
  EXPECT_EQ(s.activations, "int8 per token, dynamic");
  EXPECT_EQ(s.substitution, "");
  config = compressed("pack-quantized", kInt4G8,
                      R"({"num_bits":8,"type":"float","strategy":"token","dynamic":true})");
  s = spec(1, 16).value();
  EXPECT_EQ(s.format.activation, ActivationType::kBf16);
  EXPECT_THAT(s.substitution, HasSubstr("fp8 -> bfloat16 activations"));
}

TEST_F(MethodTest, EightBitPackedWeights) {
  const int32_t n = 2, k = 12;
  const auto q = codes(n, k, 8);
  w.add("m.weight_packed", DType::kI32, {n, 3}, pack_words(q, n, k, 8));
  w.add<float>("m.weight_scale", DType::kF32, {n, 1}, {0.5f, 0.25f});
  const auto value = [&](int32_t c, int32_t i) {
    return (q[static_cast<size_t>(c * k + i)] - 128) * (c == 0 ? 0.5 : 0.25);
  };
  config = compressed("pack-quantized", R"({"num_bits":8,"type":"int","strategy":"channel"})");
  ModuleSpec s = check(n, k, value);
  EXPECT_EQ(s.format, PackedFormat::kBf16);
  EXPECT_THAT(s.substitution, HasSubstr("int8 per channel x bfloat16 -> weights and activations"));
  config = compressed("pack-quantized", R"({"num_bits":8,"type":"int","strategy":"channel"})",
                      R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true})");
  s = check(n, k, value);
  EXPECT_EQ(s.format, PackedFormat::kInt8);
  EXPECT_EQ(s.substitution, "");
}

TEST_F(MethodTest, DamagedPackedWeights) {
  config = compressed("pack-quantized", kInt4G8);
  w.add<uint32_t>("m.weight_packed", DType::kI32, {1, 2}, {1, 2});
  EXPECT_THAT(failure(1, 16).message(), HasSubstr("m.weight_scale"));
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {1, 2}, {0x3f80, 0x7fc0});  // NaN
  EXPECT_THAT(failure(1, 16).message(), HasSubstr("element 1 is not a finite number"));
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {1, 3}, {0x3f80, 0x3f80, 0x3f80});
  EXPECT_THAT(failure(1, 16).message(), HasSubstr("16 inputs in 3 groups"));
  w.add<uint16_t>("m.weight_scale", DType::kBF16, {1, 2}, {0x3f80, 0x3f80});
  EXPECT_TRUE(failure(1, 16).ok());
  w.add<int32_t>("m.weight_shape", DType::kI32, {2}, {1, 15});
  EXPECT_THAT(failure(1, 16).message(), HasSubstr("says [1, 15], wanted [1, 16]"));
  w.remove("m.weight_shape");
  w.add<uint32_t>("m.weight_packed", DType::kI32, {1, 1}, {1});
  EXPECT_EQ(failure(1, 16).code(), Code::kDataLoss);
  config = compressed("pack-quantized", R"({"num_bits":3,"type":"int","strategy":"channel"})");
  EXPECT_THAT(failure(1, 16).message(), HasSubstr("of 3 bits"));
}

// ---- GPTQ, AWQ

struct GptqCase {
  const char* config;
  int32_t stored_zero_offset;  // z is stored less this
  bool symmetric, ordered;
};

class GptqTest : public MethodTest, public testing::WithParamInterface<GptqCase> {};

TEST_P(GptqTest, ReadsWordsPackedAlongInputs) {
  const GptqCase& p = GetParam();
  const int32_t n = 16, k = 64, g = 16, groups = k / g;
  config = config_of(p.config);
  const auto q = codes(k, n);
  auto z = codes(groups, n);  // as stored
  if (p.symmetric) std::fill(z.begin(), z.end(), 8 - p.stored_zero_offset);
  std::vector<int32_t> index(k);
  for (int32_t i = 0; i < k; ++i) index[static_cast<size_t>(i)] = p.ordered ? i % groups : i / g;
  const auto s = bf16_scales(static_cast<size_t>(groups * n));
  w.add("m.qweight", DType::kI32, {k / 8, n},
        transposed(pack_words(transposed(q, k, n), n, k), n, k / 8));
  w.add("m.qzeros", DType::kI32, {groups, n / 8}, pack_words(z, groups, n));
  w.add("m.scales", DType::kBF16, {groups, n}, s);
  w.add("m.g_idx", DType::kI32, {k}, index);
  const auto value = [&](int32_t c, int32_t i) {
    const auto cell = static_cast<size_t>(index[static_cast<size_t>(i)] * n + c);
    return (q[static_cast<size_t>(i * n + c)] - (z[cell] + p.stored_zero_offset)) *
           bf16_value(s[cell]);
  };
  check(n, k, value, DType::kF32);
  const ModuleSpec spec = check(n, k, value);
  EXPECT_EQ(spec.method->name(), "gptq");
  EXPECT_EQ(spec.format, (PackedFormat{WeightType::kInt4, ActivationType::kBf16, 16, DType::kBF16,
                                       !p.symmetric}));
  EXPECT_EQ(spec.substitution, "");
  EXPECT_EQ(load_matrix(context_, spec).value().k_order != nullptr, p.ordered);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, GptqTest,
    testing::Values(
        GptqCase{R"({"quant_method":"gptq","bits":4,"group_size":16,"sym":false})", 1, false,
                 false},
        GptqCase{R"({"quant_method":"gptq","bits":4,"group_size":16,"sym":true})", 1, true, false},
        GptqCase{
            R"({"quant_method":"gptq","bits":4,"group_size":16,"sym":false,"checkpoint_format":"gptq_v2"})",
            0, false, false},
        GptqCase{R"({"quant_method":"gptq","bits":4,"group_size":16,"sym":false,"desc_act":true})",
                 1, false, true}));

TEST_F(MethodTest, GptqThatIsNotWhatItsConfigSays) {
  const int32_t n = 8, k = 16;
  config = config_of(R"({"quant_method":"gptq","bits":4,"group_size":8,"sym":true})");
  w.add<uint32_t>("m.qweight", DType::kI32, {2, n}, std::vector<uint32_t>(16, 0x12345678u));
  w.add<uint32_t>("m.qzeros", DType::kI32, {2, 1}, {0x77777777u, 0x77777767u});
  w.add<uint16_t>("m.scales", DType::kF16, {2, n}, std::vector<uint16_t>(16, 0x3c00));
  EXPECT_THAT(failure(n, k).message(), HasSubstr("zero point 7 of channel 1, group 1"));
  w.add<uint32_t>("m.qzeros", DType::kI32, {2, 1}, {0x77777777u, 0x77777777u});
  EXPECT_TRUE(failure(n, k).ok());
  std::vector<int32_t> index(k, 0);
  w.add("m.g_idx", DType::kI32, {k}, index);
  EXPECT_THAT(failure(n, k).message(), HasSubstr("group 0 has 16 columns, wanted 8"));
}

TEST_F(MethodTest, EightBitGptqRunsInFloats) {
  const int32_t n = 4, k = 8;
  config = config_of(R"({"quant_method":"gptq","bits":8,"group_size":-1,"sym":true})");
  const auto q = codes(k, n, 8);
  w.add("m.qweight", DType::kI32, {2, n},
        transposed(pack_words(transposed(q, k, n), n, k, 8), n, 2));
  w.add<uint32_t>("m.qzeros", DType::kI32, {1, 1}, {0x7f7f7f7fu});
  w.add<uint16_t>("m.scales", DType::kF16, {1, n}, std::vector<uint16_t>(4, 0x3800));
  const ModuleSpec s = check(
      n, k, [&](int32_t c, int32_t i) { return (q[static_cast<size_t>(i * n + c)] - 128) * 0.5; });
  EXPECT_EQ(s.format, PackedFormat::kBf16);
  EXPECT_NE(s.substitution, "");
}

TEST_F(MethodTest, AwqInterleavesEightChannels) {
  const int32_t n = 16, k = 64, groups = 2;
  config = config_of(R"({"quant_method":"awq","bits":4,"group_size":32,"zero_point":true})");
  constexpr int32_t kHolds[] = {0, 2, 4, 6, 1, 3, 5, 7};  // nibble p holds column 8 b + kHolds[p]
  const auto interleaved = [&](const std::vector<int32_t>& v, int64_t rows) {
    std::vector<int32_t> out(v.size());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < n; ++c)
        out[static_cast<size_t>(r * n + c)] =
            v[static_cast<size_t>(r * n + c / 8 * 8 + kHolds[c % 8])];
    return pack_words(out, rows, n);
  };
  const auto q = codes(k, n), z = codes(groups, n);
  const auto s = bf16_scales(static_cast<size_t>(groups * n));
  w.add("m.qweight", DType::kI32, {k, n / 8}, interleaved(q, k));
  w.add("m.qzeros", DType::kI32, {groups, n / 8}, interleaved(z, groups));
  w.add("m.scales", DType::kBF16, {groups, n}, s);
  const ModuleSpec spec = check(n, k, [&](int32_t c, int32_t i) {
    const auto cell = static_cast<size_t>(i / 32 * n + c);
    return (q[static_cast<size_t>(i * n + c)] - z[cell]) * bf16_value(s[cell]);
  });
  EXPECT_EQ(spec.method->name(), "awq");
  EXPECT_TRUE(spec.format.zero_points);
  EXPECT_EQ(spec.substitution, "");
}

}  // namespace
}  // namespace moestro::quant
