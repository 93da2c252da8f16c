#include "plan/measure.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <numeric>

#include "base/deadline.h"
#include "base/log.h"
#include "checkpoint/random_fill.h"
#include "plan/choose.h"
#include "plan/hash.h"
#include "plan/ops.h"
#include "plan/random_matrix.h"
#include "platform/arena.h"

namespace moestro::plan {
namespace {

using kernels::ExpertMlpShape;
using kernels::kTokenBuckets;
using kernels::LinearShape;
using models::OpSite;
using tensor::PackedMatrix;

// A bucket's typical step: one user, several, a chunk, a long prompt.
constexpr std::array<int32_t, kTokenBuckets> kTypicalTokens = {1, 16, 128, 512};
// Weights of a sample: more than caches hold, so that few tokens pay for reading them.
constexpr int64_t kSampleBytes = int64_t{96} << 20;
// Channels of a sample for many tokens, where arithmetic counts and time is short.
constexpr int32_t kManyTokens = 33, kChannelsForMany = 2048;
constexpr int kRounds = 9;

platform::Buffer& grown(platform::Buffer& buffer, int64_t bytes, Status& status) {
  if (static_cast<int64_t>(buffer.size()) < bytes) {
    Result<platform::Buffer> larger = platform::Buffer::allocate(static_cast<size_t>(bytes));
    if (larger.ok())
      buffer = std::move(*larger);
    else
      status = larger.status().with("measuring kernels; --kernel-table none leaves it out");
  }
  return buffer;
}

// What is used for every sample: inputs, outputs, scratch.
struct Bench {
  platform::Gang& gang;
  platform::Buffer x, y, scratch, weights;
};

// One bucket's job for one kernel: runs the sample once.
using Job = std::function<void(size_t kernel)>;

struct Timing {
  std::vector<double> us;        // one a kernel
  std::vector<uint64_t> digest;  // of the output of each
};

// In turns, so that a slow phase of the machine hits all alike.
Timing time_in_turns(size_t num_kernels, double seconds, const Job& job,
                     const std::function<uint64_t()>& digest) {
  Timing t;
  std::vector<std::vector<double>> samples(num_kernels);
  for (size_t k = 0; k < num_kernels; ++k) {  // warm-up, and the results
    job(k);
    t.digest.push_back(digest());
  }
  const Clock::time_point start = Clock::now();
  for (int round = 0; round < kRounds; ++round) {
    for (size_t k = 0; k < num_kernels; ++k) {
      const Clock::time_point begin = Clock::now();
      job(k);
      samples[k].push_back(seconds_since(begin) * 1e6);
    }
    if (seconds_since(start) > seconds) break;
  }
  for (std::vector<double>& s : samples) {
    const auto middle = s.begin() + static_cast<std::ptrdiff_t>(s.size() / 2);
    std::nth_element(s.begin(), middle, s.end());
    t.us.push_back(std::max(*middle, 0.01));
  }
  return t;
}

// Kernels whose outputs are equal in every bucket get the same number.
void number_results(KernelTimes& times, const std::vector<std::vector<uint64_t>>& digests) {
  for (size_t i = 0; i < times.kernels.size(); ++i) {
    size_t j = 0;
    while (digests[j] != digests[i]) ++j;
    times.kernels[i].results = static_cast<int>(j);
  }
}

uint64_t digest_of(const platform::Buffer& y, int64_t floats) {
  return fnv1a({reinterpret_cast<const char*>(y.data()), static_cast<size_t>(floats) * 4});
}

template <class Kernel>
void collect(const std::vector<const Kernel*>& kernels, KernelTimes& times, int bucket,
             double seconds, const Job& job, const std::function<uint64_t()>& digest,
             std::vector<std::vector<uint64_t>>& digests) {
  const Timing t = time_in_turns(kernels.size(), seconds, job, digest);
  for (size_t k = 0; k < kernels.size(); ++k) {
    times.kernels[k].us[static_cast<size_t>(bucket)] = t.us[k];
    digests[k].push_back(t.digest[k]);
  }
}

template <class Kernel>
KernelTimes named(const std::vector<const Kernel*>& kernels) {
  KernelTimes times;
  for (const Kernel* k : kernels)
    times.kernels.push_back({.kernel = std::string(k->name), .us = {}, .results = 0});
  return times;
}

Status prepare(Bench& b, int64_t x_floats, int64_t y_floats, int64_t scratch) {
  Status status;
  grown(b.x, x_floats * 4, status);
  grown(b.y, y_floats * 4, status);
  grown(b.scratch, scratch, status);
  MOESTRO_TRY(status);
  checkpoint::fill_normal(7, {b.x.data(), static_cast<size_t>(x_floats) * 4}, DType::kF32, 0, 1);
  return {};
}

Result<KernelTimes> measure_shape(const LinearShape& shape,
                                  std::vector<const kernels::LinearKernel*> kernels, double seconds,
                                  Bench& b) {
  KernelTimes times = named(kernels);
  std::vector<std::vector<uint64_t>> digests(kernels.size());
  for (int bucket = 0; bucket < kTokenBuckets; ++bucket) {
    const int32_t tokens = std::min(kTypicalTokens[static_cast<size_t>(bucket)], shape.max_rows);
    if (bucket > 0 && tokens < kernels::first_of_bucket(bucket)) break;
    LinearShape s = shape;
    s.max_rows = tokens;
    const auto most = static_cast<int32_t>(
        std::max<int64_t>(
            kSampleBytes / std::max<int64_t>(1, tensor::packed_bytes(s.format, 32, s.k)), 1) *
        32);
    s.total_n =
        std::min(shape.total_n, tokens >= kManyTokens ? std::min(most, kChannelsForMany) : most);
    const RandomMatrix source(s.format, s.total_n, s.k, 1);
    Status status;
    // Copies, so that one round does not find the last one's weights in the cache.
    const int64_t bytes = tensor::packed_bytes(s.format, s.total_n, s.k);
    const int64_t copies = std::clamp<int64_t>(kSampleBytes / bytes, 1, 16);
    grown(b.weights, bytes * copies, status);
    int64_t scratch = 0;
    for (const auto* k : kernels)
      scratch = std::max(scratch, k->scratch_bytes(s, b.gang.num_workers()));
    MOESTRO_TRY(status);
    MOESTRO_TRY(prepare(b, int64_t{tokens} * s.k, int64_t{tokens} * s.total_n, scratch));
    std::vector<PackedMatrix> weights(static_cast<size_t>(copies));
    b.gang.run([&](platform::Worker& w) {
      for (int64_t c = w.index(); c < copies; c += w.count())
        weights[static_cast<size_t>(c)] =
            kernels::pack_matrix(s.format, source.source, b.weights.data() + c * bytes);
    });
    size_t turn = 0;
    const Job job = [&](size_t k) {
      const kernels::LinearOutput out{
          .weight = &weights[turn++ % weights.size()], .y = b.y.as<float>(), .y_stride = s.total_n};
      const kernels::LinearArgs args{.x = b.x.as<float>(),
                                     .x_stride = s.k,
                                     .rows = tokens,
                                     .outputs = std::span(&out, 1),
                                     .scratch = b.scratch.data()};
      b.gang.run([&](platform::Worker& w) { kernels[k]->run(args, w); });
    };
    collect(
        kernels, times, bucket, seconds / kTokenBuckets, job,
        [&] { return digest_of(b.y, int64_t{tokens} * s.total_n); }, digests);
  }
  number_results(times, digests);
  return times;
}

// The experts that a step of so many tokens hits get equal rows, as even routing gives them; at
// most so many of them as fit the sample.
struct ExpertSample {
  ExpertMlpShape shape;
  std::vector<int32_t> offsets, token_of;
  int32_t tokens = 0;
};

ExpertSample sample_of(const ExpertMlpShape& shape, int32_t tokens, int64_t expert_bytes) {
  const int32_t top_k = std::max(1, shape.max_rows / std::max(shape.max_tokens, 1));
  const int64_t rows = int64_t{tokens} * top_k;
  const int64_t hit = std::min<int64_t>(rows, shape.experts);
  const int64_t fit = std::max<int64_t>(1, kSampleBytes / expert_bytes);
  ExpertSample s{.shape = shape, .offsets = {}, .token_of = {}, .tokens = 0};
  const auto experts =
      static_cast<int32_t>(std::min({hit, fit, tokens >= kManyTokens ? int64_t{8} : hit}));
  const auto each = static_cast<int32_t>(std::max<int64_t>(1, rows / hit));
  s.tokens = std::min(tokens, each * experts);
  s.shape.experts = experts;
  s.shape.max_tokens = s.tokens;
  s.shape.max_rows = each * experts;
  for (int32_t e = 0; e <= experts; ++e) s.offsets.push_back(e * each);
  for (int32_t r = 0; r < each * experts; ++r) s.token_of.push_back(r % s.tokens);
  return s;
}

Result<KernelTimes> measure_shape(const ExpertMlpShape& shape,
                                  std::vector<const kernels::ExpertMlpKernel*> kernels,
                                  double seconds, Bench& b) {
  KernelTimes times = named(kernels);
  std::vector<std::vector<uint64_t>> digests(kernels.size());
  const int32_t padded = (shape.intermediate + 15) / 16 * 16;
  const int64_t up_bytes = tensor::packed_bytes(shape.format, 2 * padded, shape.hidden),
                down_bytes = tensor::packed_bytes(shape.format, shape.hidden, shape.intermediate),
                expert_bytes = up_bytes + down_bytes;
  const RandomMatrix gate(shape.format, shape.intermediate, shape.hidden, 1),
      up(shape.format, shape.intermediate, shape.hidden, 3),
      down(shape.format, shape.hidden, shape.intermediate, 5);
  const int64_t distinct = std::clamp<int64_t>(kSampleBytes / expert_bytes, 1, 64);
  Status status;
  grown(b.weights, distinct * expert_bytes, status);
  MOESTRO_TRY(status);
  std::vector<PackedMatrix> all_up(static_cast<size_t>(distinct)), all_down(all_up.size());
  b.gang.run([&](platform::Worker& w) {
    for (int64_t e = w.index(); e < distinct; e += w.count()) {
      std::byte* at = b.weights.data() + e * expert_bytes;
      all_up[static_cast<size_t>(e)] =
          kernels::pack_gate_up(shape.format, gate.source, up.source, at);
      all_down[static_cast<size_t>(e)] =
          kernels::pack_matrix(shape.format, down.source, at + up_bytes);
    }
  });
  size_t turn = 0;
  for (int bucket = 0; bucket < kTokenBuckets; ++bucket) {
    const int32_t tokens = std::min(kTypicalTokens[static_cast<size_t>(bucket)], shape.max_tokens);
    if (bucket > 0 && tokens < kernels::first_of_bucket(bucket)) break;
    const ExpertSample s = sample_of(shape, tokens, expert_bytes);
    int64_t scratch = 0;
    for (const auto* k : kernels)
      scratch = std::max(scratch, k->scratch_bytes(s.shape, b.gang.num_workers()));
    MOESTRO_TRY(prepare(b, int64_t{s.tokens} * shape.hidden,
                        int64_t{s.shape.max_rows} * shape.hidden, scratch));
    std::vector<PackedMatrix> gate_up(static_cast<size_t>(s.shape.experts)), downs(gate_up.size());
    const Job job = [&](size_t k) {
      for (size_t e = 0; e < gate_up.size(); ++e, ++turn) {
        gate_up[e] = all_up[turn % all_up.size()];
        downs[e] = all_down[turn % all_up.size()];
      }
      const kernels::ExpertMlpArgs args{.x = b.x.as<float>(),
                                        .x_stride = shape.hidden,
                                        .tokens = s.tokens,
                                        .row_offsets = s.offsets,
                                        .row_token = s.token_of.data(),
                                        .gate_up = gate_up,
                                        .down = downs,
                                        .activation = kernels::kSilu,
                                        .y = b.y.as<float>(),
                                        .y_stride = shape.hidden,
                                        .scratch = b.scratch.data()};
      b.gang.run([&](platform::Worker& w) { kernels[k]->run(args, w); });
    };
    collect(
        kernels, times, bucket, seconds / kTokenBuckets, job,
        [&] { return digest_of(b.y, int64_t{s.shape.max_rows} * shape.hidden); }, digests);
  }
  number_results(times, digests);
  return times;
}

// The keys of a model that want measuring, with how to do it.
class Collector final : public models::OpVisitor {
 public:
  using Work = std::function<Result<KernelTimes>(double seconds, Bench&)>;

  Collector(const PlanInput& input, const KernelTable& table, const MeasureOptions& options)
      : input_(input), table_(table), options_(options) {}
  void visit(const OpSite&, kernels::LinearChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::ExpertMlpChoice& op) override { add(op); }
  void visit(const OpSite&, kernels::HeadLinearChoice&) override {}
  void visit(const OpSite&, kernels::GqaChoice&) override {}
  void visit(const OpSite&, kernels::MlaChoice&) override {}
  void visit(const OpSite&, kernels::SparseIndexChoice&) override {}
  void visit(const OpSite&, kernels::RowOpsChoice&) override {}
  void visit(const OpSite&, moe::DispatchChoice&) override {}

  std::map<std::string, Work> work;

 private:
  template <class Op>
  void add(Op& op) {
    const std::string key = table_key(op.shape, input_.num_workers);
    if (work.contains(key) || table_.find(key) != nullptr) return;
    const std::string forced = describe(op.shape).op + "=";
    for (const std::string& f : input_.forced_kernels)
      if (f.starts_with(forced)) return;
    std::vector<const typename Op::KernelType*> kernels;
    for (const auto& kernel : candidates_of(op.shape)) {
      const bool reference = kernel.needs == platform::kBaseline;
      if (input_.isa.contains(kernel.needs) && kernel.why_not(op.shape).empty() &&
          (!reference || options_.with_reference))
        kernels.push_back(&kernel);
    }
    if (kernels.size() < 2) return;
    work[key] = [shape = op.shape, kernels](double seconds, Bench& b) {
      return measure_shape(shape, kernels, seconds, b);
    };
  }

  const PlanInput& input_;
  const KernelTable& table_;
  const MeasureOptions& options_;
};

}  // namespace

int count_unmeasured(models::ModelSpec& spec, const PlanInput& input, const KernelTable& table,
                     const MeasureOptions& options) {
  Collector collector(input, table, options);
  spec.visit(collector);
  return static_cast<int>(collector.work.size());
}

Result<MeasureReport> measure(models::ModelSpec& spec, const PlanInput& input, platform::Gang& gang,
                              KernelTable& table, const MeasureOptions& options) {
  Collector collector(input, table, options);
  spec.visit(collector);
  Bench bench{.gang = gang, .x = {}, .y = {}, .scratch = {}, .weights = {}};
  MeasureReport report;
  const Clock::time_point start = Clock::now();
  size_t left = collector.work.size();
  for (const auto& [key, work] : collector.work) {
    // Packing the sample takes about as long as timing it.
    const double share = (options.max_seconds - seconds_since(start)) / static_cast<double>(left);
    if (share <= 0) break;
    MOESTRO_ASSIGN(KernelTimes times, work(share / 2, bench));
    table.set(key, std::move(times));
    log_debug("measured {} in {:.2f} s", key, seconds_since(start));
    ++report.measured;
    --left;
  }
  report.left = static_cast<int>(left);
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace moestro::plan
