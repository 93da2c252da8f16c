// Random weights with their packed form, for the tests and the bench of linear and expert_mlp. Each
// matrix keeps the values that packing should have stored, row-major, so that expectations do not
// depend on the packed layout.
#pragma once
#include <cstring>
#include <random>
#include <vector>

#include "kernels/pack.h"
#include "platform/arena.h"
#include "tensor/numeric.h"

namespace moestro::kernels {

inline std::string format_label(tensor::PackedFormat f) {
  return f == tensor::PackedFormat::kF32    ? "f32"
         : f == tensor::PackedFormat::kBf16 ? "bf16"
                                            : "int8";
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

// Source weights [n, k]: what the checkpoint would hold, and the stored values and scales.
struct TestWeights {
  tensor::PackedFormat format;
  int32_t n = 0, k = 0;
  std::vector<float> stored;  // [n, k] rounded to the format; int8: q
  std::vector<float> scales;  // [n], int8
  std::vector<int8_t> q;      // [n, k], int8
  std::vector<float> bias;    // [n] or empty

  TestWeights(tensor::PackedFormat f, int32_t rows, int32_t cols, std::mt19937& rng)
      : format(f), n(rows), k(cols) {
    const size_t count = static_cast<size_t>(n) * static_cast<size_t>(k);
    if (f == tensor::PackedFormat::kInt8) {
      std::uniform_int_distribution<int> any(-128, 127);
      q.resize(count);
      for (int8_t& v : q) v = static_cast<int8_t>(any(rng));
      stored.assign(q.begin(), q.end());
      std::uniform_real_distribution<float> scale(1e-4f, 1e-3f);
      for (int32_t i = 0; i < n; ++i) scales.push_back(scale(rng));
    } else {
      stored = random_floats(count, rng, 0.05f);
      if (f == tensor::PackedFormat::kBf16)
        for (float& v : stored) v = to_float(to_bf16(v));
    }
  }
  SourceMatrix source() const {
    SourceMatrix s;
    s.n = n;
    s.k = k;
    const bool int8 = format == tensor::PackedFormat::kInt8;
    s.dtype = int8 ? DType::kI8 : DType::kF32;
    s.data = int8 ? reinterpret_cast<const std::byte*>(q.data())
                  : reinterpret_cast<const std::byte*>(stored.data());
    s.row_bytes = int64_t{k} * (int8 ? 1 : 4);
    s.scales = int8 ? scales.data() : nullptr;
    return s;
  }
  float scale_of(int32_t channel) const {
    return scales.empty() ? 1.0f : scales[static_cast<size_t>(channel)];
  }
  float bias_of(int32_t channel) const {
    return bias.empty() ? 0.0f : bias[static_cast<size_t>(channel)];
  }
};

// A packed matrix and its memory.
struct PackedForTest {
  platform::Buffer memory, bias_memory;
  tensor::PackedMatrix view;

  explicit PackedForTest(const TestWeights& w)
      : memory(bytes_for_test(tensor::packed_bytes(w.format, w.n, w.k))) {
    view = pack_matrix(w.format, w.source(), memory.data());
    if (w.bias.empty()) return;
    bias_memory = bytes_for_test(int64_t{4} * view.padded_n());
    std::memcpy(bias_memory.data(), w.bias.data(), w.bias.size() * 4);
    view.bias = bias_memory.as<float>();
  }
  PackedForTest(const TestWeights& gate, const TestWeights& up)
      : memory(bytes_for_test(tensor::packed_bytes(gate.format, 2 * gate.n, gate.k))) {
    view = pack_gate_up(gate.format, gate.source(), up.source(), memory.data());
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
