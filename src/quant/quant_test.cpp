// Recognising and reading schemes, on tensors made in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "base/format.h"
#include "quant/load.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

using checkpoint::QuantConfig;
using checkpoint::TensorInfo;
using checkpoint::TensorView;
using testing::HasSubstr;

class FakeWeights final : public checkpoint::WeightSource {
 public:
  template <class T>
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape,
           const std::vector<T>& values) {
    Entry& e = entries_[name];
    e.bytes.resize(values.size() * sizeof(T));
    std::memcpy(e.bytes.data(), values.data(), e.bytes.size());
    e.info = {.dtype = dtype, .shape = std::move(shape), .bytes = e.bytes.size()};
  }
  bool has(std::string_view name) const override { return entries_.contains(std::string(name)); }
  const TensorInfo* find(std::string_view name) const override {
    const auto it = entries_.find(std::string(name));
    return it == entries_.end() ? nullptr : &it->second.info;
  }
  std::vector<std::string> names() const override { return {}; }
  Result<TensorView> get(std::string_view name, std::span<const int64_t> shape,
                         std::span<const DType> accepted) const override {
    const auto it = entries_.find(std::string(name));
    if (it == entries_.end()) return data_loss(format("no tensor {}", name));
    const TensorInfo& info = it->second.info;
    if (std::vector<int64_t>(shape.begin(), shape.end()) != info.shape)
      return data_loss(format("{}: wrong shape", name));
    if (std::find(accepted.begin(), accepted.end(), info.dtype) == accepted.end())
      return data_loss(format("{}: wrong type", name));
    return TensorView{
        .dtype = info.dtype, .shape = info.shape, .bytes = it->second.bytes, .owner = {}};
  }
  void drop(const TensorView&) const override {}
  uint64_t total_bytes() const override { return 0; }

 private:
  struct Entry {
    TensorInfo info;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, Entry> entries_;
};

FakeWeights int8_matrix() {
  FakeWeights w;
  w.add<int8_t>("m.weight", DType::kI8, {2, 3}, {1, -2, 3, 127, -128, 0});
  w.add<float>("m.weight_scale", DType::kF32, {2, 1}, {0.5f, 0.25f});
  return w;
}

TEST(QuantMethod, TensorsDecideWhichSchemeAModuleHas) {
  FakeWeights w = int8_matrix();
  w.add<uint16_t>("f.weight", DType::kBF16, {1, 2}, {0x3f80, 0xc000});
  EXPECT_EQ(find_quant_method(w, QuantConfig{}, "m").value()->name(), "int8_w8a8");
  EXPECT_EQ(find_quant_method(w, QuantConfig{}, "f").value()->name(), "w16a16");
}

TEST(QuantMethod, UnknownStorageNamesWhatWasFound) {
  FakeWeights w;
  w.add<int8_t>("m.weight", DType::kI8, {1, 1}, {1});
  const Status s = find_quant_method(w, QuantConfig{}, "m").status();
  EXPECT_EQ(s.code(), Code::kUnsupported);
  EXPECT_THAT(s.message(), HasSubstr("m is stored as [weight I8]"));
  EXPECT_EQ(find_quant_method(w, QuantConfig{}, "absent").status().code(), Code::kDataLoss);
}

TEST(Int8W8A8, ReadsScalesOfEveryShapeAndType) {
  FakeWeights per_channel = int8_matrix();
  LoadedMatrix m = find_quant_method(per_channel, QuantConfig{}, "m")
                       .value()
                       ->read(per_channel, "m", 2, 3)
                       .value();
  EXPECT_EQ(m.scales, (std::vector<float>{0.5f, 0.25f}));
  EXPECT_EQ(m.source.dtype, DType::kI8);

  FakeWeights flat = int8_matrix();
  flat.add<uint16_t>("m.weight_scale", DType::kBF16, {2}, {to_bf16(0.5f).bits, to_bf16(2.0f).bits});
  m = find_quant_method(flat, QuantConfig{}, "m").value()->read(flat, "m", 2, 3).value();
  EXPECT_EQ(m.scales, (std::vector<float>{0.5f, 2.0f}));

  FakeWeights per_tensor = int8_matrix();
  per_tensor.add<float>("m.weight_scale", DType::kF32, {1}, {3.0f});
  m = find_quant_method(per_tensor, QuantConfig{}, "m")
          .value()
          ->read(per_tensor, "m", 2, 3)
          .value();
  EXPECT_EQ(m.scales, (std::vector<float>{3.0f, 3.0f}));
}

TEST(Int8W8A8, DequantisesForFloatUse) {
  const FakeWeights w = int8_matrix();
  const LoadedMatrix m =
      find_quant_method(w, QuantConfig{}, "m").value()->read_float(w, "m", 2, 3).value();
  EXPECT_EQ(m.values, (std::vector<float>{0.5f, -1.0f, 1.5f, 31.75f, -32.0f, 0.0f}));
}

TEST(Int8W8A8, RefusesScalesThatAreNotNumbers) {
  FakeWeights w = int8_matrix();
  w.add<float>("m.weight_scale", DType::kF32, {2, 1}, {0.5f, NAN});
  const Status s = find_quant_method(w, QuantConfig{}, "m").value()->read(w, "m", 2, 3).status();
  EXPECT_EQ(s.code(), Code::kDataLoss);
  EXPECT_THAT(s.message(), HasSubstr("channel 1"));
}

class LoadTest : public testing::Test {
 protected:
  FakeWeights weights_ = int8_matrix();
  WeightArena arena_;
  platform::Gang gang_{2, false};
  LoadContext context_{.source = weights_, .arena = arena_, .gang = gang_, .progress = {}};
};

TEST_F(LoadTest, PacksAndReportsProgress) {
  uint64_t seen = 0;
  context_.progress = [&](uint64_t bytes) { seen += bytes; };
  const ModuleSpec module = make_module(weights_, QuantConfig{}, "m", 2, 3, DType::kBF16).value();
  const tensor::PackedMatrix packed = load_matrix(context_, module).value();
  EXPECT_EQ(packed.format, tensor::PackedFormat::kInt8);
  EXPECT_EQ(packed.scales[1], 0.25f);
  EXPECT_EQ(packed.compensation[0], 128 * 2);
  EXPECT_EQ(seen, 6u);
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
  EXPECT_THAT(load_gate_up(context_, gate, up).status().message(), HasSubstr("different schemes"));
}

}  // namespace
}  // namespace moestro::quant
