#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/philox.h"

namespace moestro::engine {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kLogprobsStride = kMaxLogprobs + 1;
constexpr int32_t kBlock =
    1024;  // a draw from the whole vocabulary finds the block, then the token
constexpr int32_t num_blocks(int32_t n) { return (n + kBlock - 1) / kBlock; }

// One quick pass that only infinities and NaN disturb, and a second one if it was disturbed.
bool any_nan(const float* row, int32_t n) {
  constexpr int32_t kLanes = 16;  // separate sums, so that the compiler may use vectors
  float lanes[kLanes] = {};
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int32_t j = 0; j < kLanes; ++j) lanes[j] += row[i + j] * 0.0f;
  for (; i < n; ++i) lanes[0] += row[i] * 0.0f;
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum != 0.0f && std::any_of(row, row + n, [](float x) { return x != x; });
}

// 1 / temperature, never 0, so that a masked logit stays -inf.
float scale_of(const SamplingParams& params) {
  return std::max(static_cast<float>(1 / params.temperature), 1e-30f);
}

// 1 + how many of row[0, n) come before row[id]: larger, or equal with a lower id.
int32_t rank_of(const float* row, int32_t n, int32_t id) {
  const float value = row[id];
  int32_t before = 0;
  for (int32_t i = 0; i < n; ++i) before += row[i] > value;
  for (int32_t i = 0; i < id; ++i) before += row[i] == value;
  return before + 1;
}

constexpr auto kBetter = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

// The shortest beginning of sorted candidates that holds at least `mass`.
template <class Candidate>
int32_t cut_at_mass(const Candidate* candidates, int32_t count, double mass) {
  double sum = 0;
  int32_t kept = 0;
  while (kept < count && (kept == 0 || sum < mass)) sum += candidates[kept++].weight;
  return kept;
}

}  // namespace

const kernels::RowOps& best_row_ops() {
  const platform::IsaSet isa = platform::detect_isa();
  const auto all = kernels::row_ops();
  const auto best = std::find_if(all.begin(), all.end(),
                                 [&](const auto& ops) { return isa.contains(ops.needs); });
  CHECK(best != all.end(), "the reference needs nothing");
  return *best;
}

Result<Sampler> Sampler::create(int32_t vocab, int32_t sampleable, int32_t max_rows,
                                int num_workers, const kernels::RowOps& ops) {
  Sampler sampler;
  sampler.vocab_ = vocab;
  sampler.sampleable_ = sampleable > 0 ? std::min(sampleable, vocab) : vocab;
  sampler.ops_ = &ops;
  // Parts are whole cache lines, so that workers do not share any.
  const auto part = [](size_t bytes) { return (bytes + 63) / 64 * 64; };
  const auto n = static_cast<size_t>(sampler.sampleable_);
  const size_t parts[] = {part(n * sizeof(Candidate)), part(n * sizeof(float)),
                          part(n * sizeof(int32_t)),
                          part(static_cast<size_t>(kernels::top_k_scratch_bytes(vocab))),
                          part(static_cast<size_t>(num_blocks(vocab)) * sizeof(double))};
  const size_t bytes = parts[0] + parts[1] + parts[2] + parts[3] + parts[4];
  MOESTRO_ASSIGN(sampler.memory_,
                 platform::Buffer::allocate(bytes * static_cast<size_t>(num_workers)));
  std::byte* next = sampler.memory_.data();
  const auto take = [&next](size_t size) { return std::exchange(next, next + size); };
  for (int i = 0; i < num_workers; ++i) {
    Scratch s{};
    s.candidates = reinterpret_cast<Candidate*>(take(parts[0]));
    s.row = reinterpret_cast<float*>(take(parts[1]));
    s.indices = reinterpret_cast<int32_t*>(take(parts[2]));
    s.top_k = take(parts[3]);
    s.block_sums = reinterpret_cast<double*>(take(parts[4]));
    sampler.scratch_.push_back(s);
  }
  sampler.logprobs_.resize(static_cast<size_t>(max_rows) * kLogprobsStride);
  return sampler;
}

void Sampler::run(std::span<const SampleTask> tasks, SampleResult* results,
                  platform::Worker& worker) noexcept {
  Scratch& scratch = scratch_[static_cast<size_t>(worker.index())];
  worker.start_tickets();
  for (size_t i; (i = static_cast<size_t>(worker.take_ticket())) < tasks.size();)
    results[i] = sample(tasks[i], &logprobs_[i * kLogprobsStride], scratch);
}

SampleResult Sampler::sample(const SampleTask& task, TokenLogprob* logprobs,
                             Scratch& scratch) const noexcept {
  SampleResult result;
  if (task.sampling == nullptr && task.given_token < 0) return result;
  const kernels::LogitsStats raw = ops_->logits_stats(task.logits, vocab_);
  if (!std::isfinite(raw.max) || any_nan(task.logits, vocab_)) {
    result.outcome = SampleOutcome::kBadLogits;
    return result;
  }
  if (task.sampling == nullptr) {
    result.token = task.given_token;
  } else {
    const float* row = task.logits;
    const bool edits = task.sampling->edits(task.output_idx);
    if (edits) {
      std::copy(row, row + sampleable_, scratch.row);
      task.sampling->edit(scratch.row, sampleable_, task.output_idx);
      row = scratch.row;
    }
    // Without edits the pass over the raw row has found the greedy choice already.
    if (task.sampling->greedy() && !edits && raw.argmax < sampleable_)
      result.token = raw.argmax;
    else
      result.token = draw(*task.sampling, task.output_idx, row, scratch);
    if (result.token < 0) {
      result.outcome = SampleOutcome::kNoneAllowed;
      return result;
    }
  }
  if (task.num_logprobs >= 0) list_logprobs(task, raw, result, logprobs, scratch);
  return result;
}

// -1: every token is masked.
int32_t Sampler::draw(const SamplingState& sampling, int32_t output_idx, const float* row,
                      Scratch& scratch) const noexcept {
  const SamplingParams& params = sampling.params();
  const kernels::LogitsStats stats = ops_->logits_stats(row, sampleable_);
  if (stats.max == kMinusInfinity) return -1;
  if (sampling.greedy()) return stats.argmax;
  const double u = uniform(sampling.seed(), static_cast<uint64_t>(output_idx));
  const bool filters = params.min_p > 0 || (params.top_k > 0 && params.top_k < sampleable_);
  if (!filters && params.top_p >= 1)
    return draw_unfiltered(row, stats.max, scale_of(params), u, scratch);

  const int32_t count =
      filters ? filter(params, row, stats.max, scratch) : nucleus(params, row, stats.max, scratch);
  const Candidate* candidates = scratch.candidates;
  double total = 0;
  for (int32_t i = 0; i < count; ++i) total += candidates[i].weight;
  double rest = u * total;
  int32_t last = -1;  // rounding may leave a rest after the last token that has any weight
  for (int32_t i = 0; i < count && (last < 0 || rest >= 0); ++i) {
    if (candidates[i].weight <= 0) continue;
    rest -= candidates[i].weight;
    last = candidates[i].id;
  }
  return last;
}

int32_t Sampler::draw_unfiltered(const float* row, float max, float scale, double u,
                                 Scratch& scratch) const noexcept {
  const int32_t blocks = num_blocks(sampleable_);
  double total = 0;
  for (int32_t b = 0; b < blocks; ++b) {
    const int32_t n = std::min(kBlock, sampleable_ - b * kBlock);
    scratch.block_sums[b] = ops_->sum_exp(row + b * kBlock, n, max, scale, kMinusInfinity);
    total += scratch.block_sums[b];
  }
  double rest = u * total;
  int32_t block = 0;
  while (block + 1 < blocks && rest >= scratch.block_sums[block])
    rest -= scratch.block_sums[block++];
  const auto weight = [&](int32_t i) {
    return std::exp((static_cast<double>(row[i]) - max) * static_cast<double>(scale));
  };
  int32_t last = -1;
  for (int32_t i = block * kBlock; i < sampleable_ && (last < 0 || rest >= 0); ++i) {
    const double w = weight(i);
    if (w <= 0) continue;
    rest -= w;
    last = i;
  }
  // Rounding may carry the draw behind the last token that has any weight: then that one is meant.
  for (int32_t i = block * kBlock - 1; last < 0; --i)
    if (weight(i) > 0) last = i;
  return last;
}

// The tokens in scratch.indices become candidates with weights.
int32_t Sampler::collect(const float* row, int32_t count, float max, double temperature,
                         Scratch& scratch) const noexcept {
  for (int32_t i = 0; i < count; ++i) {
    const int32_t id = scratch.indices[i];
    const double distance = static_cast<double>(row[id]) - static_cast<double>(max);
    scratch.candidates[i] = {std::exp(distance / temperature), row[id], id};
  }
  return count;
}

// Candidates that pass min_p and top_k, and of these top_p's share.
int32_t Sampler::filter(const SamplingParams& params, const float* row, float max,
                        Scratch& scratch) const noexcept {
  // p >= min_p * p_max, in logits.
  const auto threshold = params.min_p > 0
                             ? static_cast<float>(max + params.temperature * std::log(params.min_p))
                             : kMinusInfinity;
  int32_t count;
  if (params.top_k > 0 && params.top_k < sampleable_) {
    count = ops_->top_k(row, sampleable_, params.top_k, scratch.indices, scratch.top_k);
    const auto end = std::remove_if(scratch.indices, scratch.indices + count, [&](int32_t id) {
      return row[id] < threshold && row[id] < max;
    });
    count = static_cast<int32_t>(end - scratch.indices);
  } else {
    count = ops_->gather_above(row, sampleable_, std::min(threshold, max), scratch.indices,
                               sampleable_);
  }
  collect(row, count, max, params.temperature, scratch);
  if (params.top_p >= 1) return count;
  double total = 0;
  for (int32_t i = 0; i < count; ++i) total += scratch.candidates[i].weight;
  std::sort(scratch.candidates, scratch.candidates + count, kBetter);
  return cut_at_mass(scratch.candidates, count, params.top_p * total);
}

// top_p alone. The share is usually a few tokens near the maximum: looks there first, then further
// down, at last everywhere.
int32_t Sampler::nucleus(const SamplingParams& params, const float* row, float max,
                         Scratch& scratch) const noexcept {
  const float scale = scale_of(params);
  const double total = ops_->sum_exp(row, sampleable_, max, scale, kMinusInfinity);
  const double mass = params.top_p * total;
  float threshold = kMinusInfinity;
  for (const double depth : {5.0, 8.0, 12.0, 18.0}) {
    const auto candidate = static_cast<float>(max - depth * params.temperature);
    // A little more than the share, so that rounding cannot make the candidates too few.
    if (ops_->sum_exp(row, sampleable_, max, scale, candidate) < mass + 1e-6 * total) continue;
    threshold = candidate;
    break;
  }
  int32_t count = ops_->gather_above(row, sampleable_, threshold, scratch.indices, sampleable_);
  collect(row, count, max, params.temperature, scratch);
  std::sort(scratch.candidates, scratch.candidates + count, kBetter);
  return cut_at_mass(scratch.candidates, count, mass);
}

void Sampler::list_logprobs(const SampleTask& task, const kernels::LogitsStats& stats,
                            SampleResult& result, TokenLogprob* out,
                            Scratch& scratch) const noexcept {
  const float* row = task.logits;
  const double normalizer = stats.max + std::log(stats.sum_exp);
  const auto logprob = [&](int32_t id) { return static_cast<float>(row[id] - normalizer); };
  out[0] = {result.token, logprob(result.token), rank_of(row, sampleable_, result.token)};
  int32_t count = 0;
  if (task.num_logprobs > 0)
    count = ops_->top_k(row, sampleable_, task.num_logprobs, scratch.indices, scratch.top_k);
  std::sort(scratch.indices, scratch.indices + count,
            [row](int32_t a, int32_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
  for (int32_t i = 0; i < count; ++i)
    out[i + 1] = {scratch.indices[i], logprob(scratch.indices[i]), i + 1};
  result.logprobs = {out, static_cast<size_t>(count) + 1};
}

}  // namespace moestro::engine
