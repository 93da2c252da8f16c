// A MoE layer with random weights on the GPU, for the tests and the bench of kernels/cuda: every
// packed weight byte is a hash of its position, so that the host knows any weight without a copy of
// the (up to 11 GB) matrices.
#pragma once
#include <cuda_bf16.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/cuda/moe_layer.h"
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

// Four weight bytes at a time.
__host__ __device__ inline uint32_t weight_word(uint32_t seed, uint64_t word) {
  uint64_t z = (word + seed) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 32) * 0xd6e8feb86659fd93u;
  return static_cast<uint32_t>(z >> 32);
}

__global__ void fill_weights(uint32_t* to, uint64_t words, uint32_t seed) {
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words;
       i += uint64_t{gridDim.x} * blockDim.x)
    to[i] = weight_word(seed, i);
}

inline float bf16_round(float x) { return __bfloat162float(__float2bfloat16(x)); }

struct RandomMoe {
  DeviceMoeShape shape;
  DeviceMatrix up, down;
  std::vector<float> up_scales, down_scales;  // host copies, packed order
  platform::DeviceArray<std::byte> up_data, down_data;
  platform::DeviceArray<float> up_scale_data, down_scale_data;

  explicit RandomMoe(const DeviceMoeShape& s) : shape(s) {
    up = gate_up_matrix(s.hidden, s.intermediate, 1);
    down = {s.hidden, s.intermediate, 1};
    std::mt19937 rng(7);
    fill(up, 1, up_data, up_scales, up_scale_data, rng);
    fill(down, 2, down_data, down_scales, down_scale_data, rng);
  }
  DeviceMoeWeights weights() const {
    return {up_data.data(), up_scale_data.data(), down_data.data(), down_scale_data.data()};
  }
  // Bytes that a pass over one expert reads.
  double expert_bytes() const { return 3.0 * shape.hidden * shape.intermediate; }

 private:
  // Packing pads gate and up with zero rows; here zero scales do.
  void clear_padding(std::vector<float>& scales) const {
    for (int32_t e = 0; e < shape.experts; ++e)
      for (int32_t c = shape.intermediate; c < up.padded_n() / 2; ++c)
        for (int32_t side : {0, 1}) scales[int64_t{e} * up.padded_n() + gate_up_row(c, side)] = 0;
  }
  void fill(const DeviceMatrix& m, uint32_t seed, platform::DeviceArray<std::byte>& data,
            std::vector<float>& scales, platform::DeviceArray<float>& scale_data,
            std::mt19937& rng) {
    data = must(
        platform::DeviceArray<std::byte>::allocate(static_cast<size_t>(m.bytes()) * shape.experts));
    fill_weights<<<1024, 256>>>(reinterpret_cast<uint32_t*>(data.data()), data.bytes() / 4, seed);
    std::uniform_real_distribution<float> scale(0.5f, 1.5f);
    scales.resize(static_cast<size_t>(m.padded_n()) * shape.experts);
    // about unit variance after a product with a unit row: weights have deviation 74 of 127
    for (float& v : scales) v = scale(rng) / (74.0f * std::sqrt(static_cast<float>(m.k)));
    scale_data = must(platform::DeviceArray<float>::allocate(scales.size()));
    if (seed == 1) clear_padding(scales);
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
