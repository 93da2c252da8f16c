#include "kernels/cuda/moe_layer.h"

#include <algorithm>

#include "kernels/cuda/grouped_gemm.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/bulk_copy.cuh"
#include "kernels/cuda/quantize.cuh"
#include "kernels/cuda/route.cuh"

namespace moestro::kernels::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct RowParams {
  MoeWorkspace w;
  const int32_t* num_tokens;
  __nv_bfloat16* out;
  int32_t max_tokens, top_k, hidden, inter_steps, row_tile;
};

// h of every grouped row to int8, one warp a row.
__global__ void __launch_bounds__(kThreads) requantize_kernel(const __grid_constant__ RowParams p) {
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  const int lane = threadIdx.x % 32, chunks = p.inter_steps * (kStepBytes / 8);
  const int64_t pairs = int64_t{max(0, min(*p.num_tokens, p.max_tokens))} * p.top_k;
  const int tile_bytes = p.row_tile * kStepBytes;
  for (int64_t pair = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; pair < pairs;
       pair += int64_t{gridDim.x} * kWarps) {
    const int64_t row = __ldcg(p.w.pair_row + pair);
    if (row < 0) continue;
    const uint4* h = reinterpret_cast<const uint4*>(p.w.h + row * p.inter_steps * kStepBytes);
    float amax = 0;
#pragma unroll 8
    for (int c = lane; c < chunks; c += 32) amax = fmaxf(amax, absmax8(__ldcg(h + c)));
#pragma unroll
    for (int d = 16; d > 0; d /= 2) amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, d));
    const float scale = amax / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
    if (lane == 0) p.w.h_scale[row] = scale;
    const int in_tile = static_cast<int>(row % p.row_tile);
    int8_t* q = p.w.h_rows + row / p.row_tile * p.inter_steps * tile_bytes;
#pragma unroll 8
    for (int c = lane; c < chunks; c += 32)
      *reinterpret_cast<uint2*>(q + int64_t{c / 16} * tile_bytes +
                                swizzled_offset(in_tile, c % 16 * 8)) =
          quantize8(__ldcg(h + c), inverse);
  }
}

// out[t] = sum over slots of weight * y[row], in slot order; a thread owns 8 columns of one token.
__global__ void __launch_bounds__(kThreads) combine_kernel(const __grid_constant__ RowParams p) {
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
    uint32_t packed[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 v = __floats2bfloat162_rn(sum[2 * i], sum[2 * i + 1]);
      packed[i] = *reinterpret_cast<const uint32_t*>(&v);
    }
    *reinterpret_cast<uint4*>(p.out + token * p.hidden + column) =
        make_uint4(packed[0], packed[1], packed[2], packed[3]);
  }
}

GemmParams gemm_params(const DeviceMoeShape& s, const DeviceMoeWeights& weights,
                       const MoeWorkspace& w, Product product) {
  const MoeSizes z = moe_sizes(s);
  const bool up = product == Product::kGateUp;
  const DeviceMatrix m =
      up ? gate_up_matrix(s.hidden, s.intermediate, 1) : DeviceMatrix{s.hidden, s.intermediate, 1};
  GemmParams p{};
  p.weights = static_cast<const int8_t*>(up ? weights.gate_up : weights.down);
  p.weight_scales = up ? weights.gate_up_scales : weights.down_scales;
  p.rows = up ? w.x_rows : w.h_rows;
  p.row_scales = up ? w.x_scale : w.h_scale;
  p.tile_start = w.tile_start;
  p.expert_rows = w.expert_rows;
  p.out = up ? w.h : w.y;
  p.part_sums = w.part_sums;
  p.part_count = w.part_count;
  p.experts = s.experts;
  p.blocks = m.blocks();
  p.k_steps = m.k_steps();
  p.out_stride = up ? z.inter_steps * kStepBytes : s.hidden;
  p.out_columns = p.out_stride;
  return p;
}

}  // namespace

Status prepare_moe_workspace(const DeviceMoeShape& s, int32_t num_sms, std::byte* workspace,
                             CUstream_st* stream) {
  MOESTRO_TRY(check_moe_shape(s));
  MOESTRO_TRY(prepare_grouped_gemm());
  const int64_t bytes = place_moe_workspace(s, num_sms, workspace).counter_bytes;
  return cuda_status(cudaMemsetAsync(workspace, 0, static_cast<size_t>(bytes), stream),
                     "workspace of a MoE layer");
}

Status launch_moe_int8(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeWeights& weights,
                       const DeviceMoeArgs& args, CUstream_st* stream) {
  MOESTRO_TRY(check_moe_shape(s));
  const MoeWorkspace w = place_moe_workspace(s, num_sms, args.workspace);
  const MoeSizes z = moe_sizes(s);
  const RowParams rows{w,
                       args.num_tokens,
                       static_cast<__nv_bfloat16*>(args.out),
                       s.max_tokens,
                       s.top_k,
                       s.hidden,
                       z.inter_steps,
                       z.row_tile};
  const int64_t pairs = int64_t{s.max_tokens} * s.top_k,
                items = int64_t{s.max_tokens} * (s.hidden / 8);
  const int pair_grid =
      static_cast<int>(std::min<int64_t>((pairs + kWarps - 1) / kWarps, 8 * num_sms));
  const int item_grid =
      static_cast<int>(std::min<int64_t>((items + kThreads - 1) / kThreads, 8 * num_sms));
  MOESTRO_TRY(launch_route(s, num_sms, args, w, stream));
  MOESTRO_TRY(launch_grouped_gemm(Product::kGateUp, z.row_tile, num_sms,
                                  gemm_params(s, weights, w, Product::kGateUp), stream));
  MOESTRO_TRY(
      launch_dependent("requantise", requantize_kernel, pair_grid, kThreads, 0, stream, rows));
  MOESTRO_TRY(launch_grouped_gemm(Product::kDown, z.row_tile, num_sms,
                                  gemm_params(s, weights, w, Product::kDown), stream));
  return launch_dependent("combine", combine_kernel, item_grid, kThreads, 0, stream, rows);
}

}  // namespace moestro::kernels::cuda
