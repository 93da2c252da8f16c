#include "kernels/cuda/rows.cuh"

#include <algorithm>

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/bulk_copy.cuh"

namespace moestro::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeld = 4;  // pieces a lane: rows of up to 2048 values stay in registers

struct RequantiseParams {
  MoeWorkspace w;
  int32_t experts, inter_steps, h_stride;
};

// One warp a row, eight neighbouring rows a block: together they fill whole tiles.
template <class F>
__global__ void __launch_bounds__(kThreads)
    requantise_kernel(const __grid_constant__ RequantiseParams p) {
  __shared__ int32_t start[kMaxDeviceExperts + 1], rows[kMaxDeviceExperts];
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  for (int e = threadIdx.x; e <= p.experts; e += kThreads) {
    start[e] = __ldcg(p.w.expert_start + e);
    if (e < p.experts) rows[e] = __ldcg(p.w.expert_rows + e);
  }
  __syncthreads();
  const int lane = threadIdx.x % 32, pieces = p.inter_steps * (kStepBytes / 16);
  for (int32_t group = blockIdx.x; 8 * group < start[p.experts]; group += gridDim.x) {
    const int32_t row = 8 * group + static_cast<int32_t>(threadIdx.x) / 32;
    int low = 0, high = p.experts;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (start[middle] <= row)
        low = middle;
      else
        high = middle;
    }
    const int32_t local = row - start[low];
    if (local >= rows[low]) continue;
    const uint4* h = reinterpret_cast<const uint4*>(p.w.h + int64_t{row} * p.h_stride);
    uint4 v[kHeld][F::kLoads];
    auto load = [&](int first) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
#pragma unroll
        for (int l = 0; l < F::kLoads; ++l)
          v[i][l] = first + 32 * i < pieces ? __ldcg(h + (first + 32 * i) * F::kLoads + l)
                                            : make_uint4(0, 0, 0, 0);
    };
    float absmax = 0;
    for (int first = lane; first < pieces; first += 32 * kHeld) {
      load(first);
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
#pragma unroll
        for (int l = 0; l < F::kLoads; ++l) absmax = fmaxf(absmax, absmax8(v[i][l]));
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) absmax = fmaxf(absmax, __shfl_xor_sync(0xffffffffu, absmax, d));
    const float scale = row_scale_of<F>(absmax), inverse = inverse_of(scale);
    if (lane == 0) p.w.h_scale[row] = scale;
    std::byte* to = p.w.h_rows + int64_t{start[low]} * p.inter_steps * kStepBytes;
    const int64_t step_bytes = int64_t{start[low + 1] - start[low]} * kStepBytes;
    for (int first = lane; first < pieces; first += 32 * kHeld) {
      if (pieces > 32 * kHeld) load(first);  // else the row is held
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const int c = first + 32 * i;
        if (c < pieces)
          *reinterpret_cast<uint4*>(to + c / 8 * step_bytes + swizzled_offset(local, c % 8 * 16)) =
              F::piece(v[i], inverse);
      }
    }
  }
}

struct CombineParams {
  MoeWorkspace w;
  const int32_t* num_tokens;
  __nv_bfloat16* out;
  int32_t max_tokens, top_k, hidden;
};

// out[t] = sum over slots of weight * y[row], in slot order; a thread owns 8 columns of one token.
__global__ void __launch_bounds__(kThreads)
    combine_kernel(const __grid_constant__ CombineParams p) {
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  const int per_token = p.hidden / 8;
  const int64_t items = int64_t{max(0, min(*p.num_tokens, p.max_tokens))} * per_token;
  for (int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x; item < items;
       item += int64_t{gridDim.x} * kThreads) {
    const int64_t token = item / per_token;
    const int column = static_cast<int>(item % per_token) * 8;
    float sum[8] = {};
#pragma unroll 8
    for (int j = 0; j < p.top_k; ++j) {
      const int64_t row = __ldcg(p.w.pair_row + token * p.top_k + j);
      const float weight = row < 0 ? 0.0f : __ldcg(p.w.weights + token * p.top_k + j);
      // A select and no branch: the loads of all slots are in flight together.
      const uint4 y = row < 0
                          ? make_uint4(0, 0, 0, 0)
                          : __ldcg(reinterpret_cast<const uint4*>(p.w.y + row * p.hidden + column));
      const uint32_t words[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 v = unpack_bf16x2(words[i]);
        sum[2 * i] = fmaf(weight, v.x, sum[2 * i]);
        sum[2 * i + 1] = fmaf(weight, v.y, sum[2 * i + 1]);
      }
    }
    *reinterpret_cast<uint4*>(p.out + token * p.hidden + column) =
        make_uint4(pack_bf16x2(sum[0], sum[1]), pack_bf16x2(sum[2], sum[3]),
                   pack_bf16x2(sum[4], sum[5]), pack_bf16x2(sum[6], sum[7]));
  }
}

}  // namespace

template <class F>
Status launch_requantise(const DeviceMoeShape& s, int32_t num_sms, const MoeWorkspace& w,
                         CUstream_st* stream) {
  const MoeSizes z = moe_sizes(s);
  return launch_dependent(
      "requantise", requantise_kernel<F>,
      {.grid = static_cast<int>(std::min<int64_t>(z.rows / 8, 8 * num_sms)), .block = kThreads},
      stream, RequantiseParams{w, s.experts, z.inter_steps, z.h_stride});
}
template Status launch_requantise<Int8>(const DeviceMoeShape&, int32_t, const MoeWorkspace&,
                                        CUstream_st*);
template Status launch_requantise<Fp8Block>(const DeviceMoeShape&, int32_t, const MoeWorkspace&,
                                            CUstream_st*);
template Status launch_requantise<Fp8>(const DeviceMoeShape&, int32_t, const MoeWorkspace&,
                                       CUstream_st*);

Status launch_combine(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeArgs& args,
                      const MoeWorkspace& w, CUstream_st* stream) {
  const int64_t items = int64_t{s.max_tokens} * (s.hidden / 8);
  const CombineParams p{
      w, args.num_tokens, static_cast<__nv_bfloat16*>(args.out), s.max_tokens, s.top_k, s.hidden};
  return launch_dependent(
      "combine", combine_kernel,
      {.grid = static_cast<int>(std::min<int64_t>((items + kThreads - 1) / kThreads, 8 * num_sms)),
       .block = kThreads},
      stream, p);
}

}  // namespace moestro::kernels::cuda
