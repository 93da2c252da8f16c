// Speed of expert_mlp in the shape of Qwen3-30B-A3B's MoE layer (hidden 2048, 128 experts, top 8,
// intermediate 768), for every format and kernel that this processor can run, as a share of
// ceilings: reading between the runs, multiplying just before. Several layers take turns, so that
// weights come from memory.
// kernels_bench [--workers=N] [--workers=1 --cpu-time] [Google Benchmark's flags]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/expert_mlp.h"
#include "platform/arena.h"
#include "platform/ceilings.h"
#include "tensor/numeric.h"

namespace moestro::bench {
namespace {

using kernels::ExpertMlpArgs;
using kernels::ExpertMlpKernel;
using kernels::ExpertMlpShape;
using platform::Buffer;
using platform::compute_ceiling;
using platform::read_bandwidth;
using platform::seconds_now;
using platform::Unit;
using platform::unit_name;
using tensor::PackedFormat;
using tensor::PackedMatrix;
using tensor::WeightType;

constexpr int32_t kHidden = 2048, kExperts = 128, kTopK = 8, kIntermediate = 768, kMaxTokens = 4096;

// Random weights whose values are like a checkpoint's: results that fall below the normal range of
// float32 cost a hundred cycles each, and so would float8 weights that are mostly subnormal.
class RandomWeights {
 public:
  explicit RandomWeights(uint64_t seed) : state_(seed) {}

  PackedMatrix fill(const PackedFormat& format, int32_t n, int32_t k, std::byte* at) {
    const tensor::PackedLayout layout = tensor::packed_layout(format, n, k);
    PackedMatrix m;
    m.format = format;
    m.n = n;
    m.k = k;
    m.data = at;
    fill_codes(format.weight, at, m.num_panels() * m.panel_bytes());
    const int64_t cells = int64_t{m.padded_n()} * m.groups();
    if (tensor::has_channel_scales(format)) {
      auto* scales = reinterpret_cast<float*>(at + layout.scales);
      const bool global = format.group_scale == DType::kF8E4M3 && format.group_k;
      std::fill_n(scales, m.padded_n(), format.group_k && !global ? 1.0f : scale_of(format.weight));
      m.scales = scales;
    }
    // Not what belongs to the weights, but that changes no time.
    if (tensor::has_compensation(format))
      m.compensation = reinterpret_cast<const int32_t*>(at + layout.compensation);
    if (format.group_k) {
      m.group_scales = at + layout.group_scales;
      for (int64_t i = 0; i < cells; ++i) put_group_scale(format, at + layout.group_scales, i);
    }
    if (format.zero_points) {
      m.zero_points = reinterpret_cast<const uint8_t*>(at + layout.zero_points);
      for (int64_t i = 0; i < cells; ++i)
        at[layout.zero_points + i] = static_cast<std::byte>(next() % 16);
    }
    return m;
  }

 private:
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }
  static float scale_of(WeightType type) {
    return type == WeightType::kInt8  ? 3e-4f
           : type == WeightType::kFp8 ? 2e-3f
           : type == WeightType::kFp4 ? 8e-3f
                                      : 5e-3f;
  }
  static void put_group_scale(const PackedFormat& format, std::byte* scales, int64_t i) {
    const float scale = scale_of(format.weight);
    const uint32_t bits = format.group_scale == DType::kBF16     ? to_bf16(scale).bits
                          : format.group_scale == DType::kF16    ? to_f16(scale).bits
                          : format.group_scale == DType::kF8E8M0 ? 120
                          : format.group_scale == DType::kF8E4M3 ? 0x38
                                                                 : std::bit_cast<uint32_t>(scale);
    const int width = tensor::group_scale_bytes(format);
    std::memcpy(scales + i * width, &bits, static_cast<size_t>(width));
  }
  void fill_codes(WeightType type, std::byte* at, int64_t bytes) {
    // Floats: small exponents of both signs. float8: magnitudes 2 .. 30, and a zero now and then.
    const bool floats = type == WeightType::kF32 || type == WeightType::kBf16;
    const uint64_t keep = floats                     ? 0x80ff80ff80ff80ff
                          : type == WeightType::kFp8 ? 0x9f9f9f9f9f9f9f9f
                                                     : ~uint64_t{0};
    const uint64_t add = floats                     ? 0x3c003c003c003c00
                         : type == WeightType::kFp8 ? 0x4040404040404040
                                                    : 0;
    for (int64_t i = 0; i < bytes; i += 8) {
      uint64_t v = (next() & keep) ^ add;
      if (type == WeightType::kFp8 && state_ >> 32 < uint64_t{1} << 25) v &= ~uint64_t{0xff};
      std::memcpy(at + i, &v, 8);
    }
  }

  uint64_t state_;
};

// One layer's experts.
struct Layer {
  Buffer memory;
  std::vector<PackedMatrix> gate_up, down;

  Layer(const PackedFormat& format, uint64_t seed) {
    const int64_t gate_up_bytes = tensor::packed_bytes(format, 2 * kIntermediate, kHidden);
    const int64_t down_bytes = tensor::packed_bytes(format, kHidden, kIntermediate);
    memory = Buffer::allocate(static_cast<size_t>((gate_up_bytes + down_bytes) * kExperts)).value();
    RandomWeights random(seed);
    std::byte* at = memory.data();
    for (int e = 0; e < kExperts; ++e) {
      gate_up.push_back(random.fill(format, 2 * kIntermediate, kHidden, at));
      at += gate_up_bytes;
      down.push_back(random.fill(format, kHidden, kIntermediate, at));
      at += down_bytes;
    }
  }
};

struct Routing {
  std::vector<int32_t> offsets, token;
  int64_t distinct = 0;

  Routing(int32_t tokens, std::mt19937& rng) {
    std::vector<std::vector<int32_t>> of(kExperts);
    std::vector<int32_t> order(kExperts);
    for (int32_t e = 0; e < kExperts; ++e) order[static_cast<size_t>(e)] = e;
    for (int32_t t = 0; t < tokens; ++t)
      for (size_t j = 0; j < kTopK; ++j) {
        std::swap(order[j], order[j + rng() % (kExperts - j)]);
        of[static_cast<size_t>(order[j])].push_back(t);
      }
    offsets.push_back(0);
    for (const auto& rows : of) {
      distinct += !rows.empty();
      token.insert(token.end(), rows.begin(), rows.end());
      offsets.push_back(static_cast<int32_t>(token.size()));
    }
  }
};

std::unique_ptr<platform::Gang> gang;

// The layers of one format, 1.2 GB of them; a new format frees the last one's.
const std::vector<Layer>& layers_of(const PackedFormat& format) {
  static std::vector<Layer> layers;
  static PackedFormat current = PackedFormat::kF32;
  if (layers.empty() || current != format) {
    layers.clear();
    const int64_t layer = kExperts * (tensor::packed_bytes(format, 2 * kIntermediate, kHidden) +
                                      tensor::packed_bytes(format, kHidden, kIntermediate));
    const auto count = static_cast<int>((1'200'000'000 + layer - 1) / layer);
    for (int i = 0; i < count; ++i)
      layers.emplace_back(format, 88172645463325252ull + static_cast<uint64_t>(i));
    current = format;
  }
  return layers;
}

Unit unit_of(const ExpertMlpKernel& kernel) {
  const auto has = [&](std::string_view part) {
    return kernel.name.find(part) != std::string_view::npos;
  };
  const bool integers = has("int8") && !has("amx_bf16");
  if (has("amx")) return integers ? Unit::kAmxInt8 : Unit::kAmxBf16;
  if (has("avx512")) return integers ? Unit::kVnni512 : Unit::kFma512;
  return integers ? Unit::kInt8Avx2 : Unit::kFmaAvx2;
}

// Read bandwidth over a piece of the layers, the next at every turn.
double read_a_piece(const std::vector<Layer>& layers, size_t turn) {
  constexpr size_t kPiece = 64 << 20;
  const Buffer& memory = layers[turn % layers.size()].memory;
  const size_t pieces = memory.size() / kPiece;
  return read_bandwidth(*gang, memory.data() + turn / layers.size() % pieces * kPiece, kPiece, 1);
}

void moe_layer(benchmark::State& state, const PackedFormat& format, const ExpertMlpKernel* kernel) {
  const auto tokens = static_cast<int32_t>(state.range(0));
  const std::vector<Layer>& layers = layers_of(format);
  static const Buffer x = Buffer::allocate(size_t{4} * kMaxTokens * kHidden).value();
  static const Buffer y = Buffer::allocate(size_t{4} * kMaxTokens * kTopK * kHidden).value();
  const ExpertMlpShape shape{format, tokens, tokens * kTopK, kExperts, kHidden, kIntermediate};
  const Buffer scratch =
      Buffer::allocate(static_cast<size_t>(kernel->scratch_bytes(shape, gang->num_workers())))
          .value();
  std::mt19937 rng(static_cast<uint32_t>(tokens));
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < int64_t{tokens} * kHidden; ++i) x.as<float>()[i] = normal(rng);

  const double multiply = compute_ceiling(*gang, unit_of(*kernel));
  std::vector<double> seconds, bytes_a_second, read_bytes_a_second;
  size_t turn = 0;
  const double expert_bytes = static_cast<double>(layers[0].memory.size()) / kExperts;
  for (auto _ : state) {
    read_bytes_a_second.push_back(read_a_piece(layers, turn));
    const Layer& layer = layers[++turn % layers.size()];
    const Routing routing(tokens, rng);
    const ExpertMlpArgs args{x.as<float>(),        kHidden,       tokens,     routing.offsets,
                             routing.token.data(), layer.gate_up, layer.down, kernels::kSilu,
                             y.as<float>(),        kHidden,       false,      scratch.data()};
    const double start = seconds_now();
    gang->run([&](platform::Worker& worker) { kernel->run(args, worker); });
    const double s = seconds_now() - start;
    state.SetIterationTime(s);
    seconds.push_back(s);
    bytes_a_second.push_back(static_cast<double>(routing.distinct) * expert_bytes / s);
  }
  const auto median = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + static_cast<int64_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
  };
  const double s = median(seconds), gb = median(bytes_a_second), read = median(read_bytes_a_second);
  const double ops = 2.0 * 3 * kHidden * kIntermediate * kTopK * tokens / s;
  state.counters["median_ms"] = s * 1e3;
  state.counters["best_ms"] = *std::min_element(seconds.begin(), seconds.end()) * 1e3;
  state.counters["weights_GBps"] = gb / 1e9;
  state.counters["read_GBps"] = read / 1e9;
  state.counters["of_read_%"] = 100 * gb / read;
  state.counters["Tops"] = ops / 1e12;
  state.counters["of_multiply_%"] = multiply > 0 ? 100 * ops / multiply : 0;
}

void print_ceilings() {
  const auto& layer = layers_of(PackedFormat::kInt8)[0];
  std::printf("%d workers, %s\n", gang->num_workers(),
              platform::isa_names(platform::detect_isa()).c_str());
  std::printf("read            %7.1f GB/s\n",
              read_bandwidth(*gang, layer.memory.data(),
                             std::min<size_t>(layer.memory.size(), 512u << 20), 7) /
                  1e9);
  for (const Unit unit : {Unit::kAmxInt8, Unit::kAmxBf16, Unit::kVnni512, Unit::kFma512,
                          Unit::kInt8Avx2, Unit::kFmaAvx2})
    if (const double ops = compute_ceiling(*gang, unit); ops > 0)
      std::printf("%-15s %7.3f Tops\n", unit_name(unit), ops / 1e12);
  std::fflush(stdout);
}

std::vector<PackedFormat> formats() {
  using enum WeightType;
  using A = tensor::ActivationType;
  return {PackedFormat::kInt8,
          PackedFormat::kBf16,
          PackedFormat::kF32,
          {kInt8, A::kInt8, 128, DType::kF32, false, 128},
          {kFp8, A::kFp8},
          {kFp8, A::kFp8, 128, DType::kF32, false, 128},
          {kFp8, A::kBf16},
          {kInt4, A::kBf16, 128, DType::kF16},
          {kInt4, A::kBf16, 64, DType::kF16, true},
          {kInt4, A::kBf16, 32, DType::kBF16},
          {kInt4, A::kInt8, 128, DType::kF16},
          {kInt4, A::kInt8},
          {kFp4, A::kBf16, 32, DType::kF8E8M0},
          {kFp4, A::kBf16, 16, DType::kF8E4M3}};
}

// "expert_mlp_int4_amx int4-g128".
void register_all() {
  for (const PackedFormat& format : formats())
    for (const ExpertMlpKernel& kernel : kernels::expert_mlp_kernels(format)) {
      if (!platform::detect_isa().contains(kernel.needs) || kernel.name.ends_with("_ref")) continue;
      auto* b = benchmark::RegisterBenchmark(
          (std::string(kernel.name) + " " + tensor::packed_format_name(format).substr(8)).c_str(),
          [format, k = &kernel](benchmark::State& s) { moe_layer(s, format, k); });
      for (const int tokens : {1, 4, 16, 32, 128, 512, 2048, 4096}) b->Arg(tokens);
      b->UseManualTime()->Unit(benchmark::kMillisecond)->MinTime(0.5)->ArgName("tokens");
    }
}

}  // namespace
}  // namespace moestro::bench

int main(int argc, char** argv) {
  int workers = moestro::platform::read_cpu_info().num_cpus, kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--workers=", 10) == 0)
      workers = std::max(1, std::atoi(argv[i] + 10));
    else if (std::strcmp(argv[i], "--cpu-time") == 0)
      moestro::platform::use_cpu_time(true);
    else
      argv[kept++] = argv[i];
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  moestro::bench::gang = std::make_unique<moestro::platform::Gang>(workers);
  moestro::bench::print_ceilings();
  moestro::bench::register_all();
  benchmark::RunSpecifiedBenchmarks();
  moestro::bench::gang.reset();
  return 0;
}
