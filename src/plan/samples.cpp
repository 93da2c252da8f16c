#include "plan/samples.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/digest.h"
#include "checkpoint/random_fill.h"
#include "plan/random_matrix.h"
#include "plan/turns.h"

namespace moestro::plan {
namespace {

using kernels::ExpertMlpShape;
using kernels::kTokenBuckets;
using kernels::LinearShape;
using tensor::PackedMatrix;

// Weights of a sample: more than caches hold (servers have 100 MiB and more), so that few tokens
// pay for reading them; what one run reads of it; and the largest matrix of it.
constexpr int64_t kSampleBytes = int64_t{192} << 20, kRunBytes = int64_t{96} << 20,
                  kMatrixBytes = int64_t{32} << 20;
// For many tokens, where arithmetic counts and time is short: channels, and a run's operations.
constexpr int32_t kManyTokens = 33, kChannelsForMany = 2048;
constexpr int64_t kOperationsAWorker = int64_t{4} << 30, kRowsAWorker = 1024;
// From so many experts a worker on, kernels work through one expert after another.
constexpr int32_t kExpertsAWorker = 16;

// One bucket's job for one kernel: runs the sample once.
using Job = std::function<void(size_t kernel)>;

Status grow(platform::Buffer& buffer, int64_t bytes) {
  if (static_cast<int64_t>(buffer.size()) >= bytes) return {};
  Result<platform::Buffer> larger = platform::Buffer::allocate(static_cast<size_t>(bytes));
  if (!larger.ok())
    return larger.status().with("measuring kernels; --kernel-table none leaves it out");
  buffer = std::move(*larger);
  return {};
}

Status prepare(SampleMemory& m, int64_t x_floats, int64_t y_floats, int64_t scratch) {
  MOESTRO_TRY(grow(m.x, x_floats * 4));
  MOESTRO_TRY(grow(m.y, y_floats * 4));
  MOESTRO_TRY(grow(m.scratch, scratch));
  checkpoint::fill_normal(7, {m.x.data(), static_cast<size_t>(x_floats) * 4}, DType::kF32, 0, 1);
  return {};
}

// The same matrix where its bytes were copied to.
PackedMatrix copied(PackedMatrix m, std::ptrdiff_t distance) {
  const auto shift = [distance](auto*& pointer) {
    using Pointer = std::remove_reference_t<decltype(pointer)>;
    if (pointer != nullptr)
      pointer = reinterpret_cast<Pointer>(reinterpret_cast<const std::byte*>(pointer) + distance);
  };
  shift(m.data);
  shift(m.scales);
  shift(m.compensation);
  shift(m.group_scales);
  shift(m.zero_points);
  return m;
}

// Times the kernels of one sample, bucket after bucket.
template <class Kernel>
class Timer {
 public:
  explicit Timer(const std::vector<const Kernel*>& kernels)
      : kernels_(kernels), digests_(kernels.size()) {
    for (const Kernel* k : kernels)
      times_.kernels.push_back({.kernel = std::string(k->name), .us = {}, .results = 0});
  }

  template <class Shape>
  int64_t scratch_bytes(const Shape& shape, int workers) const {
    int64_t bytes = 0;
    for (const Kernel* k : kernels_) bytes = std::max(bytes, k->scratch_bytes(shape, workers));
    return bytes;
  }

  // y: what a run writes. The first run of each warms up, and shows its result.
  void time(int bucket, double seconds, const Job& job, std::span<const float> y) {
    const auto bytes = std::as_bytes(y);
    for (size_t k = 0; k < kernels_.size(); ++k) {
      job(k);
      digests_[k].push_back(fnv1a({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
    }
    const std::vector<double> us =
        time_in_turns(kernels_.size(), job, {.max_seconds = seconds / kTokenBuckets});
    for (size_t k = 0; k < kernels_.size(); ++k)
      times_.kernels[k].us[static_cast<size_t>(bucket)] = us[k];
  }

  // Kernels whose outputs are equal in every bucket get the same number.
  KernelTimes finish() {
    for (size_t i = 0; i < kernels_.size(); ++i) {
      size_t j = 0;
      while (digests_[j] != digests_[i]) ++j;
      times_.kernels[i].results = static_cast<int>(j);
    }
    return std::move(times_);
  }

 private:
  const std::vector<const Kernel*>& kernels_;
  std::vector<std::vector<uint64_t>> digests_;
  KernelTimes times_;
};

// Copies of one matrix, so that one run does not find the last one's weights in the cache.
Result<std::vector<PackedMatrix>> linear_weights(const LinearShape& s, platform::Gang& gang,
                                                 SampleMemory& memory) {
  const int64_t bytes = tensor::packed_bytes(s.format, s.total_n, s.k);
  const int64_t copies = std::clamp<int64_t>(kSampleBytes / bytes, 1, 64);
  MOESTRO_TRY(grow(memory.weights, bytes * copies));
  const RandomMatrix source(s.format, s.total_n, s.k, 1);
  const PackedMatrix first = kernels::pack_matrix(s.format, source.source, memory.weights.data());
  std::vector<PackedMatrix> weights(static_cast<size_t>(copies), first);
  gang.run([&](platform::Worker& w) {
    for (int64_t c = 1 + w.index(); c < copies; c += w.count()) {
      std::memcpy(memory.weights.data() + c * bytes, memory.weights.data(),
                  static_cast<size_t>(bytes));
      weights[static_cast<size_t>(c)] = copied(first, c * bytes);
    }
  });
  return weights;
}

struct Experts {
  std::vector<PackedMatrix> gate_up, down;
};

Result<Experts> expert_weights(const ExpertMlpShape& s, platform::Gang& gang,
                               SampleMemory& memory) {
  const int32_t padded = (s.intermediate + 15) / 16 * 16;
  const int64_t up_bytes = tensor::packed_bytes(s.format, 2 * padded, s.hidden),
                bytes = up_bytes + tensor::packed_bytes(s.format, s.hidden, s.intermediate);
  const int64_t copies = std::clamp<int64_t>(kSampleBytes / bytes, 1, 256);
  MOESTRO_TRY(grow(memory.weights, bytes * copies));
  std::byte* const at = memory.weights.data();
  PackedMatrix gate_up, down;
  gang.run([&](platform::Worker& w) {  // two tasks
    if (w.index() == 0) {
      const RandomMatrix gate(s.format, s.intermediate, s.hidden, 1),
          up(s.format, s.intermediate, s.hidden, 3);
      gate_up = kernels::pack_gate_up(s.format, gate.source, up.source, at);
    }
    if (w.index() == w.count() - 1) {
      const RandomMatrix source(s.format, s.hidden, s.intermediate, 5);
      down = kernels::pack_matrix(s.format, source.source, at + up_bytes);
    }
  });
  Experts experts{{static_cast<size_t>(copies), gate_up}, {static_cast<size_t>(copies), down}};
  gang.run([&](platform::Worker& w) {
    for (int64_t c = 1 + w.index(); c < copies; c += w.count()) {
      std::memcpy(at + c * bytes, at, static_cast<size_t>(bytes));
      experts.gate_up[static_cast<size_t>(c)] = copied(gate_up, c * bytes);
      experts.down[static_cast<size_t>(c)] = copied(down, c * bytes);
    }
  });
  return experts;
}

// Even routing: so many experts get so many rows each.
struct Spread {
  int64_t experts, each;
};
Spread spread_of(const ExpertMlpShape& shape, int32_t tokens, int workers) {
  const int32_t top_k = std::max(1, shape.max_rows / std::max(shape.max_tokens, 1));
  const int64_t rows = int64_t{tokens} * top_k, hit = std::min<int64_t>(rows, shape.experts);
  const int64_t experts = std::min(hit, int64_t{kExpertsAWorker} * workers);
  return {experts, std::clamp<int64_t>(rows / hit, 1, kRowsAWorker * workers / experts)};
}

// The shape with no more intermediate channels than the longest run has time for.
ExpertMlpShape with_less(ExpertMlpShape shape, int workers) {
  const Spread s = spread_of(shape, std::min(kTypicalTokens.back(), shape.max_tokens), workers);
  const int64_t channel = int64_t{6} * shape.hidden * s.experts * s.each;  // operations
  const int64_t most = std::max<int64_t>(2, kOperationsAWorker * workers / (128 * channel)) * 128;
  shape.intermediate = static_cast<int32_t>(std::min<int64_t>(shape.intermediate, most));
  return shape;
}

struct ExpertStep {
  ExpertMlpShape shape;
  std::vector<int32_t> offsets, token_of;
};

ExpertStep step_of(const ExpertMlpShape& shape, int32_t tokens, int workers) {
  const auto [spread, each] = spread_of(shape, tokens, workers);
  const int64_t bytes = std::max<int64_t>(
      1, int64_t{3} * shape.hidden * shape.intermediate * tensor::bits_of(shape.format.weight) / 8);
  const int64_t experts =
      tokens < kManyTokens ? std::min(spread, std::max<int64_t>(1, kRunBytes / bytes)) : spread;
  ExpertStep s{.shape = shape, .offsets = {}, .token_of = {}};
  s.shape.experts = static_cast<int32_t>(experts);
  s.shape.max_tokens = static_cast<int32_t>(std::min<int64_t>(tokens, each * experts));
  s.shape.max_rows = static_cast<int32_t>(each * experts);
  for (int64_t e = 0; e <= experts; ++e) s.offsets.push_back(static_cast<int32_t>(e * each));
  for (int32_t r = 0; r < s.shape.max_rows; ++r) s.token_of.push_back(r % s.shape.max_tokens);
  return s;
}

}  // namespace

Result<KernelTimes> time_sample(const LinearShape& shape,
                                const std::vector<const kernels::LinearKernel*>& kernels,
                                double seconds, platform::Gang& gang, SampleMemory& memory) {
  Timer<kernels::LinearKernel> timer(kernels);
  std::vector<PackedMatrix> weights;
  for (int bucket = 0; bucket < kTokenBuckets; ++bucket) {
    const int32_t tokens = std::min(kTypicalTokens[static_cast<size_t>(bucket)], shape.max_rows);
    if (bucket > 0 && tokens < kernels::first_of_bucket(bucket)) break;
    LinearShape s = shape;
    s.max_rows = tokens;
    const int64_t panel = std::max<int64_t>(1, tensor::packed_bytes(s.format, 32, s.k));
    const auto most = static_cast<int32_t>(std::max<int64_t>(kMatrixBytes / panel, 1) * 32);
    s.total_n =
        std::min(shape.total_n, tokens >= kManyTokens ? std::min(most, kChannelsForMany) : most);
    if (weights.empty() || weights.front().n != s.total_n) {
      MOESTRO_ASSIGN(weights, linear_weights(s, gang, memory));
    }
    const int64_t outputs = int64_t{tokens} * s.total_n;
    MOESTRO_TRY(prepare(memory, int64_t{tokens} * s.k, outputs,
                        timer.scratch_bytes(s, gang.num_workers())));
    float* const y = memory.y.as<float>();
    size_t turn = 0;
    const Job job = [&](size_t k) {
      const kernels::LinearOutput out{
          .weight = &weights[turn++ % weights.size()], .y = y, .y_stride = s.total_n};
      const kernels::LinearArgs args{.x = memory.x.as<float>(),
                                     .x_stride = s.k,
                                     .rows = tokens,
                                     .outputs = std::span(&out, 1),
                                     .scratch = memory.scratch.data()};
      gang.run([&](platform::Worker& w) { kernels[k]->run(args, w); });
    };
    timer.time(bucket, seconds, job, {y, static_cast<size_t>(outputs)});
  }
  return timer.finish();
}

Result<KernelTimes> time_sample(const ExpertMlpShape& shape,
                                const std::vector<const kernels::ExpertMlpKernel*>& kernels,
                                double seconds, platform::Gang& gang, SampleMemory& memory) {
  Timer<kernels::ExpertMlpKernel> timer(kernels);
  const ExpertMlpShape small = with_less(shape, gang.num_workers());
  MOESTRO_ASSIGN(const Experts weights, expert_weights(small, gang, memory));
  for (int bucket = 0; bucket < kTokenBuckets; ++bucket) {
    const int32_t tokens = std::min(kTypicalTokens[static_cast<size_t>(bucket)], shape.max_tokens);
    if (bucket > 0 && tokens < kernels::first_of_bucket(bucket)) break;
    const ExpertStep s = step_of(small, tokens, gang.num_workers());
    const int64_t outputs = int64_t{s.shape.max_rows} * shape.hidden;
    MOESTRO_TRY(prepare(memory, int64_t{s.shape.max_tokens} * shape.hidden, outputs,
                        timer.scratch_bytes(s.shape, gang.num_workers())));
    std::vector<PackedMatrix> gate_up(static_cast<size_t>(s.shape.experts)), down(gate_up.size());
    float* const y = memory.y.as<float>();
    size_t turn = 0;
    const Job job = [&](size_t k) {
      for (size_t e = 0; e < gate_up.size(); ++e, ++turn) {
        gate_up[e] = weights.gate_up[turn % weights.down.size()];
        down[e] = weights.down[turn % weights.down.size()];
      }
      const kernels::ExpertMlpArgs args{.x = memory.x.as<float>(),
                                        .x_stride = shape.hidden,
                                        .tokens = s.shape.max_tokens,
                                        .row_offsets = s.offsets,
                                        .row_token = s.token_of.data(),
                                        .gate_up = gate_up,
                                        .down = down,
                                        .activation = kernels::kSilu,
                                        .y = y,
                                        .y_stride = shape.hidden,
                                        .scratch = memory.scratch.data()};
      gang.run([&](platform::Worker& w) { kernels[k]->run(args, w); });
    };
    timer.time(bucket, seconds, job, {y, static_cast<size_t>(outputs)});
  }
  return timer.finish();
}

}  // namespace moestro::plan
