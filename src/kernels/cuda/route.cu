#include "kernels/cuda/route.cuh"

#include <cuda_bf16.h>

#include <cfloat>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/bulk_copy.cuh"
#include "kernels/cuda/quantize.cuh"

namespace moestro::kernels::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kPerLane = kMaxDeviceExperts / 32;
constexpr unsigned kAll = 0xffffffffu;

struct RouteParams {
  DeviceMoeArgs in;
  MoeWorkspace w;
  DeviceRouter router;
  int32_t max_tokens, experts, top_k, hidden, hidden_steps, row_tile;
};

struct Best {
  float value;
  int32_t id;
};
__device__ bool better(Best a, Best b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}
__device__ Best warp_best(Best mine) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const Best other{__shfl_xor_sync(kAll, mine.value, d), __shfl_xor_sync(kAll, mine.id, d)};
    if (better(other, mine)) mine = other;
  }
  return mine;
}
__device__ float warp_sum(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(kAll, v, d);
  return v;
}
__device__ float warp_max(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(kAll, v, d));
  return v;
}

// Lane l holds experts l, l + 32, …: value v[i] is expert 32 i + l.
// Excluded groups' choices become -inf.
__device__ void limit_groups(const RouteParams& p, float (&choice)[kPerLane], int lane) {
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
      const float f = __shfl_xor_sync(kAll, first, d), s = __shfl_xor_sync(kAll, second, d);
      second = fmaxf(fmaxf(second, s), fminf(first, f));
      first = fmaxf(first, f);
    }
    if (lane == g) group_score = p.router.noaux_tc && size > 1 ? first + second : first;
  }
  uint32_t kept = 0;
  for (int j = 0; j < p.router.topk_group; ++j) {
    const bool open = lane < p.router.n_group && !(kept >> lane & 1);
    const Best b = warp_best({open ? group_score : -INFINITY, open ? lane : 32 + lane});
    kept |= 1u << (b.id & 31);
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = 32 * i + lane;
    if (e < p.experts && !(kept >> (e / size) & 1)) choice[i] = -INFINITY;
  }
}

__device__ void scores_of(const RouteParams& p, const float* logits, int lane,
                          float (&score)[kPerLane]) {
  float max = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = 32 * i + lane;
    score[i] = e < p.experts ? logits[e] : -INFINITY;
    max = fmaxf(max, score[i]);
  }
  if (p.router.softmax_after_topk) return;
  if (p.router.sigmoid) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) score[i] = 1.0f / (1.0f + expf(-score[i]));
    return;
  }
  max = warp_max(max);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (32 * i + lane < p.experts) sum += score[i] = expf(score[i] - max);
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) score[i] /= sum;
}

// One warp chooses the experts of one token; lane j < top_k writes slot j.
__device__ void choose_experts(const RouteParams& p, int token, int lane) {
  float score[kPerLane], choice[kPerLane];
  scores_of(p, p.in.logits + int64_t{token} * p.experts, lane, score);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = 32 * i + lane;
    choice[i] = score[i] + (p.in.bias && e < p.experts ? p.in.bias[e] : 0.0f);
    if (choice[i] != choice[i]) choice[i] = -INFINITY;  // NaN ranks last
  }
  if (p.router.n_group > 1 && p.router.topk_group < p.router.n_group) limit_groups(p, choice, lane);
  uint32_t used = 0;
  int32_t id = 0;
  float weight = 0;
  for (int j = 0; j < p.top_k; ++j) {
    Best mine{-INFINITY, INT32_MAX};
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const Best candidate{choice[i], 32 * i + lane};
      if (candidate.id < p.experts && !(used >> i & 1) && better(candidate, mine)) mine = candidate;
    }
    const Best b = warp_best(mine);
    float found = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (b.id == 32 * i + lane) {
        used |= 1u << i;
        found = score[i];
      }
    }
    found = __shfl_sync(kAll, found, b.id & 31);
    if (lane == j) {
      id = b.id;
      weight = found;
    }
  }
  const bool slot = lane < p.top_k;
  if (p.router.softmax_after_topk) {
    const float max = warp_max(slot ? weight : -INFINITY);
    weight = slot ? expf(weight - max) : 0.0f;
    weight /= warp_sum(weight);
  }
  float factor = p.router.scaling;
  if (p.router.renormalize) factor /= warp_sum(slot ? weight : 0.0f) + 1e-20f;
  if (slot) {
    p.w.ids[int64_t{token} * p.top_k + lane] = id;
    p.w.weights[int64_t{token} * p.top_k + lane] = weight * factor;
  }
}

// x of one token to int8 by `team` neighbouring warps; all warps of the block call it together when
// team > 1.
__device__ void quantize_token(const RouteParams& p, int token, int team, bool active,
                               float* warp_amax) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, member = warp % team;
  const uint4* x = reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(p.in.x) +
                                                  int64_t{token} * p.hidden);
  const int chunks = p.hidden / 8, padded = p.hidden_steps * (kStepBytes / 8);
  float amax = 0;
  if (active) {
#pragma unroll 8
    for (int c = member * 32 + lane; c < chunks; c += 32 * team) amax = fmaxf(amax, absmax8(x[c]));
  }
  amax = warp_max(amax);
  if (team > 1) {
    if (lane == 0) warp_amax[warp] = amax;
    __syncthreads();
    for (int i = 0; i < team; ++i) amax = fmaxf(amax, warp_amax[warp - member + i]);
    __syncthreads();
  }
  if (!active) return;
  const float scale = amax / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
  if (member == 0 && lane == 0) p.w.token_scale[token] = scale;
  uint2* q = reinterpret_cast<uint2*>(p.w.x_tokens + int64_t{token} * p.hidden_steps * kStepBytes);
#pragma unroll 4
  for (int c = member * 32 + lane; c < padded; c += 32 * team)
    q[c] = c < chunks ? quantize8(x[c], inverse) : make_uint2(0, 0);
}

// Ranks of this block's pairs among the pairs of their expert, in pair order; counts end in
// `count`. One warp.
__device__ void rank_pairs(const RouteParams& p, int64_t begin, int64_t end, int32_t* count) {
  const int lane = threadIdx.x % 32;
  for (int64_t base = begin; base < end; base += 32) {
    const int64_t pair = base + lane;
    int32_t e = pair < end ? p.w.ids[pair] : -1;
    const bool valid = e >= 0 && e < p.experts;
    if (!valid) e = -1 - lane;
    const uint32_t same = __match_any_sync(kAll, e);
    const int before = __popc(same & ((1u << lane) - 1));
    const int32_t first = valid ? count[e] : 0;
    __syncwarp();
    if (valid && before == 0) count[e] = first + __popc(same);
    __syncwarp();
    if (pair < end) p.w.pair_rank[pair] = valid ? first + before : -1;
  }
}

// All `blocks` blocks meet; the counters are zero again afterwards. The spin is bounded: a block
// that never comes is a bug.
__device__ void grid_barrier(uint32_t* state, uint32_t blocks) {
  __syncthreads();
  if (threadIdx.x == 0 && blocks > 1) {
    volatile uint32_t* generation = state + 1;
    const uint32_t before = *generation;
    __threadfence();
    if (atomicAdd(state, 1) == blocks - 1) {
      state[0] = 0;
      __threadfence();
      atomicAdd(state + 1, 1);
    } else {
      for (uint32_t spins = 0; *generation == before; ++spins) {
        if (spins > 100'000'000u) __trap();
      }
    }
    __threadfence();
  }
  __syncthreads();
}

// Sums the histograms of all blocks: rows of each expert, rows before this block, first tile.
__device__ void scan_experts(const RouteParams& p, int blocks, int32_t* rows, int32_t* before,
                             int32_t* tile_start) {
  for (int e = threadIdx.x; e < p.experts; e += kThreads) {
    int32_t all = 0, mine = 0;
#pragma unroll 8
    for (int b = 0; b < blocks; ++b) {
      const int32_t n = __ldcg(p.w.block_histogram + int64_t{b} * p.experts + e);
      all += n;
      mine += b < static_cast<int>(blockIdx.x) ? n : 0;
    }
    rows[e] = all;
    before[e] = mine;
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    int32_t carry = 0;
    for (int base = 0; base < p.experts; base += 32) {
      const int e = base + static_cast<int>(threadIdx.x);
      const int32_t tiles = e < p.experts ? ceil_div(rows[e], p.row_tile) : 0;
      int32_t sum = tiles;
#pragma unroll
      for (int d = 1; d < 32; d *= 2) {
        const int32_t v = __shfl_up_sync(kAll, sum, d);
        if (static_cast<int>(threadIdx.x) >= d) sum += v;
      }
      if (e < p.experts) tile_start[e] = carry + sum - tiles;
      carry += __shfl_sync(kAll, sum, 31);
    }
    if (threadIdx.x == 0) tile_start[p.experts] = carry;
  }
  __syncthreads();
}

// Copies the quantised x of one pair to its grouped row. One warp.
__device__ void place_pair(const RouteParams& p, int64_t pair, int token, int64_t row) {
  const int lane = threadIdx.x % 32;
  if (lane == 0) {
    p.w.pair_row[pair] = static_cast<int32_t>(row);
    if (row >= 0) p.w.x_scale[row] = p.w.token_scale[token];
  }
  if (row < 0) return;
  const uint4* src =
      reinterpret_cast<const uint4*>(p.w.x_tokens + int64_t{token} * p.hidden_steps * kStepBytes);
  const int64_t tile = row / p.row_tile;
  const int in_tile = static_cast<int>(row % p.row_tile), tile_bytes = p.row_tile * kStepBytes;
  int8_t* dst = p.w.x_rows + tile * p.hidden_steps * tile_bytes;
#pragma unroll 12
  for (int c = lane; c < p.hidden_steps * 8; c += 32)
    *reinterpret_cast<uint4*>(dst + int64_t{c / 8} * tile_bytes +
                              swizzled_offset(in_tile, c % 8 * 16)) = src[c];
}

__global__ void __launch_bounds__(kThreads) route_kernel(const __grid_constant__ RouteParams p) {
  __shared__ int32_t rows[kMaxDeviceExperts], before[kMaxDeviceExperts],
      tile_start[kMaxDeviceExperts + 1];
  __shared__ float warp_amax[kWarps];
  ptx::wait_for_previous_kernel();
  ptx::allow_next_kernel();
  const int tokens = max(0, min(*p.in.num_tokens, p.max_tokens));
  const int blocks = max(1, min(static_cast<int>(gridDim.x), ceil_div(tokens, 2)));
  if (static_cast<int>(blockIdx.x) >= blocks) return;
  const int share = ceil_div(tokens, blocks);
  const int begin = min(tokens, static_cast<int>(blockIdx.x) * share),
            end = min(tokens, begin + share);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  int32_t* count = rows;  // until the scan
  for (int e = threadIdx.x; e < p.experts; e += kThreads) count[e] = 0;
  const int team = share == 1 ? kWarps : share <= 4 ? kWarps / 4 : 1, teams = kWarps / team;
  for (int first = begin; first < end; first += teams) {
    const int token = first + warp / team;
    if (token < end && warp % team == 0) {
      if (p.in.logits) {
        choose_experts(p, token, lane);
      } else if (lane < p.top_k) {
        const int64_t pair = int64_t{token} * p.top_k + lane;
        p.w.ids[pair] = p.in.ids[pair];
        p.w.weights[pair] = p.in.weights[pair];
      }
    }
    quantize_token(p, min(token, end - 1), team, token < end, warp_amax);
  }
  __syncthreads();
  const int64_t first_pair = int64_t{begin} * p.top_k, last_pair = int64_t{end} * p.top_k;
  if (warp == 0) rank_pairs(p, first_pair, last_pair, count);
  __syncthreads();
  for (int e = threadIdx.x; e < p.experts; e += kThreads)
    p.w.block_histogram[int64_t{blockIdx.x} * p.experts + e] = count[e];
  grid_barrier(p.w.barrier, static_cast<uint32_t>(blocks));
  scan_experts(p, blocks, rows, before, tile_start);
  if (blockIdx.x == 0) {
    for (int e = threadIdx.x; e <= p.experts; e += kThreads) {
      p.w.tile_start[e] = tile_start[e];
      if (e < p.experts) p.w.expert_rows[e] = rows[e];
    }
  }
  for (int64_t pair = first_pair + warp; pair < last_pair; pair += kWarps) {
    const int32_t e = p.w.ids[pair], rank = p.w.pair_rank[pair];
    const int64_t row = rank < 0 ? -1 : int64_t{tile_start[e]} * p.row_tile + before[e] + rank;
    place_pair(p, pair, static_cast<int>(pair / p.top_k), row);
  }
}

}  // namespace

int32_t route_grid(const DeviceMoeShape& s, int32_t num_sms) {
  return std::max(1, std::min(num_sms, ceil_div(s.max_tokens, 2)));
}

Status launch_route(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeArgs& args,
                    const MoeWorkspace& w, CUstream_st* stream) {
  const MoeSizes z = moe_sizes(s);
  RouteParams p{args,    w,        s.router,       s.max_tokens, s.experts,
                s.top_k, s.hidden, z.hidden_steps, z.row_tile};
  return launch_dependent("route", route_kernel, route_grid(s, num_sms), kThreads, 0, stream, p);
}

}  // namespace moestro::kernels::cuda
