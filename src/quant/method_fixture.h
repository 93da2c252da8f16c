// What the tests of quant methods share: a module of made-up tensors, its config, and a check of
// every packed weight against a plain reading of the same bytes. Used by the tests only.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "kernels/ref/packed_access.h"
#include "quant/fake_weights.h"
#include "quant/load.h"

namespace moestro::quant {

using checkpoint::QuantConfig;
using tensor::ActivationType;
using tensor::PackedFormat;
using tensor::WeightType;
using testing::HasSubstr;

inline QuantConfig config_of(const char* text) {
  json::object outer;
  outer["quantization_config"] = json::parse(text).value();
  return checkpoint::parse_quant_config(outer).value();
}
// One compressed-tensors group for all linear layers.
inline QuantConfig compressed(const std::string& format_name, const std::string& weights,
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
  LoadContext context_{.source = w, .store = arena_, .gang = gang_, .progress = {}};
  std::mt19937 rng_{7};
};

inline double bf16_value(uint16_t bits) { return double{to_float(Bf16{bits})}; }

// Elements of `bits` bits along `count`, least significant first.
inline std::vector<uint32_t> pack_words(const std::vector<int32_t>& codes, int64_t rows,
                                        int64_t columns, int32_t bits = 4) {
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

}  // namespace moestro::quant
