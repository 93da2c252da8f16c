// Attention, sparse selection and sampling passes at GLM-5's shapes (64 heads, latent 512, rope 64;
// indexer 32 heads x 128, top 2048), every kernel that runs here. Counters: GFLOP/s of the useful
// multiply-adds, GB/s of cache rows read once. The first benchmark is the machine's read ceiling in
// the same run. Gang of all processors.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "kernels/gqa_attention.h"
#include "kernels/mla_attention.h"
#include "kernels/row_ops.h"
#include "kernels/sparse_index.h"
#include "platform/arena.h"
#include "tensor/numeric.h"

namespace moestro::kernels {
namespace {

platform::Gang& gang() {
  static platform::Gang instance(std::max(1, platform::read_cpu_info().num_cpus));
  return instance;
}

float noise(uint64_t i) {
  return static_cast<float>((i * 2654435761u >> 8 & 0xffff)) / 32768.0f - 1.0f;
}

std::vector<float> noises(size_t n) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = noise(i);
  return out;
}

// One sequence: the last `tokens` of `context` positions are this step's, pages of 64 in order.
struct Sequence {
  static constexpr int32_t kPage = 64;
  Sequence(int32_t context, int32_t tokens, int32_t width, DType dtype) {
    const int64_t row = int64_t{width} * (dtype == DType::kF32 ? 4 : 2);
    memory =
        platform::Buffer::allocate(static_cast<size_t>(row) * static_cast<size_t>(context + kPage))
            .value();
    for (int64_t i = 0; i < int64_t{context} * width; ++i) {
      if (dtype == DType::kF32)
        memory.as<float>()[i] = noise(static_cast<uint64_t>(i));
      else
        memory.as<Bf16>()[i] = to_bf16(noise(static_cast<uint64_t>(i)));
    }
    view = {memory.data(), dtype, kPage, width, row, row * kPage};
    for (int32_t p = 0; p * kPage < context; ++p) pages.push_back(p);
    for (int32_t t = 0; t < tokens; ++t) positions.push_back(context - tokens + t);
    token_seq.assign(static_cast<size_t>(tokens), 0);
    starts = {0, tokens};
    step.num_tokens = tokens;
    step.num_seqs = 1;
    step.positions = positions.data();
    step.token_seq = token_seq.data();
    step.query_start = starts.data();
    step.block_tables = pages.data();
    step.block_table_stride = static_cast<int32_t>(pages.size());
  }
  platform::Buffer memory;
  tensor::PagedView view;
  std::vector<int32_t> pages, positions, token_seq, starts;
  StepInput step;
};

void read_ceiling(benchmark::State& state) {
  constexpr size_t kBytes = size_t{1} << 29;
  auto memory = platform::Buffer::allocate(kBytes).value();
  std::fill_n(memory.as<uint64_t>(), kBytes / 8, 1);
  std::vector<uint64_t> sums(static_cast<size_t>(gang().num_workers()) * 8);
  for (auto _ : state) {
    gang().run([&](platform::Worker& w) {
      const auto [begin, end] = w.share(kBytes / 8, 64);
      uint64_t s[8] = {};
      for (int64_t i = begin; i < end; i += 8) {
        for (int64_t j = 0; j < 8; ++j) s[j] += memory.as<uint64_t>()[i + j];
      }
      for (int j = 0; j < 8; ++j) sums[static_cast<size_t>(w.index() * 8 + j)] += s[j];
    });
    benchmark::DoNotOptimize(sums.data());
  }
  state.counters["GB/s"] = benchmark::Counter(static_cast<double>(kBytes) / 1e9,
                                              benchmark::Counter::kIsIterationInvariantRate);
}

struct Work {
  double flops, bytes;
};

template <class Shape, class Args>
void run_kernel(benchmark::State& state, const Kernel<Shape, Args>& kernel, const Shape& shape,
                Args args, Work work) {
  auto scratch = platform::Buffer::allocate(
                     static_cast<size_t>(kernel.scratch_bytes(shape, gang().num_workers())))
                     .value();
  args.scratch = scratch.data();
  for (auto _ : state) gang().run([&](platform::Worker& w) { kernel.run(args, w); });
  state.counters["GFLOP/s"] =
      benchmark::Counter(work.flops / 1e9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] =
      benchmark::Counter(work.bytes / 1e9, benchmark::Counter::kIsIterationInvariantRate);
}

// keep > 0: every token attends to `keep` positions spread evenly, as after sparse selection.
void mla(benchmark::State& state, const MlaKernel& kernel, DType dtype, int32_t context,
         int32_t tokens, int32_t keep) {
  constexpr int32_t kHeads = 64, kLatent = 512, kRope = 64, kWidth = kLatent + kRope;
  Sequence s(context, tokens, kWidth, dtype);
  const std::vector<float> q = noises(static_cast<size_t>(tokens) * kHeads * kWidth);
  std::vector<float> out(static_cast<size_t>(tokens) * kHeads * kLatent);
  std::vector<int32_t> selected, num_selected(static_cast<size_t>(tokens), keep);
  double pairs = 0;
  for (int32_t t = 0; t < tokens; ++t) {
    const int32_t visible = context - tokens + t + 1;
    pairs += keep > 0 ? keep : visible;
    for (int64_t i = 0; i < keep; ++i) selected.push_back(static_cast<int32_t>(i * visible / keep));
  }
  const MlaArgs args{&s.step,
                     q.data(),
                     s.view,
                     kHeads,
                     kLatent,
                     kRope,
                     0.1f,
                     keep > 0 ? selected.data() : nullptr,
                     num_selected.data(),
                     keep,
                     out.data(),
                     nullptr};
  run_kernel(
      state, kernel, MlaShape{dtype, tokens, kHeads, kLatent, kRope, context}, args,
      {pairs * kHeads * (kWidth + kLatent) * 2,
       (keep > 0 ? pairs : static_cast<double>(context)) * static_cast<double>(s.view.row_bytes)});
}

// 32 query heads on 8 key/value heads of 128.
void gqa(benchmark::State& state, const GqaKernel& kernel, DType dtype, int32_t context,
         int32_t tokens) {
  constexpr int32_t kHeads = 32, kKvHeads = 8, kDim = 128;
  Sequence keys(context, tokens, kKvHeads * kDim, dtype),
      values(context, tokens, kKvHeads * kDim, dtype);
  const std::vector<float> q = noises(static_cast<size_t>(tokens) * kHeads * kDim);
  std::vector<float> out(q.size());
  const GqaArgs args{&keys.step, q.data(), kHeads * kDim, keys.view, values.view,
                     kHeads,     kKvHeads, kDim,          kDim,      0.1f,
                     0,          nullptr,  out.data(),    nullptr};
  const double pairs = static_cast<double>(tokens) * (context - (tokens - 1) / 2.0);
  run_kernel(state, kernel, GqaShape{dtype, tokens, kHeads, kKvHeads, kDim, kDim, context}, args,
             {pairs * kHeads * kDim * 4, 2.0 * context * static_cast<double>(keys.view.row_bytes)});
}

void sparse_index(benchmark::State& state, const SparseIndexKernel& kernel, DType dtype,
                  int32_t context, int32_t tokens) {
  constexpr int32_t kHeads = 32, kDim = 128, kTopK = 2048;
  Sequence s(context, tokens, kDim, dtype);
  const std::vector<float> q = noises(static_cast<size_t>(tokens) * kHeads * kDim),
                           weights = noises(static_cast<size_t>(tokens) * kHeads);
  std::vector<int32_t> selected(static_cast<size_t>(tokens) * kTopK),
      num(static_cast<size_t>(tokens));
  const SparseIndexArgs args{&s.step, q.data(), weights.data(),  s.view,     kHeads,
                             kDim,    kTopK,    selected.data(), num.data(), nullptr};
  const double pairs = static_cast<double>(tokens) * (context - (tokens - 1) / 2.0);
  run_kernel(state, kernel, SparseIndexShape{dtype, tokens, kHeads, kDim, kTopK, context}, args,
             {pairs * kHeads * (kDim + 1) * 2,
              static_cast<double>(context) * static_cast<double>(s.view.row_bytes)});
}

void sampling(benchmark::State& state, const RowOps& ops, int op) {
  constexpr int32_t kVocabulary = 151936;
  std::vector<float> row(kVocabulary);
  for (size_t i = 0; i < row.size(); ++i) row[i] = 12 * noise(i * i + 7);
  std::vector<int32_t> indices(kVocabulary);
  std::vector<std::byte> scratch(static_cast<size_t>(top_k_scratch_bytes(kVocabulary)));
  for (auto _ : state) {
    if (op == 0) benchmark::DoNotOptimize(ops.logits_stats(row.data(), kVocabulary));
    if (op == 1) benchmark::DoNotOptimize(ops.sum_exp(row.data(), kVocabulary, 12, 1, 6));
    if (op == 2)
      benchmark::DoNotOptimize(
          ops.gather_above(row.data(), kVocabulary, 11.9f, indices.data(), kVocabulary));
    if (op == 3)
      benchmark::DoNotOptimize(
          ops.top_k(row.data(), kVocabulary, 50, indices.data(), scratch.data()));
  }
}

// The reference is left out where it would take minutes.
bool runs(const platform::IsaSet needs) {
  return !(needs == platform::kBaseline) && platform::detect_isa().contains(needs);
}

void add(const std::string& name, const auto& fn) {
  benchmark::RegisterBenchmark(name.c_str(), fn)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

const bool registered = [] {
  add("read_ceiling", read_ceiling);
  for (DType dtype : {DType::kBF16, DType::kF32}) {
    const std::string suffix = dtype == DType::kF32 ? "/f32" : "/bf16";
    for (const MlaKernel& k : mla_kernels()) {
      if (!runs(k.needs) || !k.supports({dtype, 512, 64, 512, 64, 32768})) continue;
      const std::string name = std::string(k.name) + suffix;
      add(name + "/decode/context:4096",
          [&k, dtype](benchmark::State& s) { mla(s, k, dtype, 4096, 1, 0); });
      add(name + "/decode/context:32768",
          [&k, dtype](benchmark::State& s) { mla(s, k, dtype, 32768, 1, 0); });
      add(name + "/decode/context:32768/selected:2048",
          [&k, dtype](benchmark::State& s) { mla(s, k, dtype, 32768, 1, 2048); });
      add(name + "/prefill:512/context:4096",
          [&k, dtype](benchmark::State& s) { mla(s, k, dtype, 4096, 512, 0); });
      add(name + "/prefill:64/context:32768/selected:2048",
          [&k, dtype](benchmark::State& s) { mla(s, k, dtype, 32768, 64, 2048); });
    }
    for (const GqaKernel& k : gqa_kernels()) {
      if (!runs(k.needs) || !k.supports({dtype, 512, 32, 8, 128, 128, 32768})) continue;
      const std::string name = std::string(k.name) + suffix;
      add(name + "/decode/context:32768",
          [&k, dtype](benchmark::State& s) { gqa(s, k, dtype, 32768, 1); });
      add(name + "/prefill:512/context:4096",
          [&k, dtype](benchmark::State& s) { gqa(s, k, dtype, 4096, 512); });
    }
    for (const SparseIndexKernel& k : sparse_index_kernels()) {
      if (!runs(k.needs) || !k.supports({dtype, 512, 32, 128, 2048, 32768})) continue;
      const std::string name = std::string(k.name) + suffix;
      add(name + "/decode/context:32768",
          [&k, dtype](benchmark::State& s) { sparse_index(s, k, dtype, 32768, 1); });
      add(name + "/prefill:512/context:4096",
          [&k, dtype](benchmark::State& s) { sparse_index(s, k, dtype, 4096, 512); });
    }
  }
  for (const RowOps& ops : row_ops()) {
    if (!platform::detect_isa().contains(ops.needs)) continue;
    const char* names[] = {"/logits_stats", "/sum_exp", "/gather_above", "/top_k:50"};
    for (int op = 0; op < 4; ++op)
      add(std::string(ops.name) + names[op],
          [&ops, op](benchmark::State& s) { sampling(s, ops, op); });
  }
  return true;
}();

}  // namespace
}  // namespace moestro::kernels
