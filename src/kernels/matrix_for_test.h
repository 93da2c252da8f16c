// Random weights of every packed format with their packed form, for the tests of linear, expert_mlp
// and packing. Each matrix keeps the values that a checkpoint holds, row-major, so that
// expectations (expectation_for_test.h) do not depend on the packed layout.
#pragma once
#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "platform/arena.h"
#include "tensor/numeric.h"

namespace moestro::kernels {

// The formats that checkpoints come in; every kernel in the lists of each is tested.
inline std::vector<tensor::PackedFormat> test_formats() {
  using enum tensor::WeightType;
  using A = tensor::ActivationType;
  using tensor::PackedFormat;
  constexpr auto f32 = DType::kF32, bf16 = DType::kBF16, f16 = DType::kF16;
  return {
      PackedFormat::kF32,
      PackedFormat::kBf16,
      PackedFormat::kInt8,
      {kInt8, A::kInt8, 128, f32, false, 128},      // block int8
      {kFp8, A::kFp8},                              // per channel, per token
      {kFp8, A::kFp8, 128, f32, false, 128},        // DeepSeek's blocks
      {kFp8, A::kFp8, 128, f32, false, 128, true},  // the same with scale_fmt ue8m0
      {kFp8, A::kBf16},                             // weight only
      {kFp8, A::kBf16, 128, bf16},                  // blocks, weight only
      {kInt4, A::kBf16},                            // per channel
      {kInt4, A::kBf16, 32, bf16},                  // pack-quantized
      {kInt4, A::kBf16, 64, f16, true},             // AWQ, GPTQ
      {kInt4, A::kBf16, 128, f32},
      {kInt4, A::kBf16, 128, f16, true},
      {kInt4, A::kInt8},  // slimquant_w4a8
      {kInt4, A::kInt8, 32, f16},
      {kInt4, A::kInt8, 64, bf16, true},
      {kInt4, A::kInt8, 128, f32, true},
      {kInt4, A::kInt8, 128, bf16},
      {kFp4, A::kBf16, 32, DType::kF8E8M0},  // MXFP4
      {kFp4, A::kBf16, 16, DType::kF8E4M3},  // NVFP4, channel scales as the global factor
  };
}

// A name for test cases: "int4_g128_zp_f16_x_bf16".
inline std::string format_label(const tensor::PackedFormat& f) {
  std::string name = tensor::packed_format_name(f).substr(8);
  std::replace(name.begin(), name.end(), '-', '_');
  if (f.group_k) name += "_" + std::string(torch_name(f.group_scale));
  constexpr const char* kActivations[] = {"f32", "bf16", "int8", "fp8"};
  if (f.activation != tensor::ActivationType::kF32)
    name += std::string("_x_") + kActivations[static_cast<int>(f.activation)];
  if (f.activation_group) name += "_g" + std::to_string(f.activation_group);
  return name + (f.activation_pow2 ? "_pow2" : "");
}

inline platform::Buffer bytes_for_test(int64_t n) {
  return platform::Buffer::allocate(static_cast<size_t>(std::max<int64_t>(n, 64))).value();
}

inline std::vector<float> random_floats(size_t n, std::mt19937& rng, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> v(n);
  for (float& x : v) x = normal(rng);
  return v;
}

// A permutation of [0, k).
inline std::vector<int32_t> random_order(int32_t k, std::mt19937& rng) {
  std::vector<int32_t> order(static_cast<size_t>(k));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), rng);
  return order;
}
inline std::vector<float> in_order(const float* x, const std::vector<int32_t>& order) {
  std::vector<float> y;
  for (const int32_t i : order) y.push_back(x[i]);
  return y;
}

// Source weights [n, k]: what the checkpoint would hold.
struct TestWeights {
  tensor::PackedFormat format;
  int32_t n = 0, k = 0;
  std::vector<float> floats;   // [n, k], float formats, rounded to the format
  std::vector<uint8_t> codes;  // [n, k], other formats: the eight or four bits of each weight
  std::vector<float> scales;   // [n] or empty: ones
  std::vector<uint32_t> group_scale_bits;  // [n, groups] in the format's group_scale type
  std::vector<uint8_t> zero_points;        // [n, groups]
  std::vector<float> bias;                 // [n] or empty

  TestWeights(const tensor::PackedFormat& f, int32_t rows, int32_t cols, std::mt19937& rng)
      : format(f), n(rows), k(cols) {
    const size_t count = static_cast<size_t>(n) * static_cast<size_t>(k);
    if (!tensor::has_channel_scales(f)) {
      floats = random_floats(count, rng, 0.05f);
      if (f.weight == tensor::WeightType::kBf16)
        for (float& v : floats) v = to_float(to_bf16(v));
      return;
    }
    codes.resize(count);
    for (uint8_t& v : codes) v = random_code(rng);
    std::uniform_real_distribution<float> scale(1e-4f, 1e-3f);
    if (f.group_k == 0 || f.group_scale == DType::kF8E4M3)
      for (int32_t i = 0; i < n; ++i) scales.push_back(scale(rng));
    for (int32_t i = 0; i < n * groups(); ++i) group_scale_bits.push_back(random_scale_bits(rng));
    if (f.zero_points)
      for (int32_t i = 0; i < n * groups(); ++i)
        zero_points.push_back(static_cast<uint8_t>(rng() % 16));
  }

  int32_t groups() const { return tensor::groups_of(format, k); }
  size_t at(int32_t channel, int32_t i) const {
    return static_cast<size_t>(channel) * static_cast<size_t>(k) + static_cast<size_t>(i);
  }
  size_t cell(int32_t channel, int32_t g) const {
    return static_cast<size_t>(channel) * static_cast<size_t>(groups()) + static_cast<size_t>(g);
  }
  float scale_of(int32_t channel) const {
    return scales.empty() ? 1.0f : scales[static_cast<size_t>(channel)];
  }
  float group_scale_of(int32_t channel, int32_t g) const {
    if (!format.group_k) return 1.0f;
    const uint32_t b = group_scale_bits[cell(channel, g)];
    switch (format.group_scale) {
      case DType::kBF16:
        return to_float(Bf16{static_cast<uint16_t>(b)});
      case DType::kF16:
        return to_float(F16{static_cast<uint16_t>(b)});
      case DType::kF8E8M0:
        return e8m0_to_float(static_cast<uint8_t>(b));
      case DType::kF8E4M3:
        return e4m3_to_float(static_cast<uint8_t>(b));
      default:
        return std::bit_cast<float>(b);
    }
  }
  // All scales of the weight at [channel, i] but no activation's.
  double scale_at(int32_t channel, int32_t i) const {
    return double{scale_of(channel)} *
           (format.group_k ? double{group_scale_of(channel, i / format.group_k)} : 1.0);
  }
  // The weight at [channel, i] without its scales.
  double stored_at(int32_t channel, int32_t i) const {
    switch (format.weight) {
      case tensor::WeightType::kInt8:
        return static_cast<int8_t>(codes[at(channel, i)]);
      case tensor::WeightType::kFp8:
        return e4m3_to_float(codes[at(channel, i)]);
      case tensor::WeightType::kFp4:
        return e2m1_to_float(codes[at(channel, i)]);
      case tensor::WeightType::kInt4:
        return codes[at(channel, i)] -
               (format.zero_points ? zero_points[cell(channel, i / format.group_k)] : 8);
      default:
        return floats[at(channel, i)];
    }
  }
  // stored_at and scale_at of all [n, k]; once asked for, the weights do not change any more.
  struct Value {
    double stored, scale;
  };
  const std::vector<Value>& values() const {
    if (values_.empty())
      for (int32_t c = 0; c < n; ++c)
        for (int32_t i = 0; i < k; ++i) values_.push_back({stored_at(c, i), scale_at(c, i)});
    return values_;
  }
  float bias_of(int32_t channel) const {
    return bias.empty() ? 0.0f : bias[static_cast<size_t>(channel)];
  }

 private:
  mutable std::vector<Value> values_;

  uint8_t random_code(std::mt19937& rng) const {
    auto v = static_cast<uint8_t>(rng() >> 8);
    if (tensor::bits_of(format.weight) == 4) return v & 15;
    if (format.weight == tensor::WeightType::kFp8 && (v & 0x7f) == 0x7f) v ^= 1;  // no NaN
    return v;
  }
  uint32_t random_scale_bits(std::mt19937& rng) const {
    const float v = std::uniform_real_distribution<float>(1e-3f, 1e-2f)(rng);
    switch (format.group_scale) {
      case DType::kBF16:
        return to_bf16(v).bits;
      case DType::kF16:
        return to_f16(v).bits;
      case DType::kF8E8M0:
        return 115 + static_cast<uint32_t>(rng() % 10);
      case DType::kF8E4M3:
        return 1 + static_cast<uint32_t>(rng() % 0x7e);  // all positive values
      default:
        return std::bit_cast<uint32_t>(v);
    }
  }
};

// The bytes of a SourceMatrix as a checkpoint lays them out: rows of codes, low nibble first.
class TestSource {
 public:
  explicit TestSource(const TestWeights& w) {
    source_.n = w.n;
    source_.k = w.k;
    if (w.codes.empty()) {
      source_.dtype = DType::kF32;
      source_.data = reinterpret_cast<const std::byte*>(w.floats.data());
      source_.row_bytes = int64_t{4} * w.k;
      return;
    }
    source_.dtype = source_dtype(w.format.weight);
    const bool nibbles = tensor::bits_of(w.format.weight) == 4;
    source_.row_bytes = nibbles ? (w.k + 1) / 2 : w.k;
    data_.resize(static_cast<size_t>(source_.row_bytes * w.n));
    for (int32_t c = 0; c < w.n; ++c)
      for (int32_t i = 0; i < w.k; ++i) {
        const auto byte = static_cast<size_t>(c * source_.row_bytes + (nibbles ? i / 2 : i));
        const uint32_t code = w.codes[w.at(c, i)];
        data_[byte] |= static_cast<std::byte>(nibbles && i % 2 ? code << 4 : code);
      }
    source_.data = data_.data();
    source_.scales = w.scales.empty() ? nullptr : w.scales.data();
    const auto width = static_cast<size_t>(tensor::group_scale_bytes(w.format));
    group_scales_.resize(w.group_scale_bits.size() * width);
    for (size_t i = 0; i < w.group_scale_bits.size(); ++i)
      std::memcpy(group_scales_.data() + i * width, &w.group_scale_bits[i], width);
    source_.group_scales = group_scales_.data();
    source_.zero_points = w.zero_points.data();
  }
  const SourceMatrix& matrix() const { return source_; }

 private:
  std::vector<std::byte> data_, group_scales_;
  SourceMatrix source_;
};

// A packed matrix and its memory.
struct PackedForTest {
  platform::Buffer memory, bias_memory;
  tensor::PackedMatrix view;

  explicit PackedForTest(const TestWeights& w)
      : memory(bytes_for_test(tensor::packed_bytes(w.format, w.n, w.k))) {
    view = pack_matrix(w.format, TestSource(w).matrix(), memory.data());
    if (w.bias.empty()) return;
    bias_memory = bytes_for_test(int64_t{4} * view.padded_n());
    std::memcpy(bias_memory.data(), w.bias.data(), w.bias.size() * 4);
    view.bias = bias_memory.as<float>();
  }
  PackedForTest(const TestWeights& gate, const TestWeights& up)
      : memory(bytes_for_test(tensor::packed_bytes(gate.format, 2 * gate.n, gate.k))) {
    const TestSource gate_source(gate), up_source(up);
    view = pack_gate_up(gate.format, gate_source.matrix(), up_source.matrix(), memory.data());
    if (gate.bias.empty()) return;
    bias_memory = bytes_for_test(int64_t{4} * view.padded_n());
    for (int32_t c = 0; c < gate.n; ++c) {
      bias_memory.as<float>()[c / 16 * 32 + c % 16] = gate.bias_of(c);
      bias_memory.as<float>()[c / 16 * 32 + 16 + c % 16] = up.bias_of(c);
    }
    view.bias = bias_memory.as<float>();
  }
};

}  // namespace moestro::kernels
