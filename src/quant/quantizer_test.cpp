// Quantising and reading back: every scheme's tensors are read by its method, within the rounding
// that the scheme has; whole checkpoints from directory to directory.
#include "quant/quantizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "checkpoint/test_files.h"
#include "quant/convert.h"
#include "quant/fake_weights.h"
#include "quant/load.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

checkpoint::QuantConfig config_of(const QuantizeScheme& scheme,
                                  const std::vector<std::string>& left = {}) {
  json::object outer;
  outer["quantization_config"] = quantization_config(scheme, left);
  return checkpoint::parse_quant_config(outer).value();
}

std::vector<float> random_weights(size_t count, float deviation = 0.05f) {
  std::mt19937 rng(3);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> w(count);
  for (float& v : w) v = normal(rng);
  return w;
}

// All values of a matrix that is read as float32.
std::vector<float> float_rows(const LoadedMatrix& m) {
  EXPECT_EQ(m.source.dtype, DType::kF32);
  std::vector<std::byte> made;
  const kernels::SourceMatrix rows = m.rows(0, m.source.n, made);
  std::vector<float> values(static_cast<size_t>(rows.n) * static_cast<size_t>(rows.k));
  std::memcpy(values.data(), rows.data, values.size() * sizeof(float));
  return values;
}

// What the tensors of w mean, read by the scheme's method.
struct ReadBack {
  ModuleSpec spec;
  std::vector<float> values;
};
ReadBack read_back(const QuantizeScheme& scheme, const std::vector<float>& w, int32_t n,
                   int32_t k) {
  float largest = 0;
  for (const float v : w) largest = std::max(largest, std::fabs(v));
  FakeWeights source;
  const auto tensors = quantized_tensors(scheme, "m", n, k);
  std::vector<std::vector<std::byte>> memory;
  for (const auto& t : tensors) memory.emplace_back(t.bytes());
  const std::vector<std::span<std::byte>> parts(memory.begin(), memory.end());
  for (int32_t begin = 0; begin < n; begin += kQuantizeRows)
    quantize_rows(scheme, w.data(), n, k, begin, std::min(begin + kQuantizeRows, n), largest,
                  parts);
  for (size_t i = 0; i < tensors.size(); ++i)
    source.add(tensors[i].name, tensors[i].dtype, tensors[i].shape, memory[i]);
  const auto config = config_of(scheme);
  ReadBack r;
  r.spec = make_module(source, config, "m", n, k, DType::kBF16).value();
  ModuleSpec floats = r.spec;
  floats.format = tensor::PackedFormat::kF32;
  r.values = float_rows(read_matrix(source, floats).value());
  r.spec.declared = nullptr;  // dies here
  return r;
}

class QuantizerTest : public testing::TestWithParam<QuantizeScheme> {};

TEST_P(QuantizerTest, ReadsBackWithinItsRounding) {
  const QuantizeScheme& scheme = GetParam();
  const int32_t n = 200, k = 256;
  const std::vector<float> w = random_weights(static_cast<size_t>(n * k));
  const ReadBack r = read_back(scheme, w, n, k);
  EXPECT_EQ(r.spec.substitution, "");
  double error = 0, norm = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    error += std::pow(double{r.values[i]} - w[i], 2);
    norm += std::pow(double{w[i]}, 2);
  }
  // Of a normal distribution: the share of the noise that codes of this kind leave.
  double most = 0.14;  // four bits
  if (scheme.codes == CodeKind::kInt8) most = 0.009;
  if (scheme.codes == CodeKind::kFp8) most = 0.03;
  EXPECT_LT(std::sqrt(error / norm), most);
  EXPECT_GT(std::sqrt(error / norm), most / 4);
}

TEST_P(QuantizerTest, ZerosStayZeros) {
  const ReadBack r = read_back(GetParam(), std::vector<float>(128 * 128, 0.0f), 128, 128);
  for (const float v : r.values) ASSERT_EQ(v, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(Schemes, QuantizerTest,
                         testing::ValuesIn(quantize_schemes().begin(), quantize_schemes().end()),
                         [](const auto& info) {
                           std::string name(info.param.name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Quantizer, ValuesThatFallOnCodesAreExact) {
  // mxfp4: the largest is 6 * 2^-3, every value a code of that scale.
  const float fp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::vector<float> w(32);
  for (size_t i = 0; i < w.size(); ++i) w[i] = (i % 2 ? -1 : 1) * fp4[i % 8] / 8;
  EXPECT_EQ(read_back(*find_quantize_scheme("mxfp4"), w, 1, 32).values, w);
  // nvfp4's factor 1 / (448 * 6 / 0.75) is no power of two.
  const auto nvfp4 = read_back(*find_quantize_scheme("nvfp4"), w, 1, 32).values;
  for (size_t i = 0; i < w.size(); ++i) EXPECT_FLOAT_EQ(nvfp4[i], w[i]) << i;
  // Ties go to the even code: 2.5 between 2 and 3 is 2, 5 between 4 and 6 is 4, 3.5 is 4.
  w.assign(32, 0.0f);
  w[0] = 6, w[1] = 2.5f, w[2] = 5, w[3] = 3.5f, w[4] = -0.25f, w[5] = 0.75f;
  const auto tied = read_back(*find_quantize_scheme("mxfp4"), w, 1, 32).values;
  EXPECT_THAT(std::vector<float>(tied.begin(), tied.begin() + 6),
              ElementsAre(6, 2, 4, 4, -0.0f, 1));
}

TEST(Quantizer, PacksAsTheFormatsOwnExample) {
  // -8 .. -1 times a power of two: the scale that is exact has no error.
  const auto& scheme = *find_quantize_scheme("int4-channel");
  std::vector<float> w(8);
  for (size_t i = 0; i < 8; ++i) w[i] = static_cast<float>(i) - 8;
  std::vector<std::byte> packed(4), scale(2), shape(16);
  const std::span<std::byte> parts[] = {packed, scale, shape};
  quantize_rows(scheme, w.data(), 1, 8, 0, 1, 8, parts);
  uint16_t s;
  std::memcpy(&s, scale.data(), 2);
  uint32_t word;
  std::memcpy(&word, packed.data(), 4);
  EXPECT_NEAR(to_float(Bf16{s}), 1, 0.07);
  EXPECT_EQ(word, 0x76543210u);
}

TEST(Quantizer, SaysWhatDoesNotFit) {
  EXPECT_EQ(why_not_quantized(*find_quantize_scheme("fp8-block"), 100, 100), "");
  EXPECT_EQ(why_not_quantized(*find_quantize_scheme("int4-g128"), 100, 192),
            "192 inputs are not a multiple of 128");
  EXPECT_EQ(find_quantize_scheme("int3"), nullptr);
}

// ---- whole checkpoints

class ConvertTest : public testing::Test {
 protected:
  ConvertTest() {
    fs::create_directory(directory_ / "in");
    write("in/config.json", R"({"model_type":"x","quantization_config":null})");
    write("in/tokenizer.json", "{}");
    write("in/old.bin", "weights of another format");
  }
  void write(const std::string& name, std::string_view text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }
  template <class T>
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape,
           const std::vector<T>& values) {
    tensors_.push_back({name, dtype, std::move(shape)});
    bytes_.emplace_back(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  // in/model.safetensors of what was added.
  void finish() {
    const auto path = (directory_ / "in/model.safetensors").native();
    const auto writer = checkpoint::SafetensorsWriter::create(path, tensors_).value();
    for (const std::string& b : bytes_)
      ASSERT_TRUE(writer->append(std::as_bytes(std::span(b))).ok());
    ASSERT_TRUE(writer->finish().ok());
  }
  struct Model {
    std::shared_ptr<const checkpoint::ModelFiles> files;
    checkpoint::QuantConfig quant;
    std::unique_ptr<checkpoint::WeightSource> weights;
  };
  Model open(const std::string& name) {
    Model m;
    m.files = checkpoint::open_model_directory((directory_ / name).native()).value();
    const auto text = m.files->open("config.json").value();
    m.quant = checkpoint::read_quant_config(*m.files, json::parse(text->text()).value().as_object())
                  .value();
    m.weights = checkpoint::open_safetensors(m.files).value();
    return m;
  }
  Result<ConvertResult> convert(const char* scheme, uint64_t shard = 1 << 20,
                                std::vector<std::string> ignore = {}) {
    const Model m = open("in");
    platform::Gang gang(2, false);
    return convert_checkpoint({.files = *m.files,
                               .source = *m.weights,
                               .quant = m.quant,
                               .scheme = *find_quantize_scheme(scheme),
                               .ignore = std::move(ignore),
                               .out = (directory_ / "out").native(),
                               .max_shard_bytes = shard,
                               .gang = gang,
                               .progress = {}});
  }
  std::vector<std::string> directories() {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(directory_))
      names.push_back(e.path().filename().native());
    std::sort(names.begin(), names.end());
    return names;
  }
  std::vector<float> values(const Model& m, const std::string& module, int32_t n, int32_t k) {
    ModuleSpec spec = make_module(*m.weights, m.quant, module, n, k, DType::kF32).value();
    spec.format = tensor::PackedFormat::kF32;
    return float_rows(read_matrix(*m.weights, spec).value());
  }

  const checkpoint::testing::TempDir temporary_;
  const fs::path directory_ = temporary_.path();
  std::vector<checkpoint::OutputTensor> tensors_;
  std::vector<std::string> bytes_;
};

TEST_F(ConvertTest, WritesACheckpointThatReadsBack) {
  const std::vector<float> w = random_weights(64 * 128);
  for (const char* name : {"a.mlp.up_proj", "a.mlp.gate", "b.proj", "embed_tokens"})
    add(std::string(name) + ".weight", DType::kF32, {64, 128}, w);
  add<float>("a.norm.weight", DType::kF32, {4}, {1, 2, 3, 4});
  finish();
  const auto r = convert("int8", 20'000, {"re:b\\."});
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->quantized, 1);
  EXPECT_THAT(r->left, ElementsAre("a.mlp.gate", "b.proj"));
  EXPECT_THAT(directories(), ElementsAre("in", "out"));
  EXPECT_TRUE(fs::exists(directory_ / "out/tokenizer.json"));
  EXPECT_FALSE(fs::exists(directory_ / "out/old.bin"));
  EXPECT_TRUE(fs::exists(directory_ / "out/model.safetensors.index.json"));

  const Model out = open("out");
  EXPECT_EQ(out.quant.method, checkpoint::QuantMethodName::kCompressedTensors);
  EXPECT_NE(out.quant.match("a.mlp.up_proj"), nullptr);
  EXPECT_EQ(out.quant.match("a.mlp.gate"), nullptr);
  EXPECT_EQ(out.weights->total_bytes(), r->bytes_written);
  const auto q = values(out, "a.mlp.up_proj", 64, 128);
  for (size_t i = 0; i < w.size();
       ++i)  // half a step, the cut at 127, and the scale's rounding to bfloat16
    ASSERT_NEAR(q[i], w[i], 0.25 / 255 + 0.008 * std::fabs(w[i])) << i;
  const auto kept = out.weights->get("b.proj.weight", {64, 128}, {DType::kF32}).value();
  EXPECT_EQ(std::memcmp(kept.bytes.data(), w.data(), kept.bytes.size()), 0);
  EXPECT_TRUE(out.weights->has("a.norm.weight"));
}

TEST_F(ConvertTest, EightBitSourcesAreDequantisedFirst) {
  write(
      "in/config.json",
      R"({"quantization_config":{"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128]}})");
  const std::vector<uint8_t> codes(128 * 128, 0x40);  // 2
  for (const char* name : {"a.proj", "lm_head"}) {
    add(std::string(name) + ".weight", DType::kF8E4M3, {128, 128}, codes);
    add<float>(std::string(name) + ".weight_scale_inv", DType::kF32, {1, 1}, {0.25f});
  }
  finish();
  const auto r = convert("int8");
  ASSERT_TRUE(r.ok()) << r.status().message();
  const Model out = open("out");
  EXPECT_FALSE(out.weights->has("a.proj.weight_scale_inv"));
  EXPECT_NEAR(values(out, "a.proj", 128, 128)[5], 0.5, 0.003);
  // Left alone, but its block scales would have no config any more: plain floats.
  const auto head = out.weights->get("lm_head.weight", {128, 128}, {DType::kBF16}).value();
  uint16_t half;
  std::memcpy(&half, head.bytes.data(), 2);
  EXPECT_EQ(to_float(Bf16{half}), 0.5f);
}

TEST_F(ConvertTest, RefusesAndLeavesNothingBehind) {
  std::vector<float> w = random_weights(64 * 128);
  w[77] = NAN;
  add("a.proj.weight", DType::kF32, {64, 128}, w);
  finish();
  auto r = convert("int4-g32");
  EXPECT_THAT(r.status().message(), HasSubstr("a.proj: a weight is not a finite number"));
  EXPECT_THAT(directories(), ElementsAre("in"));
  EXPECT_THAT(convert("int4-g32", 1 << 20, {"re:a"}).status().message(),
              HasSubstr("nothing to quantise"));
  fs::create_directory(directory_ / "out");
  write("out/file", "mine");
  r = convert("int8");
  EXPECT_EQ(r.status().code(), Code::kInvalidArgument);
  EXPECT_TRUE(fs::exists(directory_ / "out/file"));
}

TEST_F(ConvertTest, FourBitSourcesAreRefused) {
  add<uint32_t>("a.proj.weight_packed", DType::kI32, {1, 1}, {0});
  finish();
  EXPECT_EQ(convert("int8").status().code(), Code::kUnsupported);
}

// transformers 5 keeps a layer's experts in two tensors; what is written has a module an expert,
// and gate and up of one still share their global scale.
TEST_F(ConvertTest, FusedExpertsAreSplit) {
  const int64_t experts = 2, hidden = 32, wide = 16;
  std::vector<float> gate_up = random_weights(experts * 2 * wide * hidden),
                     down = random_weights(experts * hidden * wide);
  gate_up[static_cast<size_t>(3 * wide * hidden)] = 9;  // the largest, in up of expert 1
  add("l.mlp.experts.gate_up_proj", DType::kF32, {experts, 2 * wide, hidden}, gate_up);
  add("l.mlp.experts.down_proj", DType::kF32, {experts, hidden, wide}, down);
  add<float>("l.conv", DType::kF32, {1, 1, 2}, {1, 2});
  finish();
  const auto r = convert("nvfp4");
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->quantized, 6);
  EXPECT_THAT(r->notes, ElementsAre(HasSubstr("l.conv stays as it is")));
  const Model out = open("out");
  EXPECT_FALSE(out.weights->has("l.mlp.experts.gate_up_proj"));
  const auto near = [&](const char* module, const float* want, int32_t n, int32_t k) {
    const std::vector<float> got = values(out, module, n, k);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i], 0.2 * std::fabs(want[i]) + 0.08) << module << " " << i;
  };
  near("l.mlp.experts.0.gate_proj", gate_up.data(), wide, hidden);
  near("l.mlp.experts.0.up_proj", gate_up.data() + wide * hidden, wide, hidden);
  near("l.mlp.experts.1.gate_proj", gate_up.data() + 2 * wide * hidden, wide, hidden);
  near("l.mlp.experts.1.up_proj", gate_up.data() + 3 * wide * hidden, wide, hidden);
  near("l.mlp.experts.1.down_proj", down.data() + hidden * wide, hidden, wide);
  const auto global = [&](const std::string& module) {
    const auto t = out.weights->get(module + ".weight_global_scale", {1}, {DType::kF32}).value();
    float v;
    std::memcpy(&v, t.bytes.data(), 4);
    return v;
  };
  EXPECT_EQ(global("l.mlp.experts.1.gate_proj"), 448.0f * 6 / 9);
  EXPECT_EQ(global("l.mlp.experts.1.up_proj"), 448.0f * 6 / 9);
  EXPECT_NE(global("l.mlp.experts.0.up_proj"), 448.0f * 6 / 9);
}

TEST_F(ConvertTest, FusedExpertsThatAreLeftBecomeModulesToo) {
  std::vector<float> gate_up(2 * 8 * 16), down(2 * 16 * 4);
  for (size_t i = 0; i < gate_up.size(); ++i) gate_up[i] = static_cast<float>(i);  // exact in bf16
  add("l.experts.gate_up_proj", DType::kF32, {2, 8, 16}, gate_up);
  add("l.experts.down_proj", DType::kF32, {2, 16, 4}, down);
  add("l.o_proj.weight", DType::kF32, {8, 16}, random_weights(8 * 16));
  finish();
  const auto r = convert("int8", 1 << 20, {"re:.*experts.*"});
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->left.size(), 6u);
  const Model out = open("out");
  const auto t = out.weights->get("l.experts.1.up_proj.weight", {4, 16}, {DType::kBF16}).value();
  Bf16 first;
  std::memcpy(&first.bits, t.bytes.data(), 2);
  EXPECT_EQ(to_float(first), (8 + 4) * 16);
}

TEST_F(ConvertTest, FusedExpertsOfGptOssAreRefused) {
  add("l.experts.gate_up_proj", DType::kF32, {2, 16, 8}, std::vector<float>(2 * 16 * 8));
  add("l.experts.down_proj", DType::kF32, {2, 4, 16}, std::vector<float>(2 * 4 * 16));
  finish();
  EXPECT_THAT(convert("int8").status().message(), HasSubstr("gpt_oss' layout"));
}

TEST_F(ConvertTest, MatricesThatDoNotFitStayAndAreNamed) {
  add("a.proj.weight", DType::kF32, {8, 48}, random_weights(8 * 48));
  add("b.proj.weight", DType::kF32, {8, 64}, random_weights(8 * 64));
  finish();
  const auto r = convert("int4-g32");
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_THAT(r->left, ElementsAre("a.proj"));
  EXPECT_THAT(r->notes, ElementsAre(HasSubstr("48 inputs are not a multiple of 32")));
}

}  // namespace
}  // namespace moestro::quant
