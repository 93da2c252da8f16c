#include "kernels/cuda/route.cuh"

#include <algorithm>

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/bulk_copy.cuh"
#include "kernels/cuda/topk.cuh"

namespace moestro::kernels::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;

struct RouteParams {
  DeviceMoeArgs in;
  MoeWorkspace w;
  ScoreRules rules;
  int32_t max_tokens, hidden, hidden_steps, row_tile;
};

// Ranks of this block's pairs among the pairs of their expert, in pair order; counts end in
// `count`. One warp.
__device__ void rank_pairs(const RouteParams& p, int64_t begin, int64_t end, int32_t* count) {
  const int lane = threadIdx.x % 32;
  for (int64_t base = begin; base < end; base += 32) {
    const int64_t pair = base + lane;
    int32_t e = pair < end ? p.w.ids[pair] : -1;
    const bool valid = e >= 0 && e < p.rules.experts;
    if (!valid) e = -1 - lane;
    const uint32_t same = __match_any_sync(kWholeWarp, e);
    const int before = __popc(same & ((1u << lane) - 1));
    const int32_t first = valid ? count[e] : 0;
    __syncwarp();
    if (valid && before == 0) count[e] = first + __popc(same);
    __syncwarp();
    if (pair < end) p.w.pair_rank[pair] = valid ? first + before : -1;
  }
}

// All `blocks` blocks meet; the counters are zero again afterwards. The launch is cooperative, so
// that all of them run; the spin is bounded, since one that never comes is a bug.
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

struct Experts {
  int32_t rows[kMaxDeviceExperts], before[kMaxDeviceExperts];  // rows, those of blocks before ours
  int32_t start[kMaxDeviceExperts + 1], tile_start[kMaxDeviceExperts + 1];
};

// Sums the histograms of all blocks: two neighbouring lanes an expert.
__device__ void sum_histograms(const RouteParams& p, int blocks, Experts& x) {
  const int half = threadIdx.x % 2, mine_is = static_cast<int>(blockIdx.x);
  for (int e = threadIdx.x / 2; e < kMaxDeviceExperts; e += kThreads / 2) {
    int32_t all = 0, before = 0;
    if (e < p.rules.experts) {
      const int32_t* of = p.w.block_histogram + int64_t{e} * blocks;
#pragma unroll 16
      for (int b = half; b < blocks; b += 2) {
        const int32_t n = __ldcg(of + b);
        all += n;
        before += b < mine_is ? n : 0;
      }
    }
    all += __shfl_xor_sync(kWholeWarp, all, 1);
    before += __shfl_xor_sync(kWholeWarp, before, 1);
    if (e < p.rules.experts && half == 0) {
      x.rows[e] = all;
      x.before[e] = before;
    }
  }
}

// First rows and first tiles by a running sum over the experts. Warp 0 rows, warp 1 tiles.
__device__ void scan_experts(const RouteParams& p, Experts& x) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp > 1) return;
  int32_t* to = warp == 0 ? x.start : x.tile_start;
  int32_t carry = 0;
  for (int base = 0; base < p.rules.experts; base += 32) {
    const int e = base + lane;
    const int32_t rows = e < p.rules.experts ? x.rows[e] : 0;
    const int32_t mine = warp == 0 ? (rows + 7) / 8 * 8 : ceil_div(rows, p.row_tile);
    int32_t sum = mine;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int32_t v = __shfl_up_sync(kWholeWarp, sum, d);
      if (lane >= d) sum += v;
    }
    if (e < p.rules.experts) to[e] = carry + sum - mine;
    carry += __shfl_sync(kWholeWarp, sum, 31);
  }
  if (lane == 0) to[p.rules.experts] = carry;
}

// Tokens first, first + step, … below `end`, one at a time a team of neighbouring warps: x in
// registers, to the rows of all its pairs; the next token is on its way meanwhile. Every team of
// the block makes `rounds` rounds.
template <class F, int kTeam>
__device__ void place_tokens(const RouteParams& p, const Experts& x, int first, int step, int end,
                             int rounds, float* warp_absmax) {
  constexpr int kLanes = 32 * kTeam;
  constexpr int kPieceValues = 8 * F::kLoads;
  // Pieces a thread: all of the widest row for a whole block, 8192 values for a smaller team.
  constexpr int kMost = (kTeam == kWarps ? kMaxDeviceWidth : 8192) / kPieceValues / kLanes;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, member = warp % kTeam,
            at = member * 32 + lane;
  const int loads = p.hidden / 8, pieces = p.hidden_steps * (kStepBytes / 16);
  auto load = [&](int token, uint4(&v)[kMost][F::kLoads]) {
    const uint4* from = reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(p.in.x) +
                                                       int64_t{token} * p.hidden);
#pragma unroll
    for (int i = 0; i < kMost; ++i)
#pragma unroll
      for (int l = 0; l < F::kLoads; ++l) {
        const int c = (at + i * kLanes) * F::kLoads + l;
        v[i][l] = token < end && c < loads ? __ldcs(from + c) : make_uint4(0, 0, 0, 0);
      }
  };
  uint4 v[kMost][F::kLoads];
  load(first, v);
  for (int round = 0, token = first; round < rounds; ++round, token += step) {
    float scale = 1, inverse = 1;
    if constexpr (F::kScaled) {
      float absmax = 0;
#pragma unroll
      for (int i = 0; i < kMost; ++i)
#pragma unroll
        for (int l = 0; l < F::kLoads; ++l) absmax = fmaxf(absmax, absmax8(v[i][l]));
      absmax = warp_max(absmax);
      ptx::named_barrier(1 + warp / kTeam, kLanes);
      if (lane == 0) warp_absmax[warp] = absmax;
      ptx::named_barrier(1 + warp / kTeam, kLanes);
#pragma unroll
      for (int i = 0; i < kTeam; ++i) absmax = fmaxf(absmax, warp_absmax[warp - member + i]);
      scale = row_scale_of<F>(absmax);
      inverse = inverse_of(scale);
    }
    uint4 q[kMost];
#pragma unroll
    for (int i = 0; i < kMost; ++i) q[i] = F::piece(v[i], inverse);
    if (round + 1 < rounds) load(token + step, v);
    if (token >= end) continue;
    for (int j = 0; j < p.rules.top_k; ++j) {
      const int64_t pair = int64_t{token} * p.rules.top_k + j;
      const int32_t e = p.w.ids[pair], rank = p.w.pair_rank[pair];
      const int32_t local = rank < 0 ? -1 : x.before[e] + rank;
      const int32_t row = rank < 0 ? -1 : x.start[e] + local;
      if (at == 0) {
        p.w.pair_row[pair] = row;
        if (row >= 0) {
          p.w.x_scale[row] = scale;
          p.w.h_absmax[row] = 0;
        }
      }
      if (row < 0) continue;
      const int64_t step_bytes = int64_t{x.start[e + 1] - x.start[e]} * kStepBytes;
      std::byte* to = p.w.x_rows + int64_t{x.start[e]} * p.hidden_steps * kStepBytes;
#pragma unroll
      for (int i = 0; i < kMost; ++i) {
        const int c = at + i * kLanes;
        if (c < pieces)
          *reinterpret_cast<uint4*>(to + c / 8 * step_bytes + swizzled_offset(local, c % 8 * 16)) =
              q[i];
      }
    }
  }
}

template <class F>
__global__ void __launch_bounds__(kThreads, 1) route_kernel(const __grid_constant__ RouteParams p) {
  __shared__ Experts x;
  __shared__ float warp_absmax[kWarps];
  ptx::wait_for_previous_kernel();
  ptx::allow_next_kernel();
  const int tokens = max(0, min(*p.in.num_tokens, p.max_tokens));
  const int blocks = max(1, min(static_cast<int>(gridDim.x), ceil_div(tokens, 2)));
  if (static_cast<int>(blockIdx.x) >= blocks) return;
  const int share = ceil_div(tokens, blocks);
  const int begin = min(tokens, static_cast<int>(blockIdx.x) * share),
            end = min(tokens, begin + share);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, top_k = p.rules.top_k;

  int32_t* count = x.rows;  // until the sums
  for (int e = threadIdx.x; e < p.rules.experts; e += kThreads) count[e] = 0;
  for (int token = begin + warp; token < end; token += kWarps) {
    const Slot slot = slot_of_token(p.rules, p.in, token, lane);
    if (lane < top_k) {
      p.w.ids[int64_t{token} * top_k + lane] = slot.id;
      p.w.weights[int64_t{token} * top_k + lane] = slot.weight;
    }
  }
  __syncthreads();
  if (warp == 0) rank_pairs(p, int64_t{begin} * top_k, int64_t{end} * top_k, count);
  __syncthreads();
  for (int e = threadIdx.x; e < p.rules.experts; e += kThreads) {
    p.w.block_histogram[int64_t{e} * blocks + blockIdx.x] = count[e];
    if (blockIdx.x == 0) p.w.up_done[e] = 0;
  }
  grid_barrier(p.w.barrier, static_cast<uint32_t>(blocks));
  sum_histograms(p, blocks, x);
  __syncthreads();
  scan_experts(p, x);
  __syncthreads();
  if (blockIdx.x == 0) {
    for (int e = threadIdx.x; e <= p.rules.experts; e += kThreads) {
      p.w.expert_start[e] = x.start[e];
      p.w.tile_start[e] = x.tile_start[e];
      if (e < p.rules.experts) p.w.expert_rows[e] = x.rows[e];
    }
  }
  constexpr int kTeam = 4, kTeams = kWarps / kTeam;
  if (share > 2 && p.hidden <= 8192)
    place_tokens<F, kTeam>(p, x, begin + warp / kTeam, kTeams, end, ceil_div(share, kTeams),
                           warp_absmax);
  else
    place_tokens<F, kWarps>(p, x, begin, 1, end, end - begin, warp_absmax);
}

}  // namespace

template <class F>
Status launch_route(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeArgs& args,
                    const MoeWorkspace& w, CUstream_st* stream) {
  const MoeSizes z = moe_sizes(s);
  const RouteParams p{
      args, w, {s.router, s.experts, s.top_k}, s.max_tokens, s.hidden, z.hidden_steps, z.row_tile};
  const int grid = std::max(1, std::min(num_sms, ceil_div(s.max_tokens, 2)));
  return launch_dependent("route", route_kernel<F>,
                          {.grid = grid, .block = kThreads, .cooperative = true}, stream, p);
}

template Status launch_route<Int8>(const DeviceMoeShape&, int32_t, const DeviceMoeArgs&,
                                   const MoeWorkspace&, CUstream_st*);
template Status launch_route<Fp8>(const DeviceMoeShape&, int32_t, const DeviceMoeArgs&,
                                  const MoeWorkspace&, CUstream_st*);
template Status launch_route<Bf16>(const DeviceMoeShape&, int32_t, const DeviceMoeArgs&,
                                   const MoeWorkspace&, CUstream_st*);

}  // namespace moestro::kernels::cuda
