#include "kernels/cuda/grouped_gemm.cuh"

#include <cuda_bf16.h>

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/bulk_copy.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"

namespace moestro::kernels::cuda {
namespace {

constexpr int kThreads = 384;  // a producer warpgroup (one thread works) and two that multiply
constexpr int kMathThreads = 256;

template <int N>
struct Ring {
  static constexpr int kRowBytes = N * kStepBytes;
  static constexpr int kStageBytes = kBlockStepBytes + kRowBytes;
  static constexpr int kStages = N <= 32 ? 6 : N == 64 ? 5 : 4;
  static constexpr int kBytes = kStages * kStageBytes + 1024;  // and alignment
  static constexpr bool kSplit = N <= 32;
};

// A part of the work: steps [step, step_end) of one (expert, block, tile).
struct Item {
  int32_t expert, block, tile, step, step_end;
  int64_t unit;  // position among all (expert, block, tile)
};

// The sequence of items of this block; producer and math walk it alike.
template <bool kSplit>
class Schedule {
 public:
  __device__ Schedule(const GemmParams& p, const int32_t* tile_start)
      : p_(p), tile_start_(tile_start) {
    units_ = int64_t{tile_start[p.experts]} * p.blocks;
    if constexpr (kSplit) {
      total_ = units_ * p.k_steps;
      spans_ = min(int64_t{gridDim.x}, total_);
      if (blockIdx.x < spans_) {
        at_ = total_ * blockIdx.x / spans_;
        end_ = total_ * (blockIdx.x + 1) / spans_;
      }
    } else {
      at_ = blockIdx.x;
      end_ = units_;
    }
  }

  __device__ bool next(Item& item) {
    if (at_ >= end_) return false;
    if constexpr (kSplit) {
      item.unit = at_ / p_.k_steps;
      item.step = static_cast<int32_t>(at_ - item.unit * p_.k_steps);
      item.step_end = static_cast<int32_t>(min(int64_t{p_.k_steps}, item.step + (end_ - at_)));
      at_ += item.step_end - item.step;
    } else {
      item.unit = at_;
      item.step = 0;
      item.step_end = p_.k_steps;
      at_ += gridDim.x;
    }
    locate(item);
    return true;
  }

  // The span that step `at` of the line belongs to.
  __device__ int64_t owner(int64_t at) const {
    return ((at + 1) * spans_ + total_ - 1) / total_ - 1;
  }
  __device__ bool whole(const Item& item) const {
    return item.step == 0 && item.step_end == p_.k_steps;
  }

 private:
  // An expert's units are neighbours, tiles of one block innermost.
  __device__ void locate(Item& item) const {
    int low = 0, high = p_.experts;  // tile_start[low] * blocks <= unit < tile_start[high] * blocks
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (int64_t{tile_start_[middle]} * p_.blocks <= item.unit)
        low = middle;
      else
        high = middle;
    }
    const int32_t tiles = tile_start_[low + 1] - tile_start_[low];
    const int32_t local = static_cast<int32_t>(item.unit - int64_t{tile_start_[low]} * p_.blocks);
    item.expert = low;
    item.block = local / tiles;
    item.tile = tile_start_[low] + local % tiles;
  }

  const GemmParams& p_;
  const int32_t* tile_start_;
  int64_t units_ = 0, total_ = 0, spans_ = 0, at_ = 0, end_ = 0;
};

template <int N>
struct Shared {
  uint64_t full[Ring<N>::kStages], empty[Ring<N>::kStages];
  int32_t tile_start[kMaxDeviceExperts + 1];
  uint32_t is_last;
};

// Streams the operands of every item. Weights depend on the routing alone, so the first stages of
// the down product are requested before its activations exist; those follow once the previous
// kernel is done.
template <int N, Product kProduct>
__device__ void produce(const GemmParams& p, Shared<N>& s, uint8_t* ring) {
  using R = Ring<N>;
  Schedule<R::kSplit> schedule(p, s.tile_start);
  Item item;
  int stage = 0;
  uint32_t phase = 0;
  bool rows_ready = kProduct == Product::kGateUp;
  const int8_t* pending[R::kStages];  // activations of the stages requested too early
  int num_pending = 0;
  auto load_rows = [&](int at, const int8_t* rows) {
    ptx::bulk_load(ring + at * R::kStageBytes + kBlockStepBytes, rows, R::kRowBytes, &s.full[at]);
  };
  auto release = [&] {
    ptx::wait_for_previous_kernel();
    rows_ready = true;
#pragma unroll
    for (int i = 0; i < R::kStages; ++i)
      if (i < num_pending) load_rows(i, pending[i]);
  };
  while (schedule.next(item)) {
    const int8_t* weights =
        p.weights +
        ((int64_t{item.expert} * p.blocks + item.block) * p.k_steps + item.step) * kBlockStepBytes;
    const int8_t* rows = p.rows + (int64_t{item.tile} * p.k_steps + item.step) * R::kRowBytes;
    for (int step = item.step; step < item.step_end; ++step) {
      ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
      ptx::mbarrier_arrive_expect(&s.full[stage], R::kStageBytes);
      ptx::bulk_load(ring + stage * R::kStageBytes, weights, kBlockStepBytes, &s.full[stage]);
      if (rows_ready) {
        load_rows(stage, rows);
      } else {
#pragma unroll
        for (int i = 0; i < R::kStages; ++i)
          if (i == stage) pending[i] = rows;
        if (++num_pending == R::kStages) release();
      }
      weights += kBlockStepBytes;
      rows += R::kRowBytes;
      if (++stage == R::kStages) {
        stage = 0;
        phase ^= 1;
      }
    }
  }
  if (!rows_ready) release();
}

// Sums of a block that several spans share: add, and let the last one take the total (and leave
// zeros). All math threads.
template <int N>
__device__ bool merge_parts(const GemmParams& p, Shared<N>& s, const Schedule<true>& schedule,
                            const Item& item, int thread, int32_t (&sum)[2][N / 2]) {
  const int64_t first = item.unit * p.k_steps;
  const int64_t slot = schedule.owner(first),
                parts = schedule.owner(first + p.k_steps - 1) - slot + 1;
  int32_t* total = p.part_sums + slot * (kBlockRows * N) + thread;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < N / 2; ++j) atomicAdd(total + (i * (N / 2) + j) * kMathThreads, sum[i][j]);
  __threadfence();
  asm volatile("bar.sync 1, 256;" ::: "memory");
  if (thread == 0) {
    const bool last = atomicAdd(p.part_count + slot, 1) == parts - 1;
    if (last) p.part_count[slot] = 0;
    __threadfence();
    s.is_last = last;
  }
  asm volatile("bar.sync 1, 256;" ::: "memory");
  const bool last = s.is_last;
  if (last) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < N / 2; ++j) {
        int32_t* at = total + (i * (N / 2) + j) * kMathThreads;
        sum[i][j] = __ldcg(at);
        __stcg(at, 0);
      }
  }
  return last;
}

__device__ __forceinline__ uint32_t pack_bf16(float a, float b) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&v);
}

// Scales, activation and store of one block of sums; which packed rows a thread holds:
// device_layout.h.
template <int N, Product kProduct>
__device__ void finish(const GemmParams& p, const Item& item, int32_t tile_rows, int thread,
                       int32_t (&sum)[2][N / 2]) {
  const int w = thread / 128, q = thread / 32 % 4, r = thread % 32 / 4, c = thread % 4;
  const float* scales = p.weight_scales +
                        (int64_t{item.expert} * p.blocks + item.block) * kBlockRows + 128 * w +
                        16 * q + r;
  const float scale[2][2] = {{scales[0], scales[8]}, {scales[64], scales[72]}};
  const int column = kProduct == Product::kGateUp
                         ? 128 * item.block + 64 * w + 16 * q + 2 * r
                         : kBlockRows * item.block + 128 * w + 32 * q + 4 * r;
  const int64_t first_row = int64_t{item.tile} * N;
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const int n = 8 * j + 2 * c + t;
      if (n >= tile_rows) continue;
      const float x = __ldcg(p.row_scales + first_row + n);
      uint16_t* out = p.out + (first_row + n) * p.out_stride + column;
      float v[2][2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h)
          v[i][h] = static_cast<float>(sum[i][4 * j + 2 * h + t]) * (x * scale[i][h]);
      if constexpr (kProduct == Product::kGateUp) {
        float hidden[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) hidden[i] = v[i][0] / (1.0f + __expf(-v[i][0])) * v[i][1];
        *reinterpret_cast<uint32_t*>(out) = pack_bf16(hidden[0], hidden[1]);
      } else if (column < p.out_columns) {
        *reinterpret_cast<uint2*>(out) =
            make_uint2(pack_bf16(v[0][0], v[0][1]), pack_bf16(v[1][0], v[1][1]));
      }
    }
  }
}

template <int N, Product kProduct>
__device__ void multiply(const GemmParams& p, Shared<N>& s, const uint8_t* ring) {
  using R = Ring<N>;
  Schedule<R::kSplit> schedule(p, s.tile_start);
  const int thread = static_cast<int>(threadIdx.x) - 128, w = thread / 128;
  Item item;
  int stage = 0;
  uint32_t phase = 0;
  while (schedule.next(item)) {
    int32_t sum[2][N / 2];
    int previous = -1;
    for (int step = item.step; step < item.step_end; ++step) {
      ptx::mbarrier_wait(&s.full[stage], phase);
      const uint8_t* base = ring + stage * R::kStageBytes;
      const uint64_t a0 = ptx::swizzled_descriptor(base + (2 * w) * kTileRows * kStepBytes);
      const uint64_t a1 = ptx::swizzled_descriptor(base + (2 * w + 1) * kTileRows * kStepBytes);
      const uint64_t b = ptx::swizzled_descriptor(base + kBlockStepBytes);
      ptx::wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int add = step != item.step || k != 0;
        ptx::WgmmaS8<N>::run(sum[0], a0 + 2 * k, b + 2 * k, add);
        ptx::WgmmaS8<N>::run(sum[1], a1 + 2 * k, b + 2 * k, add);
      }
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();  // the stage before this one has been read
      if (previous >= 0 && thread % 128 == 0) ptx::mbarrier_arrive(&s.empty[previous]);
      previous = stage;
      if (++stage == R::kStages) {
        stage = 0;
        phase ^= 1;
      }
    }
    ptx::wgmma_wait<0>();
    if (thread % 128 == 0) ptx::mbarrier_arrive(&s.empty[previous]);
    if constexpr (R::kSplit) {
      if (!schedule.whole(item) && !merge_parts<N>(p, s, schedule, item, thread, sum)) continue;
    }
    const int32_t first = item.tile - s.tile_start[item.expert];
    const int32_t tile_rows = min(N, __ldcg(p.expert_rows + item.expert) - first * N);
    finish<N, kProduct>(p, item, tile_rows, thread, sum);
  }
}

template <int N, Product kProduct>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_gemm_kernel(const __grid_constant__ GemmParams p) {
  extern __shared__ uint8_t dynamic[];
  __shared__ Shared<N> s;
  uint8_t* ring = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Ring<N>::kStages; ++i) {
      ptx::mbarrier_init(&s.full[i], 1);
      ptx::mbarrier_init(&s.empty[i], 2);
    }
    ptx::fence_barrier_init();
  }
  // The gate_up product follows the routing kernel. The down product starts when the requantisation
  // has started everywhere, so routing is long over and its tables may be read at once.
  if constexpr (kProduct == Product::kGateUp) ptx::wait_for_previous_kernel();
  ptx::allow_next_kernel();
  for (int e = threadIdx.x; e <= p.experts; e += kThreads)
    s.tile_start[e] = __ldcg(p.tile_start + e);
  __syncthreads();
  if (threadIdx.x < 128) {
    if constexpr (N >= 128) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) produce<N, kProduct>(p, s, ring);
  } else {
    if constexpr (N >= 128) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    if constexpr (kProduct == Product::kDown)
      ptx::wait_for_previous_kernel();  // row scales and the output's old readers
    multiply<N, kProduct>(p, s, ring);
  }
}

template <int N, Product kProduct>
Status set_limit() {
  return cuda_status(
      cudaFuncSetAttribute(grouped_gemm_kernel<N, kProduct>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize, Ring<N>::kBytes),
      "shared memory of the grouped product");
}

template <int N>
Status set_limits() {
  MOESTRO_TRY((set_limit<N, Product::kGateUp>()));
  return set_limit<N, Product::kDown>();
}

template <int N>
Status launch(Product product, int32_t num_sms, const GemmParams& p, cudaStream_t stream) {
  auto* kernel = product == Product::kGateUp ? grouped_gemm_kernel<N, Product::kGateUp>
                                             : grouped_gemm_kernel<N, Product::kDown>;
  return launch_dependent("grouped product", kernel, num_sms, kThreads, Ring<N>::kBytes, stream, p);
}

}  // namespace

Status prepare_grouped_gemm() {
  MOESTRO_TRY(set_limits<8>());
  MOESTRO_TRY(set_limits<16>());
  MOESTRO_TRY(set_limits<32>());
  MOESTRO_TRY(set_limits<64>());
  return set_limits<128>();
}

Status launch_grouped_gemm(Product product, int32_t row_tile, int32_t num_sms, const GemmParams& p,
                           CUstream_st* stream) {
  switch (row_tile) {
    case 8:
      return launch<8>(product, num_sms, p, stream);
    case 16:
      return launch<16>(product, num_sms, p, stream);
    case 32:
      return launch<32>(product, num_sms, p, stream);
    case 64:
      return launch<64>(product, num_sms, p, stream);
    default:
      return launch<128>(product, num_sms, p, stream);
  }
}

}  // namespace moestro::kernels::cuda
