// The decode kernel itself (decode.cuh); each format is one translation unit: decode_<format>.cu.
#pragma once
#include "kernels/cuda/decode.cuh"

#include <algorithm>

#include "kernels/cuda/decode_combine.cuh"
#include "kernels/cuda/decode_h.cuh"
#include "kernels/cuda/decode_sums.cuh"

namespace moestro::kernels::cuda {
namespace {

// Requests the weights and scales of every item, and for gate_up its rows of x.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::produce() {
  int stage = 0, items = 0, asked = 0, oldest = 0;
  uint32_t phase = 0, oldest_phase = 0;
  for (int product = kUp; product <= kDown; ++product) {
    DecodeSchedule line = schedule(product);
    DecodeItem item;
    const int blocks = p.blocks[product], k_steps = p.k_steps[product];
    for (; line.next(item); ++items) {
      const int64_t matrix_block = int64_t{expert(item)} * blocks + item.block;
      const std::byte* weights =
          p.weights[product] + (matrix_block * k_steps + item.step) * F::kBlockStep;
      const bool load_rows = product == kUp && !kResident;
      const int buffer = items % 2;
      uint32_t rows_bytes = 0, step_stride = 0;
      const std::byte* rows = nullptr;
      if constexpr (!kResident) {
        const int32_t start = s.map.start[item.group];
        step_stride = static_cast<uint32_t>(s.map.start[item.group + 1] - start) * kStepBytes;
        rows_bytes = static_cast<uint32_t>(num_rows(item) + 7) / 8 * 8 * kStepBytes;
        rows = p.w.x_rows + int64_t{start} * k_steps * kStepBytes +
               int64_t{item.tile} * N * kStepBytes + int64_t{item.step} * step_stride;
      }
      for (int step = item.step; step < item.step_end; ++step) {
        if (asked++ >= min(kInFlight<F>, p.stages)) {
          ptx::mbarrier_wait(&s.landed[oldest], oldest_phase);
          advance(oldest, oldest_phase, p.stages);
        }
        ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
        uint8_t* to = ring + stage * kStage;
        const bool scales = F::kScaled && step == item.step;
        const uint32_t weight_scales =
            F::kStepScales ? 4 * kStepScales * static_cast<uint32_t>(item.step_end - item.step)
                           : 4 * kBlockRows;
        const uint32_t row_scales = scales && load_rows ? rows_bytes / kStepBytes * 4 : 0;
        if (scales) ptx::mbarrier_wait(&s.scales_empty[buffer], (items / 2 & 1) ^ 1);
        ptx::mbarrier_arrive_expect(&s.landed[stage], F::kBlockStep + (load_rows ? rows_bytes : 0) +
                                                          (scales ? weight_scales : 0) +
                                                          row_scales);
        ptx::bulk_load_once(to, weights, F::kBlockStep, &s.landed[stage]);
        if (scales) {
          ptx::bulk_load(s.weight_scales[buffer],
                         p.weight_scales[product] +
                             (F::kStepScales ? (matrix_block * k_steps + step) * kStepScales
                                             : matrix_block * kBlockRows),
                         weight_scales, &s.landed[stage]);
          if (load_rows)
            ptx::bulk_load(s.row_scales[buffer], p.w.x_scale + first_row(item), row_scales,
                           &s.landed[stage]);
        }
        if (load_rows) ptx::bulk_load(to + kRowsAt<F>, rows, rows_bytes, &s.landed[stage]);
        weights += F::kBlockStep;
        rows += step_stride;
        advance(stage, phase, p.stages);
      }
    }
  }
}

// One step of an item into its sums, and the stage whose operands have been read by then freed.
template <class F, int N, bool kResident>
__device__ __forceinline__ void Decode<F, N, kResident>::multiply_item_step(
    int product, const Fragment& f, const DecodeItem& item, int step, int stage, int buffer,
    int& previous, Sum (&sum)[2][N / 2]) {
  const bool first = step == item.step;
  const uint8_t* base = ring + stage * kStage;
  const bool own_rows = kResident && product == kUp;
  const uint64_t a0 = ptx::swizzled_descriptor(base + (2 * f.w) * kTileRows * kStepBytes),
                 a1 = ptx::swizzled_descriptor(base + (2 * f.w + 1) * kTileRows * kStepBytes),
                 b = ptx::swizzled_descriptor(own_rows ? x_rows + step * (8 * kStepBytes)
                                                       : base + kRowsAt<F>);
  if constexpr (kFreshSums) {
    Sum part[2][N / 2];
    multiply_step<F, N>(part, a0, a1, b, true);
    ptx::wgmma_wait<0>();
    ptx::wgmma_ready(part[0]);
    ptx::wgmma_ready(part[1]);
    float channels[2] = {1, 1};
    if constexpr (F::kStepScales) {
      const float* of = s.weight_scales[buffer] + (step - item.step) * kStepScales + 2 * f.w;
      channels[0] = of[0], channels[1] = of[1];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (first) {
#pragma unroll
        for (float& v : sum[i]) v = 0;
      }
      promote<F, N>(sum[i], part[i], 0, channels);
    }
    release(stage, f.thread);
  } else {
    multiply_step<F, N>(sum, a0, a1, b, first);
    ptx::wgmma_wait<1>();  // the stage before this one has been read
    if (previous >= 0) release(previous, f.thread);
    previous = stage;
  }
}

// An item's steps with weights of 4 bits, kSteps at once, so that the products are waited for once.
template <class F, int N, bool kResident>
template <int kSteps>
__device__ __forceinline__ void Decode<F, N, kResident>::multiply_int4_steps(
    int product, const Fragment& f, int step, bool first, Ring& at, Sum (&sum)[2][N / 2]) {
  uint32_t a[kSteps][2][4][4];
  Sum part[2][N / 2];
  uint64_t b[kSteps];
  int stages[kSteps];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    wait_for_stage(product, at);
    const uint8_t* base = ring + at.stage * kStage;
    unpack_int4(a[i], base, f);
    b[i] = ptx::swizzled_descriptor(
        kResident && product == kUp ? x_rows + (step + i) * (8 * kStepBytes) : base + kRowsAt<F>);
    stages[i] = at.stage;
    advance(at.stage, at.phase, p.stages);
  }
  ptx::wgmma_fence();
#pragma unroll
  for (int i = 0; i < kSteps; ++i) multiply_int4_step<N>(part, a[i], b[i], i == 0);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    ptx::wgmma_ready(part[i]);
    if (first) {
#pragma unroll
      for (float& v : sum[i]) v = 0;
    }
    promote<F, N>(sum[i], part[i], 0, {1, 1});
  }
#pragma unroll
  for (int i = 0; i < kSteps; ++i) release(stages[i], f.thread);
}

template <class F, int N, bool kResident>
__device__ __forceinline__ void Decode<F, N, kResident>::wait_for_stage(int product, Ring& at) {
  ptx::mbarrier_wait(&s.landed[at.stage], at.phase);
  if (product == kDown) {
    ptx::mbarrier_wait(&s.h_ready[at.stage], at.h_phases >> at.stage & 1);
    at.h_phases ^= 1u << at.stage;
  }
}

template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::multiply(int product, int math_thread, Ring& at,
                                                  int& items) {
  const Fragment f(math_thread);
  DecodeSchedule line = schedule(product);
  DecodeItem item;
  auto up_is_over = [&] {
    if (product == kUp && line.steps() == 0 && f.thread % 128 == 0)
      ptx::mbarrier_arrive(&s.up_over);
  };
  if (line.steps() == 0) up_is_over();
  for (; line.next(item); ++items) {
    Sum sum[2][N / 2];
    const int buffer = items % 2;
    int previous = -1;
    if constexpr (F::kInt4) {
      int step = item.step;
      for (; N <= 32 && step + 1 < item.step_end; step += 2)
        multiply_int4_steps<2>(product, f, step, step == item.step, at, sum);
      for (; step < item.step_end; ++step)
        multiply_int4_steps<1>(product, f, step, step == item.step, at, sum);
    } else {
      for (int step = item.step; step < item.step_end; ++step) {
        wait_for_stage(product, at);
        multiply_item_step(product, f, item, step, at.stage, buffer, previous, sum);
        advance(at.stage, at.phase, p.stages);
      }
    }
    if constexpr (!kFreshSums) {
      ptx::wgmma_wait<0>();
      release(previous, f.thread);
    }
    up_is_over();
    const int rows = num_rows(item);
    if (kResident && product == kDown) {
      // Not what combine() does not read: it would stay for a launch whose parts lie elsewhere.
      if (kBlockRows * item.block + f.down_column() < (p.hidden + 31) / 32 * 32)
        store_part(p.w.parts[kDown] + (int64_t{item.unit} + blockIdx.x) * (kBlockRows * N), item, f,
                   rows, sum);
      if (F::kStepScales) ptx::named_barrier(4 + f.w, 128);  // this warpgroup has read its scales
      if (F::kScaled && f.thread % 128 == 0) ptx::mbarrier_arrive(&s.scales_empty[buffer]);
      continue;
    }
    if (line.whole(item) || merge(line, item, product, f, rows, sum)) {
      if (product == kUp)
        finish_up(item, f, rows, buffer, sum);
      else
        finish_down(item, f, rows, buffer, sum);
    }
    if (F::kScaled) {
      ptx::named_barrier(4 + f.w, 128);  // this warpgroup has read its scales
      if (f.thread % 128 == 0) ptx::mbarrier_arrive(&s.scales_empty[buffer]);
    }
  }
}

template <class F, int N, bool kResident>
__global__ void __launch_bounds__(kDecodeThreads, 1)
    decode_kernel(const __grid_constant__ DecodeParams p) {
  extern __shared__ uint8_t dynamic[];
  __shared__ DecodeShared<F, N, kResident> s;
  uint8_t* aligned = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  Decode<F, N, kResident> work{p, s, aligned, aligned};
  if (thread == 0) {
    for (int i = 0; i < p.stages; ++i) {
      ptx::mbarrier_init(&s.landed[i], 1);
      ptx::mbarrier_init(&s.h_ready[i], work.kQuantiseArrivals);
      ptx::mbarrier_init(&s.empty[i], work.kReleases);
    }
    for (auto& b : s.scales_empty) ptx::mbarrier_init(&b, 2);
    ptx::mbarrier_init(&s.up_over, 2);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::wait_for_previous_kernel();
  ptx::allow_next_kernel();
  if constexpr (kResident) {
    work.ring += p.k_steps[kUp] * (8 * kStepBytes);
    if (warp < routing_warps(p)) route_resident(p, s.map);
    if (warp >= 4) quantise_resident<F>(p, s.map, work.x_rows);
    if (warp == 0)
      ptx::named_barrier_arrive(kRoutedBarrier, kDecodeThreads);
    else
      ptx::named_barrier(kRoutedBarrier, kDecodeThreads);
  } else {
    for (int e = thread; e <= p.rules.experts; e += kDecodeThreads) {
      s.map.tile_start[e] = __ldcg(p.w.tile_start + e);
      s.map.start[e] = __ldcg(p.w.expert_start + e);
      if (e < p.rules.experts) s.map.rows[e] = __ldcg(p.w.expert_rows + e);
    }
    __syncthreads();
  }
  if (warp == 0) {
    if (thread == 0) work.produce();
  } else if (warp < 4) {
    if constexpr (kResident) {
      work.clear_other_set(thread - 32);
      if constexpr (F::kScaled)
        work.quantise_resident_h(warp - 1);
      else
        work.stream_resident_h(warp - 1);
    } else {
      work.quantise_h(warp - 1);
    }
  } else {
    if constexpr (kResident) work.clear_out_unless_hit(thread - 128);
    Ring at;
    int items = 0;
    work.multiply(kUp, thread - 128, at, items);
    work.multiply(kDown, thread - 128, at, items);
    if constexpr (kResident) {
      ptx::named_barrier(kMathBarrier, kMathThreads);  // the ring is free
      work.combine(thread - 128,
                   reinterpret_cast<float*>(work.ring) + (warp - 4) * (kMaxDeviceTopK * 32));
    }
  }
}

template <class F, int N, bool kResident>
Status set_limit() {
  return cuda_status(
      cudaFuncSetAttribute(decode_kernel<F, N, kResident>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize, kOperandBytes<F> + 1024),
      "shared memory of the decode kernel");
}
template <class F>
Status set_limits() {
  MOESTRO_TRY((set_limit<F, 8, true>()));
  MOESTRO_TRY((set_limit<F, 8, false>()));
  MOESTRO_TRY((set_limit<F, 16, false>()));
  MOESTRO_TRY((set_limit<F, 32, false>()));
  return set_limit<F, 64, false>();
}

template <class F, int N, bool kResident>
Status launch(DecodeParams p, int32_t num_sms, cudaStream_t stream) {
  const int32_t x_bytes = kResident ? p.k_steps[kUp] * 8 * kStepBytes : 0;
  p.stages = std::min(kMostStages<F>, (kOperandBytes<F> - x_bytes) / kStageBytes<F, N>);
  return launch_dependent("decode", decode_kernel<F, N, kResident>,
                          {.grid = num_sms,
                           .block = kDecodeThreads,
                           .shared_bytes = x_bytes + p.stages * kStageBytes<F, N> + 1024,
                           .cooperative = true},
                          stream, p);
}

}  // namespace

template <class F>
Status prepare_decode() {
  return set_limits<F>();
}

template <class F>
Status launch_decode(const DeviceMoeShape& s, int32_t num_sms, const DeviceMoeWeights& weights,
                     const DeviceMoeArgs& args, const MoeWorkspace& w, CUstream_st* stream) {
  const MoeSizes z = moe_sizes(s);
  const DecodeParams p{
      {static_cast<const std::byte*>(weights.gate_up), static_cast<const std::byte*>(weights.down)},
      {weights.gate_up_scales, weights.down_scales},
      w,
      args,
      {s.router, s.experts, s.top_k},
      s.max_tokens,
      s.hidden,
      {z.up.blocks(), z.down.blocks()},
      {z.hidden_steps, z.inter_steps},
      z.h_stride,
      0,
      z.rows};
  if (z.resident) return launch<F, 8, true>(p, num_sms, stream);
  switch (z.row_tile) {
    case 8:
      return launch<F, 8, false>(p, num_sms, stream);
    case 16:
      return launch<F, 16, false>(p, num_sms, stream);
    case 32:
      return launch<F, 32, false>(p, num_sms, stream);
    default:
      return launch<F, 64, false>(p, num_sms, stream);
  }
}

}  // namespace moestro::kernels::cuda
