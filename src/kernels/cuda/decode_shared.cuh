// Shared memory, parameters and in-kernel routing of the decode kernel. Device code only.
#pragma once
#include "kernels/cuda/decode_schedule.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/ptx/bulk_copy.cuh"
#include "kernels/cuda/topk.cuh"

namespace moestro::kernels::cuda {

constexpr int kDecodeThreads = 384, kMathThreads = 256, kQuantiseWarps = 3;
template <class F>
constexpr int kMostStages = F::kInt4 ? 16 : 6;
// Stages requested and not yet landed: enough to fill the memory's queue, few enough that all SMs
// get equal shares of a short stream and that other loads do not wait behind it.
template <class F>
constexpr int kInFlight = F::kInt4 ? 8 : 2;
constexpr int kMathBarrier = 1, kRouteBarrier = 2, kRoutedBarrier = 3;

struct DecodeParams {
  const std::byte* weights[2];
  const float* weight_scales[2];
  MoeWorkspace w;
  DeviceMoeArgs in;
  ScoreRules rules;
  int32_t max_tokens, hidden, blocks[2], k_steps[2], h_stride, stages;
  int64_t rows;  // of the workspace
};

constexpr int kMostHits = kResidentTokens * kMaxDeviceTopK;

// Results of routing in the kernel. Groups are the experts that were hit; row 8 g + n belongs to
// token n.
struct Resident {
  int32_t expert[kMostHits];      // of a group
  uint32_t tokens_of[kMostHits];  // bit n: token n goes to this group
  int32_t pair_id[kMostHits];     // expert of (token, slot)
  int32_t pair_group[kMostHits];  // -1: none
  float pair_weight[kMostHits];
  uint32_t hit_bits[kMaxDeviceExperts / 32];
  int32_t hits_before[kMaxDeviceExperts / 32];
  int32_t groups, tokens;
  uint32_t set;  // of h_set and h_scale_set
  float x_scale[kResidentTokens];
  float warp_absmax[kMathThreads / 32];
};
struct Grouped {
  int32_t tile_start[kMaxDeviceExperts + 1], start[kMaxDeviceExperts + 1], rows[kMaxDeviceExperts];
};

template <class F, int N, bool kResident>
struct DecodeShared {
  alignas(16) float weight_scales[2][F::kScaled ? kWeightScales<F> : 4];  // of item parity
  alignas(16) float row_scales[2][N];
  uint64_t landed[kMostStages<F>], empty[kMostStages<F>], scales_empty[2];
  uint64_t h_ready[kMostStages<F>];  // rows of h of a stage of down
  uint64_t up_over;                  // the last stage of gate_up has been read
  std::conditional_t<kResident, Resident, Grouped> map;
};

// Shared memory for operands: less where the scales need more.
template <class F>
constexpr int kOperandBytes = kDecodeSharedBytes - (F::kStepScales ? 2048 : 0);
// A stage: weights, then rows, whose tiles are aligned.
template <class F>
constexpr int kRowsAt = (F::kBlockStep + 1023) / 1024 * 1024;
template <class F, int N>
constexpr int kStageBytes = kRowsAt<F> + N* kStepBytes;

// One token: its slots are the groups. One warp.
__device__ inline void list_slots(const DecodeParams& p, Resident& m, int32_t id, int32_t tokens) {
  const int lane = threadIdx.x % 32;
  const bool hit = tokens == 1 && lane < p.rules.top_k && id >= 0 && id < p.rules.experts;
  const uint32_t hits = __ballot_sync(kWholeWarp, hit);
  const int g = __popc(hits & ((1u << lane) - 1));
  if (hit) {
    m.expert[g] = id;
    m.tokens_of[g] = 1;
  }
  m.pair_group[lane] = hit ? g : -1;
  if (lane == 0) {
    m.groups = __popc(hits);
    m.tokens = tokens;
  }
  __syncwarp();
}

// Several tokens: groups are the experts of any of them, ascending. One warp.
__device__ inline void list_experts(const DecodeParams& p, Resident& m, int32_t tokens) {
  const int lane = threadIdx.x % 32, top_k = p.rules.top_k, pairs = tokens * top_k;
  if (lane < kMaxDeviceExperts / 32) m.hit_bits[lane] = 0;
  __syncwarp();
  for (int i = lane; i < pairs; i += 32) {
    const int32_t e = m.pair_id[i];
    m.tokens_of[i] = 0;  // groups are at most as many as pairs
    if (e >= 0 && e < p.rules.experts) atomicOr(&m.hit_bits[e / 32], 1u << (e % 32));
  }
  __syncwarp();
  uint32_t bits = lane < kMaxDeviceExperts / 32 ? m.hit_bits[lane] : 0;
  int32_t through = __popc(bits);
#pragma unroll
  for (int d = 1; d < 16; d *= 2) {
    const int32_t v = __shfl_up_sync(kWholeWarp, through, d);
    if (lane >= d) through += v;
  }
  int32_t at = through - __popc(bits);
  if (lane < kMaxDeviceExperts / 32) m.hits_before[lane] = at;
  if (lane == kMaxDeviceExperts / 32 - 1) {
    m.groups = through;
    m.tokens = tokens;
  }
  for (; bits; bits &= bits - 1) m.expert[at++] = 32 * lane + __ffs(static_cast<int>(bits)) - 1;
  __syncwarp();
  for (int i = lane; i < pairs; i += 32) {
    const int32_t e = m.pair_id[i];
    int32_t g = -1;
    if (e >= 0 && e < p.rules.experts) {
      g = m.hits_before[e / 32] + __popc(m.hit_bits[e / 32] & ((1u << (e % 32)) - 1));
      atomicOr(&m.tokens_of[g], 1u << (i / top_k));
    }
    m.pair_group[i] = g;
  }
  __syncwarp();
}

// A warp a token, and all of the first four.
__device__ inline int routing_warps(const DecodeParams& p) {
  return p.max_tokens <= 4 ? 4 : kResidentTokens;
}

// Experts of every token, then the list of groups, complete after for warp 0. routing_warps.
__device__ inline void route_resident(const DecodeParams& p, Resident& m) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, top_k = p.rules.top_k;
  const int tokens = max(0, min(*p.in.num_tokens, p.max_tokens));
  if (p.max_tokens == 1) {
    // Warp 0 has weights to request as soon as it knows the experts; another warp sees to the rest.
    if (warp == 0) list_slots(p, m, id_of_token(p.rules, p.in, 0, lane), tokens);
    if (warp == 2) m.pair_weight[lane] = slot_of_token(p.rules, p.in, 0, lane).weight;
  } else {
    if (warp < tokens) {
      const Slot slot = slot_of_token(p.rules, p.in, warp, lane);
      if (lane < top_k) {
        m.pair_id[warp * top_k + lane] = slot.id;
        m.pair_weight[warp * top_k + lane] = slot.weight;
      }
    }
    ptx::named_barrier(kRouteBarrier, 32 * routing_warps(p));
    if (warp == 0) list_experts(p, m, tokens);
  }
  if (warp == 1 && lane == 0) {
    m.set = __ldcg(p.w.epoch) & 1;
    __threadfence();
    // The next launch uses the other set, once every block has read which one this uses.
    if (atomicAdd(p.w.epoch + 1, 1u) == gridDim.x - 1) {
      p.w.epoch[1] = 0;
      p.w.epoch[0] = m.set ^ 1;
    }
  }
}

// All of x to `rows`, operand tiles of 8 rows a step. The math threads, in teams of warps.
template <class F>
__device__ void quantise_resident(const DecodeParams& p, Resident& m, uint8_t* rows) {
  const int most = p.max_tokens, thread = static_cast<int>(threadIdx.x) - 128, warp = thread / 32,
            lane = thread % 32;
  const int team = most <= 1 ? 8 : most <= 2 ? 4 : most <= 4 ? 2 : 1;
  const int n = warp / team, at = warp % team * 32 + lane;
  const int loads = p.hidden / 8, pieces = p.k_steps[kUp] * (kStepBytes / 16);
  const uint4* from = reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(p.in.x) +
                                                     int64_t{n} * p.hidden);
  float absmax = 0;
  if (F::kScaled) {
    if (n < most) {
#pragma unroll 12
      for (int c = at; c < loads; c += 32 * team) absmax = fmaxf(absmax, absmax8(from[c]));
    }
    absmax = warp_max(absmax);
    if (lane == 0) m.warp_absmax[warp] = absmax;
    ptx::named_barrier(kMathBarrier, kMathThreads);
    for (int i = 0; i < team; ++i) absmax = fmaxf(absmax, m.warp_absmax[warp / team * team + i]);
  }
  const float scale = row_scale_of<F>(absmax), inverse = inverse_of(scale);
  if (n < most) {
    if (at == 0) m.x_scale[n] = scale;
#pragma unroll 6
    for (int c = at; c < pieces; c += 32 * team) {
      uint4 v[F::kLoads];
#pragma unroll
      for (int l = 0; l < F::kLoads; ++l)
        v[l] = c * F::kLoads + l < loads ? from[c * F::kLoads + l] : make_uint4(0, 0, 0, 0);
      *reinterpret_cast<uint4*>(rows + c / 8 * (8 * kStepBytes) + swizzled_offset(n, c % 8 * 16)) =
          F::piece(v, inverse);
    }
  }
  ptx::fence_shared_writes();
  ptx::named_barrier(kMathBarrier, kMathThreads);
}

}  // namespace moestro::kernels::cuda
