// One warp chooses the experts of one token: scores, group limit, top-k, weights. Formulas:
// moe/router.h. Called by route.cu and by the decode kernel. Device code only.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/cuda/moe_layer.h"

namespace moestro::kernels::cuda {

constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(kWholeWarp, v, d);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(kWholeWarp, v, d));
  return v;
}

// Unsigned keys in the order of the floats; above 0 for every one of them, NaN lowest.
__device__ __forceinline__ uint32_t ordered_key(float v) {
  const uint32_t bits = __float_as_uint(v);
  if (v != v) return 1;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct ScoreRules {
  DeviceRouter router;
  int32_t experts, top_k;
};

// Lane l holds experts l, l + 32, …: element i is expert 32 i + l. Choices of excluded groups
// become -inf.
// Out of line: the usual path stays short, and its instructions are fetched cold.
template <int kPerLane>
__device__ __noinline__ void limit_groups(const ScoreRules& p, float (&choice)[kPerLane],
                                          int lane) {
  const int size = p.experts / p.router.n_group;
  float group_score = -INFINITY;  // of group `lane`
  for (int g = 0; g < p.router.n_group; ++g) {
    float first = -INFINITY, second = -INFINITY;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int e = 32 * i + lane;
      if (e < p.experts && e / size == g) {
        second = fmaxf(second, fminf(first, choice[i]));
        first = fmaxf(first, choice[i]);
      }
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
      const float f = __shfl_xor_sync(kWholeWarp, first, d),
                  s = __shfl_xor_sync(kWholeWarp, second, d);
      second = fmaxf(fmaxf(second, s), fminf(first, f));
      first = fmaxf(first, f);
    }
    if (lane == g) group_score = p.router.noaux_tc && size > 1 ? first + second : first;
  }
  uint32_t kept = 0;
  for (int j = 0; j < p.router.topk_group; ++j) {
    const bool open = lane < p.router.n_group && !(kept >> lane & 1);
    const uint32_t key = open ? ordered_key(group_score) : 0;
    const uint32_t best = __reduce_max_sync(kWholeWarp, key);
    kept |= 1u << (__ffs(static_cast<int>(__ballot_sync(kWholeWarp, key == best))) - 1);
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = 32 * i + lane;
    if (e < p.experts && !(kept >> (e / size) & 1)) choice[i] = -INFINITY;
  }
}

// Of all experts' logits: the largest, and the sum of exp(logit - largest); 0 and 1 where scores do
// not need them.
struct Softmax {
  float most = 0, sum = 1;
};
template <int kPerLane>
__device__ __forceinline__ Softmax softmax_of(const DeviceRouter& r,
                                              const float (&logit)[kPerLane]) {
  Softmax s;
  if (r.sigmoid || r.softmax_after_topk) return s;
  s.most = logit[0];
#pragma unroll
  for (int i = 1; i < kPerLane; ++i) s.most = fmaxf(s.most, logit[i]);
  s.most = warp_max(s.most);
  s.sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) s.sum += __expf(logit[i] - s.most);
  s.sum = warp_sum(s.sum);
  return s;
}
__device__ __forceinline__ float score_of(const DeviceRouter& r, float logit, Softmax s) {
  if (r.softmax_after_topk) return logit;
  return r.sigmoid ? 1.0f / (1.0f + __expf(-logit)) : __expf(logit - s.most) / s.sum;
}

template <int kPerLane>
__device__ __forceinline__ void load_logits(const ScoreRules& p, const float* logits, int lane,
                                            float (&logit)[kPerLane]) {
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = 32 * i + lane;
    logit[i] = e < p.experts ? logits[e] : -INFINITY;
  }
}

// What decides where logits alone do not: scores with bias, groups limited. Logits become choices.
template <int kPerLane>
__device__ __noinline__ void make_choices(const ScoreRules& p, const float* bias, int lane,
                                          float (&logit)[kPerLane]) {
  const Softmax s = softmax_of(p.router, logit);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = 32 * i + lane;
    logit[i] = score_of(p.router, logit[i], s) + (bias && e < p.experts ? bias[e] : 0.0f);
  }
  if (p.router.n_group > 1 && p.router.topk_group < p.router.n_group) limit_groups(p, logit, lane);
}

// The expert of slot j in lane j < top_k.
template <int kPerLane>
__device__ __forceinline__ int32_t choose_experts(const ScoreRules& p, const float* logits,
                                                  const float* bias, int lane) {
  float choice[kPerLane];
  load_logits(p, logits, lane, choice);
  // Scores grow with logits, so without bias and groups the logits decide.
  if (bias || (p.router.n_group > 1 && p.router.topk_group < p.router.n_group))
    make_choices(p, bias, lane, choice);
  uint32_t key[kPerLane];  // 0: not to be chosen
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    key[i] = 32 * i + lane < p.experts ? ordered_key(choice[i]) : 0;
  int32_t my_id = 0;
  for (int j = 0; j < p.top_k; ++j) {
    uint32_t mine = key[0];
#pragma unroll
    for (int i = 1; i < kPerLane; ++i) mine = max(mine, key[i]);
    int32_t id = 0;  // the lowest of this lane's best
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; --i)
      if (key[i] == mine) id = 32 * i + lane;
    const uint32_t best = __reduce_max_sync(kWholeWarp, mine);
    id = __reduce_min_sync(kWholeWarp, mine == best ? id : INT32_MAX);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (id == 32 * i + lane) key[i] = 0;
    if (lane == j) my_id = id;
  }
  return my_id;
}

struct Slot {  // of lane j < top_k: slot j
  int32_t id;
  float weight;
};

template <int kPerLane>
__device__ Slot weigh_experts(const ScoreRules& p, const float* logits, const float* bias,
                              int lane) {
  float logit[kPerLane];
  load_logits(p, logits, lane, logit);
  const Softmax softmax = softmax_of(p.router, logit);
  const int32_t id = choose_experts<kPerLane>(p, logits, bias, lane);
  const bool used = lane < p.top_k;
  Slot slot{id, used ? score_of(p.router, logits[id], softmax) : 0.0f};
  if (p.router.softmax_after_topk) {
    const float largest = warp_max(used ? slot.weight : -INFINITY);
    slot.weight = used ? expf(slot.weight - largest) : 0.0f;
    slot.weight /= warp_sum(slot.weight);
  }
  float factor = p.router.scaling;
  if (p.router.renormalize) factor /= warp_sum(used ? slot.weight : 0.0f) + 1e-20f;
  slot.weight *= factor;
  return slot;
}

// The expert of slot j in lane j < top_k of `token`, from logits or as given.
__device__ inline int32_t id_of_token(const ScoreRules& p, const DeviceMoeArgs& in, int64_t token,
                                      int lane) {
  if (in.logits) {
    const float* logits = in.logits + token * p.experts;
    if (p.experts <= 128) return choose_experts<4>(p, logits, in.bias, lane);
    if (p.experts <= 256) return choose_experts<8>(p, logits, in.bias, lane);
    return choose_experts<kMaxDeviceExperts / 32>(p, logits, in.bias, lane);
  }
  return lane < p.top_k ? in.ids[token * p.top_k + lane] : -1;
}

// The slot of lane j < top_k of `token`, from logits or as given.
__device__ inline Slot slot_of_token(const ScoreRules& p, const DeviceMoeArgs& in, int64_t token,
                                     int lane) {
  if (in.logits) {
    const float* logits = in.logits + token * p.experts;
    if (p.experts <= 128) return weigh_experts<4>(p, logits, in.bias, lane);
    if (p.experts <= 256) return weigh_experts<8>(p, logits, in.bias, lane);
    return weigh_experts<kMaxDeviceExperts / 32>(p, logits, in.bias, lane);
  }
  if (lane >= p.top_k) return {-1, 0};
  return {in.ids[token * p.top_k + lane], in.weights[token * p.top_k + lane]};
}

}  // namespace moestro::kernels::cuda
