// Recognising and reading schemes, on tensors made in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/format.h"
#include "quant/fake_weights.h"
#include "quant/load.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

using checkpoint::QuantConfig;
using testing::HasSubstr;

FakeWeights int8_matrix() {
  FakeWeights w;
  w.add<int8_t>("m.weight", DType::kI8, {2, 3}, {1, -2, 3, 127, -128, 0});
  w.add<float>("m.weight_scale", DType::kF32, {2, 1}, {0.5f, 0.25f});
  return w;
}

TEST(QuantMethod, TensorsDecideWhichSchemeAModuleHas) {
  FakeWeights w = int8_matrix();
  w.add<uint16_t>("f.weight", DType::kBF16, {1, 2}, {0x3f80, 0xc000});
  const auto name = [&](const char* module, int32_t n, int32_t k) {
    return make_module(w, QuantConfig{}, module, n, k, DType::kBF16).value().method->name();
  };
  EXPECT_EQ(name("m", 2, 3), "int8_w8a8");
  EXPECT_EQ(name("f", 1, 2), "w16a16");
}

TEST(QuantMethod, UnknownStorageNamesWhatWasFound) {
  FakeWeights w;
  w.add<int8_t>("m.weight", DType::kI8, {1, 1}, {1});
  const Status s = make_module(w, QuantConfig{}, "m", 1, 1, DType::kBF16).status();
  EXPECT_EQ(s.code(), Code::kUnsupported);
  EXPECT_THAT(s.message(), HasSubstr("m is stored as [weight I8]"));
  EXPECT_EQ(make_module(w, QuantConfig{}, "absent", 1, 1, DType::kBF16).status().code(),
            Code::kDataLoss);
}

class LoadTest : public testing::Test {
 protected:
  FakeWeights weights_ = int8_matrix();
  WeightArena arena_;
  platform::Gang gang_{2, false};
  LoadContext context_{.source = weights_, .store = arena_, .gang = gang_, .progress = {}};
};

TEST_F(LoadTest, PacksAndReportsProgress) {
  uint64_t seen = 0;
  context_.progress = [&](uint64_t bytes) { seen += bytes; };
  const ModuleSpec module = make_module(weights_, QuantConfig{}, "m", 2, 3, DType::kBF16).value();
  const tensor::PackedMatrix packed = load_matrix(context_, module).value();
  EXPECT_EQ(packed.format, tensor::PackedFormat::kInt8);
  EXPECT_EQ(packed.scales[1], 0.25f);
  EXPECT_EQ(packed.compensation[0], 128 * 2);
  EXPECT_EQ(seen, 6u + 8u);  // weight and scales
  EXPECT_GE(arena_.allocated_bytes(), static_cast<size_t>(module.packed_bytes()));
}

TEST_F(LoadTest, FloatsOfEveryTypeBecomeFloat32) {
  weights_.add<uint16_t>("b", DType::kBF16, {2}, {0x3fc0, 0xbf80});
  weights_.add<uint16_t>("h", DType::kF16, {2}, {0x3e00, 0xbc00});
  for (const char* name : {"b", "h"}) {
    const float* v = load_floats(context_, name, {2}).value();
    EXPECT_EQ(v[0], 1.5f) << name;
    EXPECT_EQ(v[1], -1.0f) << name;
  }
}

TEST_F(LoadTest, ParallelRunsEachOnceAndReportsTheFirstError) {
  std::vector<std::atomic<int>> runs(100);
  const Status s = context_.parallel(100, [&](int64_t i) -> Status {
    ++runs[static_cast<size_t>(i)];
    if (i == 70 || i == 30) return data_loss(format("item {}", i));
    return {};
  });
  EXPECT_EQ(s.message(), "item 30");
  for (const auto& n : runs) EXPECT_EQ(n, 1);
}

TEST_F(LoadTest, GateAndUpMustShareAScheme) {
  weights_.add<uint16_t>("u.weight", DType::kBF16, {2, 3}, std::vector<uint16_t>(6, 0x3f80));
  const ModuleSpec gate = make_module(weights_, QuantConfig{}, "m", 2, 3, DType::kBF16).value();
  const ModuleSpec up = make_module(weights_, QuantConfig{}, "u", 2, 3, DType::kBF16).value();
  EXPECT_THAT(load_gated_mlp(context_, gate, up, up).status().message(),
              HasSubstr("different schemes"));
}

}  // namespace
}  // namespace moestro::quant
