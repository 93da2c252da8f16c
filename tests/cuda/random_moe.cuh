// A MoE layer with random weights on the GPU, for the tests and the bench of kernels/cuda: every
// packed weight is a hash of its position, so that the host knows any weight without a copy of the
// (up to 22 GB) matrices.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cuda/lists.h"
#include "platform/cuda_device.h"

namespace moestro::kernels::cuda {

template <class T>
T must(Result<T> r) {
  if (r.ok()) return std::move(r).value();
  std::fprintf(stderr, "%s\n", r.status().message().c_str());
  std::exit(1);
}
inline void must(const Status& s) {
  if (s.ok()) return;
  std::fprintf(stderr, "%s\n", s.message().c_str());
  std::exit(1);
}

enum class Weights { kInt8, kFp8, kBf16, kInt4 };

// One format under test: its name, its kernel, and its host arithmetic.
struct Format {
  Weights weights;
  const char* name;
  int32_t value_bytes;
  const MoeLayerKernel* kernel;
  bool exact_sums;  // any order of a sum gives the same bits
  float deviation;  // of a weight before its scale
  float largest;    // of an activation, 0: no scales
  bool step_scales = false;

  static Format int8() {
    return {Weights::kInt8, "int8", 1, &moe_layer_kernels_int8()[0], true, 74.0f, 127.0f};
  }
  static Format fp8() {
    return {Weights::kFp8, "fp8", 1, &moe_layer_kernels_fp8()[0], false, 1.73f, 448.0f};
  }
  static Format fp8_block() {
    return {Weights::kFp8, "fp8_block", 1,      &moe_layer_kernels_fp8_block()[0],
            false,         1.73f,       448.0f, true};
  }
  static Format bf16() {
    return {Weights::kBf16, "bf16", 2, &moe_layer_kernels_bf16()[0], false, 0.009f, 0.0f};
  }
  static Format int4() {
    return {Weights::kInt4, "int4", 2, &moe_layer_kernels_int4()[0], false, 0.013f, 0.0f};
  }
  int64_t matrix_bytes(const DeviceMatrix& m) const {
    return weights == Weights::kInt4 ? m.int4_bytes() : m.bytes();
  }
  // Bytes that three matrices of `values` each take, packed.
  double bytes_of(double values) const {
    return weights == Weights::kInt4 ? values * kInt4BlockStepBytes / (kBlockRows * kInt4StepValues)
                                     : values * value_bytes;
  }
};

// Four weight bytes at a time, as raw bits of the format.
__host__ __device__ inline uint32_t weight_word(Weights weights, uint32_t seed, uint64_t word) {
  uint64_t z = (word + seed) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 32) * 0xd6e8feb86659fd93u;
  const uint32_t bits = static_cast<uint32_t>(z >> 32);
  if (weights == Weights::kInt8) return bits;
  if (weights == Weights::kInt4)  // codes, or scales of 1/512 to 1/256
    return word * 4 % kInt4BlockStepBytes < kInt4CodeBytes ? bits
                                                           : (bits & 0x007f007fu) | 0x3b003b00u;
  if (weights == Weights::kFp8)  // exponents of 1/4 to 2: finite, and small ones count
    return (bits & 0x87878787u) | (((bits >> 3 & 0x03030303u) + 0x05050505u) << 3);
  uint32_t packed = 0;  // int8 / 8192: exact in bfloat16
  for (int i = 0; i < 2; ++i) {
    const float v = static_cast<float>(static_cast<int8_t>(bits >> (8 * i))) / 8192.0f;
    uint32_t f;
    memcpy(&f, &v, 4);
    packed |= (f >> 16) << (16 * i);
  }
  return packed;
}

// Weight number `i` of such a word.
inline float weight_value(Weights weights, uint32_t word, int i) {
  if (weights == Weights::kInt8) return static_cast<int8_t>(word >> (8 * i));
  if (weights == Weights::kBf16) {
    const uint32_t f = word >> (16 * i) << 16;
    float v;
    std::memcpy(&v, &f, 4);
    return v;
  }
  __nv_fp8_e4m3 v;
  v.__x = static_cast<__nv_fp8_storage_t>(word >> (8 * i));
  return static_cast<float>(v);
}

// All matrices of a kind. `columns`: gate and up columns from here on are padding and zero (0: not
// a gate_up matrix).
__global__ void fill_weights(uint32_t* to, uint64_t words, Weights weights, uint32_t seed,
                             DeviceMatrix m, int32_t columns) {
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words;
       i += uint64_t{gridDim.x} * blockDim.x) {
    uint32_t word = weight_word(weights, seed, i);
    if (columns != 0 && weights == Weights::kInt4) {
      const uint64_t at = i * 4 % static_cast<uint64_t>(m.int4_bytes());
      const int32_t block = static_cast<int32_t>(at / kInt4BlockStepBytes / m.k_steps()),
                    in = static_cast<int32_t>(at % kInt4BlockStepBytes), tile = in / 2048,
                    thread = in % 2048 / 16;
      const int32_t column =
          128 * block + tile / 2 * 64 + thread / 32 * 16 + thread % 32 / 4 * 2 + tile % 2;
      if (in < kInt4CodeBytes && column >= columns) word = 0x88888888u;
    } else if (columns != 0) {
      const uint64_t at = i * 4 % static_cast<uint64_t>(m.bytes());
      const int32_t block = static_cast<int32_t>(at / kBlockStepBytes / m.k_steps()),
                    row = static_cast<int32_t>(at % kBlockStepBytes / kStepBytes);
      const int32_t column =
          128 * block + row / 128 * 64 + row / 16 % 4 * 16 + row % 8 * 2 + row / 64 % 2;
      if (column >= columns) word = 0;
    }
    to[i] = word;
  }
}

inline float bf16_round(float x) { return __bfloat162float(__float2bfloat16(x)); }

struct RandomMoe {
  Format format;
  DeviceMoeShape shape;
  DeviceMatrix up, down;
  std::vector<float> up_scales, down_scales;  // host copies, packed order
  platform::DeviceArray<std::byte> up_data, down_data;
  platform::DeviceArray<float> up_scale_data, down_scale_data;

  RandomMoe(const Format& f, const DeviceMoeShape& s) : format(f), shape(s) {
    up = gate_up_matrix(s.hidden, s.intermediate, f.value_bytes);
    down = {s.hidden, s.intermediate, f.value_bytes};
    std::mt19937 rng(7);
    fill(up, 1, up_data, up_scales, up_scale_data, rng);
    fill(down, 2, down_data, down_scales, down_scale_data, rng);
  }
  DeviceMoeWeights weights() const {
    return {up_data.data(), up_scale_data.data(), down_data.data(), down_scale_data.data()};
  }
  int64_t scales_of_expert(const DeviceMatrix& m) const {
    return format.step_scales ? m.step_scales() : m.padded_n();
  }
  // Bytes that a pass over one expert reads.
  double expert_bytes() const { return format.bytes_of(3.0 * shape.hidden * shape.intermediate); }

 private:
  void fill(const DeviceMatrix& m, uint32_t seed, platform::DeviceArray<std::byte>& data,
            std::vector<float>& scales, platform::DeviceArray<float>& scale_data,
            std::mt19937& rng) {
    data = must(platform::DeviceArray<std::byte>::allocate(
        static_cast<size_t>(format.matrix_bytes(m)) * shape.experts));
    fill_weights<<<1024, 256>>>(reinterpret_cast<uint32_t*>(data.data()), data.bytes() / 4,
                                format.weights, seed, m, seed == 1 ? shape.intermediate : 0);
    std::uniform_real_distribution<float> scale(0.5f, 1.5f);
    scales.resize(static_cast<size_t>(scales_of_expert(m)) * shape.experts);
    // about unit variance after a product with a unit row
    for (float& v : scales)
      v = scale(rng) / (format.deviation * std::sqrt(static_cast<float>(m.k)));
    if (format.step_scales) {  // [block][step][w][h]: two different ones a step
      for (size_t i = 0; i < scales.size(); i += kStepScales) {
        float* of = scales.data() + i;
        const bool up = seed == 1;
        of[3] = up ? of[1] : of[2];
        (up ? of[2] : of[1]) = of[0];
      }
    }
    scale_data = must(platform::DeviceArray<float>::allocate(scales.size()));
    must(scale_data.upload(scales.data(), scales.size(), nullptr));
    must(platform::cuda_status(cudaDeviceSynchronize(), "filling weights"));
  }
};

// Inputs and output of one launch. Tokens' hidden states and logits come from `seed`.
struct MoeInputs {
  std::vector<__nv_bfloat16> x;
  std::vector<float> logits;
  platform::DeviceArray<__nv_bfloat16> x_data, out;
  platform::DeviceArray<float> logit_data;
  platform::DeviceArray<int32_t> num_tokens;

  MoeInputs(const DeviceMoeShape& s, int32_t tokens, uint32_t seed) {
    const size_t cap = static_cast<size_t>(s.max_tokens);
    x_data = must(platform::DeviceArray<__nv_bfloat16>::allocate(cap * s.hidden));
    out = must(platform::DeviceArray<__nv_bfloat16>::allocate(cap * s.hidden));
    logit_data = must(platform::DeviceArray<float>::allocate(cap * s.experts));
    num_tokens = must(platform::DeviceArray<int32_t>::allocate(1));
    set(s, tokens, seed);
  }
  void set(const DeviceMoeShape& s, int32_t tokens, uint32_t seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    std::vector<float> pool(1 << 16);  // normals are slow: tokens take windows of a pool
    for (float& v : pool) v = normal(rng);
    const size_t n = static_cast<size_t>(tokens);
    x.resize(n * s.hidden);
    for (size_t i = 0; i < n; ++i) {
      const uint32_t from = rng();
      for (int32_t k = 0; k < s.hidden; ++k)
        x[i * s.hidden + k] = __float2bfloat16(pool[(from + k) & 0xffff]);
    }
    logits.resize(n * s.experts);
    for (float& v : logits) v = pool[rng() & 0xffff] + static_cast<float>(rng()) * 1e-12f;
    must(x_data.upload(x.data(), x.size(), nullptr));
    must(logit_data.upload(logits.data(), logits.size(), nullptr));
    must(num_tokens.upload(&tokens, 1, nullptr));
    must(platform::cuda_status(cudaDeviceSynchronize(), "uploading inputs"));
  }
  DeviceMoeArgs args(std::byte* workspace) const {
    DeviceMoeArgs a;
    a.num_tokens = num_tokens.data();
    a.x = x_data.data();
    a.logits = logit_data.data();
    a.out = out.data();
    a.workspace = workspace;
    return a;
  }
};

}  // namespace moestro::kernels::cuda
