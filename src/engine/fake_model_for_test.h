// A deterministic model for the engine's tests. Its logits are a function of the whole token
// history of a sequence, which it reads back through the paged KV cache, so a wrong block table,
// slot, position or a page used twice changes them (or is counted in errors()).
#pragma once
#include <atomic>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "models/model.h"
#include "tensor/numeric.h"

namespace moestro::engine {

struct FakeModelOptions {
  int32_t vocab = 101;
  models::ModelLimits limits{256, 256, 4096};
  int32_t nan_after = -1;  // histories that end with this token have NaN logits
  std::function<void(const kernels::StepInput&)> on_step;  // on the engine thread, before the step
};

class FakeModel final : public models::Model {
 public:
  explicit FakeModel(FakeModelOptions options, std::atomic<int>* errors = nullptr)
      : options_(std::move(options)), errors_(errors) {}

  int32_t vocab_size() const override { return options_.vocab; }
  std::vector<models::LayerKvWidths> kv_widths() const override { return {{2, 1, 0}, {0, 0, 1}}; }
  const models::ModelLimits& limits() const override { return options_.limits; }

  static uint64_t extend(uint64_t hash, int32_t token) {
    return mix(hash * 31 + static_cast<uint64_t>(token) + 1);
  }
  static uint64_t hash_of(std::span<const int32_t> history) {
    uint64_t hash = 7;
    for (const int32_t token : history) hash = extend(hash, token);
    return hash;
  }
  // In [-6, 6), different for nearly all ids.
  static float logit(uint64_t hash, int32_t id) {
    const uint64_t bits = mix(hash ^ mix(static_cast<uint64_t>(id) + 99));
    return static_cast<float>(bits >> 40) * (12.0f / 16777216.0f) - 6.0f;
  }
  static std::vector<float> logits_after(std::span<const int32_t> history, int32_t vocab) {
    std::vector<float> row;
    for (int32_t id = 0; id < vocab; ++id) row.push_back(logit(hash_of(history), id));
    return row;
  }

  void forward(const kernels::StepInput& step, const kernels::KvView& kv, float* logits,
               platform::Worker& worker) noexcept override {
    if (worker.index() == 0 && options_.on_step) options_.on_step(step);
    const auto [begin, end] = worker.share(step.num_tokens);
    for (auto t = static_cast<int32_t>(begin); t < end; ++t) {
      const int32_t id = step.token_ids[t], p = step.positions[t];
      put(step, kv.layers[0].key, t, p, 0, id & 255);
      put(step, kv.layers[0].key, t, p, 1, id >> 8);
      put(step, kv.layers[0].value, t, p, 0, p & 255);
      put(step, kv.layers[1].index, t, p, 0, p >> 8);
      const int32_t seq = step.token_seq[t];
      if (t < step.query_start[seq] || t >= step.query_start[seq + 1]) error();
      if (t > step.query_start[seq] && p != step.positions[t - 1] + 1) error();
    }
    worker.barrier();
    const auto [first_row, last_row] = worker.share(step.num_logits_rows);
    for (auto r = static_cast<int32_t>(first_row); r < last_row; ++r)
      write_row(step, kv, step.logits_rows[r], logits + static_cast<int64_t>(r) * options_.vocab);
  }

 private:
  static uint64_t mix(uint64_t x) {  // splitmix64's finaliser (Steele, Lea, Flood 2014)
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  static std::byte* at(const kernels::StepInput& step, const tensor::PagedView& v, int32_t t,
                       int32_t p) {
    return v.row(step.block_of(t, p, v.page_size), p % v.page_size);
  }
  static void put(const kernels::StepInput& step, const tensor::PagedView& v, int32_t t, int32_t p,
                  int32_t i, int32_t value) {
    const auto x = static_cast<float>(value);
    if (v.dtype == DType::kF32)
      reinterpret_cast<float*>(at(step, v, t, p))[i] = x;
    else
      reinterpret_cast<Bf16*>(at(step, v, t, p))[i] = to_bf16(x);
  }
  static int32_t get(const kernels::StepInput& step, const tensor::PagedView& v, int32_t t,
                     int32_t p, int32_t i) {
    const std::byte* row = at(step, v, t, p);
    return static_cast<int32_t>(v.dtype == DType::kF32
                                    ? reinterpret_cast<const float*>(row)[i]
                                    : to_float(reinterpret_cast<const Bf16*>(row)[i]));
  }
  void write_row(const kernels::StepInput& step, const kernels::KvView& kv, int32_t t, float* row) {
    uint64_t hash = 7;
    int32_t id = -1;
    for (int32_t p = 0; p <= step.positions[t]; ++p) {
      id = get(step, kv.layers[0].key, t, p, 0) | get(step, kv.layers[0].key, t, p, 1) << 8;
      hash = extend(hash, id);
      const int32_t stored =
          get(step, kv.layers[0].value, t, p, 0) | get(step, kv.layers[1].index, t, p, 0) << 8;
      if (stored != p) error();
    }
    if (id != step.token_ids[t]) error();
    for (int32_t v = 0; v < options_.vocab; ++v) row[v] = logit(hash, v);
    if (id == options_.nan_after) row[options_.vocab / 2] = std::numeric_limits<float>::quiet_NaN();
  }
  void error() {
    if (errors_ != nullptr) ++*errors_;
  }

  const FakeModelOptions options_;
  std::atomic<int>* errors_;
};

}  // namespace moestro::engine
