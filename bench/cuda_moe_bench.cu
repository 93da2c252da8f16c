// The CUDA MoE layer against the card's own ceilings, measured in the same run: read bandwidth
// (16-byte loads) and int8 wgmma rate (operands resident in shared memory, random values). Weights
// come from memory: each graph holds several layers with different routings. Prints one line a
// batch size: time, floor (the larger of bytes / bandwidth and products / rate; bf16 at half the
// int8 rate), share.
//   cuda_moe_bench [qwen3|glm5|dsv3|air|mixtral]... [int8|fp8|fp8_block|bf16|int4]... [tokens=N]
//   [tile=N]
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include "kernels/cuda/ptx/wgmma.cuh"
#include "random_moe.cuh"

using namespace moestro;
using namespace moestro::kernels::cuda;

namespace {

__global__ void __launch_bounds__(512) read_all(const uint4* from, size_t count, uint32_t* out) {
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  uint32_t x = 0;
  size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 7 * stride < count; i += 8 * stride) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(from + i + j * stride);
#pragma unroll
    for (int j = 0; j < 8; ++j) x ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (x == 0x12345678u) out[0] = x;
}

// Each of two warpgroups multiplies [128, 128 bytes] by [128 rows, 128 bytes], over and over.
__global__ void __launch_bounds__(256, 1) multiply_only(int rounds, int32_t* out) {
  extern __shared__ uint8_t dynamic[];
  uint8_t* tiles = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  for (int i = threadIdx.x; i < 48 * 1024 / 4; i += 256)
    reinterpret_cast<uint32_t*>(tiles)[i] = weight_word(Weights::kInt8, 9, i);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const int w = threadIdx.x / 128;
  const uint64_t a0 = ptx::swizzled_descriptor(tiles + w * 16384),
                 a1 = ptx::swizzled_descriptor(tiles + w * 16384 + 8192);
  const uint64_t b = ptx::swizzled_descriptor(tiles + 32768);
  int32_t sum[2][64] = {};
  for (int round = 0; round < rounds; ++round) {
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      ptx::WgmmaS8<128>::run(sum[0], a0 + 2 * k, b + 2 * k, 1);
      ptx::WgmmaS8<128>::run(sum[1], a1 + 2 * k, b + 2 * k, 1);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
  }
  ptx::wgmma_wait<0>();
  int32_t x = 0;
#pragma unroll
  for (int j = 0; j < 64; ++j) x ^= sum[0][j] ^ sum[1][j];
  if (x == 0x12345678) out[0] = x;
}

template <class F>
double median_us(const platform::CudaStream& stream, int repeats, F&& run) {
  auto begin = must(platform::CudaEvent::create()), end = must(platform::CudaEvent::create());
  for (int i = 0; i < 3; ++i) run();
  must(stream.synchronize());
  std::vector<double> us;
  for (int i = 0; i < repeats; ++i) {
    must(begin.record(stream));
    run();
    must(end.record(stream));
    us.push_back(1e3 * must(end.since(begin)));
  }
  std::sort(us.begin(), us.end());
  return us[us.size() / 2];
}

int32_t only_tokens = 0;  // tokens=N: that batch size alone
int32_t row_tile = 0;     // tile=N: that row tile, not the usual one

struct Ceilings {
  double bytes_per_us, int8_ops_per_us;
};

Ceilings measure_ceilings(const platform::CudaStream& stream, int sms) {
  Ceilings c{};
  auto sink = must(platform::DeviceArray<int32_t>::allocate(64));
  auto big = must(platform::DeviceArray<uint4>::allocate(size_t{4} << 26));
  fill_weights<<<1024, 256>>>(reinterpret_cast<uint32_t*>(big.data()), big.bytes() / 4,
                              Weights::kInt8, 3, DeviceMatrix{}, 0);
  cudaDeviceSynchronize();
  for (int per : {2, 4})
    c.bytes_per_us = std::max(
        c.bytes_per_us, static_cast<double>(big.bytes()) / median_us(stream, 9, [&] {
                          read_all<<<sms * per, 512, 0, stream.get()>>>(
                              big.data(), big.size(), reinterpret_cast<uint32_t*>(sink.data()));
                        }));
  const int shared = 49 * 1024 + 1024, rounds = 20000;
  cudaFuncSetAttribute(multiply_only, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  const double us = median_us(
      stream, 9, [&] { multiply_only<<<sms, 256, shared, stream.get()>>>(rounds, sink.data()); });
  c.int8_ops_per_us = 2.0 * 256 * 128 * 128 * rounds * sms / us;
  must(platform::cuda_status(cudaGetLastError(), "ceilings"));
  return c;
}

int experts_hit(const DeviceMoeShape& s, const MoeInputs& in, int32_t tokens) {
  std::set<int32_t> hit;
  std::vector<int32_t> order(s.experts);
  for (int32_t t = 0; t < tokens; ++t) {
    const float* l = in.logits.data() + int64_t{t} * s.experts;
    for (int32_t e = 0; e < s.experts; ++e) order[e] = e;
    std::partial_sort(order.begin(), order.begin() + s.top_k, order.end(),
                      [&](int a, int b) { return l[a] > l[b]; });
    hit.insert(order.begin(), order.begin() + s.top_k);
  }
  return static_cast<int>(hit.size());
}

void bench_model(const Format& f, const char* name, DeviceMoeShape s, const Ceilings& c,
                 int32_t sms, const platform::CudaStream& stream) {
  s.router.renormalize = true;
  s.value_bytes = f.value_bytes;
  s.step_scales = f.step_scales;
  s.int4 = f.weights == Weights::kInt4;
  s.max_tokens = 1;
  RandomMoe moe(f, s);
  std::printf("%s: hidden %d, experts %d, top-%d, intermediate %d, %s\n", name, s.hidden, s.experts,
              s.top_k, s.intermediate, f.name);
  std::printf("%6s %5s %6s %10s %10s %7s %9s %9s\n", "tokens", "tile", "hit", "us", "floor us",
              "share", "GB/s", "TOP/s");
  for (int32_t tokens : {1, 8, 32, 128, 512, 2048, 8192}) {
    if (only_tokens != 0 && tokens != only_tokens) continue;
    s.max_tokens = tokens;
    s.row_tile = row_tile;
    const int layers = tokens <= 8 ? 16 : tokens <= 512 ? 4 : 2;
    auto workspace = must(platform::DeviceArray<std::byte>::allocate(
        static_cast<size_t>(moe_workspace_bytes(s, sms))));
    must(prepare_moe_workspace(s, sms, workspace.data(), stream.get()));
    std::vector<MoeInputs> inputs;
    double hit = 0;
    for (int i = 0; i < layers; ++i) {
      inputs.emplace_back(s, tokens, 50 + i);
      hit += static_cast<double>(experts_hit(s, inputs.back(), std::min(tokens, 1024))) / layers;
    }
    const auto graph = must(platform::CudaGraph::capture(stream, [&] {
      for (const MoeInputs& in : inputs)
        MOESTRO_TRY(f.kernel->run(s, sms, moe.weights(), in.args(workspace.data()), stream.get()));
      return Status();
    }));
    const double us = median_us(stream, 15, [&] { must(graph.launch(stream)); }) / layers;
    const double bytes = hit * moe.expert_bytes() + 4.0 * tokens * s.hidden;
    const double ops = 6.0 * tokens * s.top_k * s.hidden * s.intermediate;
    const double floor = std::max(bytes / c.bytes_per_us, ops * f.value_bytes / c.int8_ops_per_us);
    std::printf("%6d %5d %6.1f %10.1f %10.1f %6.1f%% %9.0f %9.1f\n", tokens, moe_row_tile(s), hit,
                us, floor, 100 * floor / us, bytes / us / 1e3, ops / us / 1e6);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto device = platform::read_cuda_device(0);
  if (!device.ok() || !device->is_hopper()) {
    std::printf("SKIPPED: no Hopper GPU\n");
    return 77;
  }
  const auto stream = must(platform::CudaStream::create());
  const Ceilings c = measure_ceilings(stream, device->num_sms);
  std::printf("%s: read %.0f GB/s, int8 wgmma %.0f TOP/s\n", device->name.c_str(),
              c.bytes_per_us / 1e3, c.int8_ops_per_us / 1e6);
  std::vector<std::string> names(argv + 1, argv + argc);
  std::erase_if(names, [](const std::string& name) {
    const bool tokens = name.starts_with("tokens=");
    if (tokens) only_tokens = std::stoi(name.substr(7));
    const bool tile = name.starts_with("tile=");
    if (tile) row_tile = std::stoi(name.substr(5));
    return tokens || tile;
  });
  const std::vector<Format> formats = {Format::int8(), Format::fp8(), Format::fp8_block(),
                                       Format::bf16(), Format::int4()};
  auto asked = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const bool any_format =
      std::none_of(formats.begin(), formats.end(), [&](const Format& f) { return asked(f.name); });
  struct Model {
    const char* name;
    int32_t experts, top_k, hidden, intermediate;
  };
  const Model models[] = {{"qwen3", 128, 8, 2048, 768},
                          {"glm5", 256, 8, 6144, 2048},
                          {"dsv3", 256, 8, 7168, 2048},
                          {"air", 128, 8, 4096, 1408},
                          {"mixtral", 8, 2, 4096, 14336}};
  const bool any_model = std::none_of(std::begin(models), std::end(models),
                                      [&](const Model& m) { return asked(m.name); });
  for (const Model& m : models) {
    if (!any_model && !asked(m.name)) continue;
    for (const Format& f : formats) {
      if (!any_format && !asked(f.name)) continue;
      DeviceMoeShape s;
      s.experts = m.experts;
      s.top_k = m.top_k;
      s.hidden = m.hidden;
      s.intermediate = m.intermediate;
      bench_model(f, m.name, s, c, device->num_sms, stream);
    }
  }
  return 0;
}
