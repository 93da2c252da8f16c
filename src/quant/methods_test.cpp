// Every scheme, from the bytes of a checkpoint to the packed matrix: the packed weights must be
// those of a plain reading of the same bytes, written out here by the formats' definitions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "kernels/ref/expert_mlp_ref.h"
#include "kernels/ref/packed_access.h"
#include "quant/fake_weights.h"
#include "quant/load.h"

namespace moestro::quant {
namespace {

using checkpoint::QuantConfig;
using tensor::ActivationType;
using tensor::PackedFormat;
using tensor::WeightType;
using testing::HasSubstr;

QuantConfig config_of(const char* text) {
  json::object outer;
  outer["quantization_config"] = json::parse(text).value();
  return checkpoint::parse_quant_config(outer).value();
}
// One compressed-tensors group for all linear layers.
QuantConfig compressed(const std::string& format_name, const std::string& weights,
                       const std::string& activations = "null") {
  return config_of((R"({"quant_method":"compressed-tensors","format":")" + format_name +
                    R"(","config_groups":{"g":{"targets":["Linear"],"weights":)" + weights +
                    R"(,"input_activations":)" + activations + "}}}")
                       .c_str());
}

using Expected = std::function<double(int32_t c, int32_t i)>;

class MethodTest : public testing::Test {
 protected:
  Result<ModuleSpec> spec(int32_t n, int32_t k, DType compute = DType::kBF16) {
    return make_module(w, config, "m", n, k, compute);
  }
  Status failure(int32_t n, int32_t k) {
    auto s = spec(n, k);
    if (!s.ok()) return s.status();
    return load_matrix(context_, *s).status();
  }
  // Loads m [n, k] and compares every packed weight with expected(c, i), within a relative error.
  ModuleSpec check(int32_t n, int32_t k, const Expected& expected, DType compute = DType::kBF16,
                   double error = 1e-6) {
    Result<ModuleSpec> s = spec(n, k, compute);
    EXPECT_TRUE(s.ok()) << s.status().message();
    if (!s.ok()) return {};
    const auto packed = load_matrix(context_, *s);
    EXPECT_TRUE(packed.ok()) << packed.status().message();
    if (!packed.ok()) return *s;
    for (int32_t c = 0; c < n; ++c)
      for (int32_t i = 0; i < k; ++i) {
        const double want = expected(c, packed->k_order ? packed->k_order[i] : i),
                     got = weight(*packed, c, i);
        EXPECT_NEAR(got, want, error * std::fabs(want)) << "channel " << c << ", input " << i;
        if (HasFailure()) return *s;
      }
    return *s;
  }
  static double weight(const tensor::PackedMatrix& m, int32_t c, int32_t i) {
    double v = kernels::ref::weight_at(m, c, i);
    if (m.scales) v *= double{m.scales[c]};
    if (m.format.group_k) v *= double{kernels::ref::group_scale_at(m, c, i / m.format.group_k)};
    return v;
  }
  // Random codes of `bits` bits, [rows, columns].
  std::vector<int32_t> codes(int64_t rows, int64_t columns, int32_t bits = 4) {
    std::vector<int32_t> v(static_cast<size_t>(rows * columns));
    for (int32_t& x : v) x = static_cast<int32_t>(rng_() & ((1u << bits) - 1));
    return v;
  }
  std::vector<uint16_t> bf16_scales(size_t count) {
    std::vector<uint16_t> v(count);
    for (uint16_t& x : v) x = to_bf16(0.001f + 0.01f * static_cast<float>(rng_() % 97)).bits;
    return v;
  }

  FakeWeights w;
  QuantConfig config;
  WeightArena arena_;
  platform::Gang gang_{1, false};
  LoadContext context_{.source = w, .arena = arena_, .gang = gang_, .progress = {}};
  std::mt19937 rng_{7};
};

double bf16_value(uint16_t bits) { return double{to_float(Bf16{bits})}; }

// Elements of `bits` bits along `count`, least significant first.
std::vector<uint32_t> pack_words(const std::vector<int32_t>& codes, int64_t rows, int64_t columns,
                                 int32_t bits = 4) {
  const int64_t words = (columns * bits + 31) / 32;
  std::vector<uint32_t> out(static_cast<size_t>(rows * words), 0);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      out[static_cast<size_t>(r * words + c * bits / 32)] |=
          static_cast<uint32_t>(codes[static_cast<size_t>(r * columns + c)]) << (c * bits % 32);
  return out;
}
template <class T>
std::vector<T> transposed(const std::vector<T>& v, int64_t rows, int64_t columns) {
  std::vector<T> out(v.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      out[static_cast<size_t>(c * rows + r)] = v[static_cast<size_t>(r * columns + c)];
  return out;
}

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
