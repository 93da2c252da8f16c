// The prefill kernel itself (prefill.cuh); each format is one translation unit:
// prefill_<format>.cu.
#pragma once
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill.cuh"
#include "kernels/cuda/ptx/cluster.cuh"

namespace moestro::kernels::cuda {
namespace {

constexpr int kThreads = 384;  // a producer warpgroup (one thread works) and two that multiply
constexpr int kStages = 4;
// A stage: weights, then rows, whose tiles are aligned.
template <class F>
constexpr int kRowsAt = (F::kBlockStep + 1023) / 1024 * 1024;
template <class F>
constexpr int kStageBytes = kRowsAt<F> + kPrefillRows* kStepBytes;
template <class F>
constexpr int kRingBytes = kStages* kStageBytes<F> + 1024;  // and alignment

// Rows of a tile at most: promoted sums need registers for those of a step besides.
template <class F>
constexpr int kTileMost = F::kPromoted ? 144 : kPrefillRows;
template <class F>
using TileSums = typename F::Sum[2][kTileMost<F> / 2];

struct PrefillParams {
  const std::byte* weights;
  const float* weight_scales;  // [experts, 256 * blocks]
  const std::byte* rows;       // operand tiles
  const float* row_scales;     // [rows]
  const int32_t* expert_start;
  const int32_t* expert_rows;
  uint16_t* out;       // bfloat16 [rows, out_stride]
  std::byte* h_tiles;  // of a gate_up product whose h needs no scale: operand tiles of down instead
  int32_t experts, blocks, k_steps, out_stride, out_columns, h_steps, tile_most;
};

struct PrefillShared {
  alignas(16) float weight_scales[2][kWeightScales<Fp8Block>];  // of item parity
  alignas(16) float row_scales[2][kPrefillRows];
  uint64_t full[kStages], empty[kStages], scales_empty[2];
  int32_t item_start[kMaxDeviceExperts + 1], start[kMaxDeviceExperts + 1], rows[kMaxDeviceExperts];
};

// What this block of the cluster does of one item of the cluster.
struct PrefillItem {
  int32_t expert, block;
  int32_t first_row, rows;  // of the expert
  bool same_weights;        // for both blocks of the cluster; else the same rows
};

struct ExpertTiles {
  int32_t tiles, width, pairs;
  __device__ ExpertTiles(int32_t rows, int32_t tile_most)
      : tiles(ceil_div(rows, tile_most)),
        width(tiles == 0 ? 0 : (ceil_div(rows, tiles) + 15) / 16 * 16),
        pairs(tiles / 2) {}
  __device__ int32_t items(int32_t blocks) const {
    return pairs * blocks + tiles % 2 * ((blocks + 1) / 2);
  }
};

// Item `i` of all; an expert's items are neighbours, its pairs of tiles innermost.
__device__ inline PrefillItem locate(const PrefillParams& p, const PrefillShared& s, int32_t i,
                                     int32_t rank) {
  int low = 0, high = p.experts;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (s.item_start[middle] <= i)
      low = middle;
    else
      high = middle;
  }
  const ExpertTiles x(s.rows[low], p.tile_most);
  const int32_t local = i - s.item_start[low], paired = x.pairs * p.blocks;
  PrefillItem item{low, 0, 0, 0, local < paired};
  int32_t tile = x.tiles - 1;
  if (item.same_weights) {
    item.block = local / x.pairs;
    tile = 2 * (local % x.pairs) + rank;
  } else {  // an odd last block is done twice
    item.block = min(2 * (local - paired) + rank, p.blocks - 1);
  }
  item.first_row = tile * x.width;
  item.rows = min(x.width, s.rows[low] - item.first_row);
  return item;
}

template <class F>
__device__ void produce(const PrefillParams& p, PrefillShared& s, uint8_t* ring, uint32_t rank) {
  constexpr uint16_t kBoth = 3;
  const int32_t items = s.item_start[p.experts];
  int stage = 0, turn = 0;
  uint32_t phase = 0;
  for (int32_t i = static_cast<int32_t>(blockIdx.x) / 2; i < items;
       i += static_cast<int32_t>(gridDim.x) / 2, ++turn) {
    const PrefillItem item = locate(p, s, i, static_cast<int32_t>(rank));
    const int64_t matrix_block = int64_t{item.expert} * p.blocks + item.block;
    const std::byte* weights = p.weights + matrix_block * p.k_steps * F::kBlockStep;
    const int32_t start = s.start[item.expert];
    const uint32_t step_stride =
        static_cast<uint32_t>(s.start[item.expert + 1] - start) * kStepBytes;
    const std::byte* rows =
        p.rows + int64_t{start} * p.k_steps * kStepBytes + int64_t{item.first_row} * kStepBytes;
    const uint32_t groups = static_cast<uint32_t>(item.rows + 7) / 8, group_bytes = 8 * kStepBytes;
    const uint32_t my_group = rank == 0 ? 0 : (groups + 1) / 2,
                   my_groups = rank == 0 ? (groups + 1) / 2 : groups / 2;
    constexpr uint32_t kHalf = F::kBlockStep / 2;
    const uint32_t weight_scales = 4 * (F::kStepScales ? kStepScales * p.k_steps : kBlockRows);
    // An expert's last pair of tiles is the last to read its weights.
    const bool last_use = item.first_row + 2 * kTileMost<F> >= s.rows[item.expert];
    for (int step = 0; step < p.k_steps; ++step) {
      ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
      uint64_t* full = &s.full[stage];
      uint8_t* to = ring + stage * kStageBytes<F>;
      const bool scales = F::kScaled && step == 0;
      if (scales) ptx::mbarrier_wait(&s.scales_empty[turn % 2], (turn / 2 & 1) ^ 1);
      ptx::mbarrier_arrive_expect(
          full, F::kBlockStep + groups * group_bytes + (scales ? weight_scales + groups * 32 : 0));
      if (item.same_weights) {
        if (last_use)
          ptx::bulk_load_once_multicast(to + rank * kHalf, weights + rank * kHalf, kHalf, full,
                                        kBoth);
        else
          ptx::bulk_load_multicast(to + rank * kHalf, weights + rank * kHalf, kHalf, full, kBoth);
        ptx::bulk_load(to + kRowsAt<F>, rows, groups * group_bytes, full);
      } else {
        ptx::bulk_load_once(to, weights, F::kBlockStep, full);
        if (my_groups > 0)
          ptx::bulk_load_multicast(to + kRowsAt<F> + my_group * group_bytes,
                                   rows + my_group * group_bytes, my_groups * group_bytes, full,
                                   kBoth);
      }
      if (scales) {
        ptx::bulk_load(s.weight_scales[turn % 2],
                       p.weight_scales + matrix_block * (weight_scales / 4), weight_scales, full);
        ptx::bulk_load(s.row_scales[turn % 2], p.row_scales + start + item.first_row, groups * 32,
                       full);
      }
      weights += F::kBlockStep;
      rows += step_stride;
      if (++stage == kStages) {
        stage = 0;
        phase ^= 1;
      }
    }
  }
}

// A stage is read by this warpgroup, or by this warp where every thread reads it; told to both
// blocks of the cluster.
template <class F>
constexpr uint32_t kStageReaders = F::kInt4 ? 8 : 2;
template <class F>
__device__ __forceinline__ void release(uint64_t* empty, int thread) {
  if constexpr (F::kInt4) {
    __syncwarp();
    if (thread % 32 < 2) ptx::mbarrier_arrive_at(empty, static_cast<uint32_t>(thread % 32));
  } else {
    if (thread % 128 == 0) ptx::mbarrier_arrive_at(empty, 0);
    if (thread % 128 == 32) ptx::mbarrier_arrive_at(empty, 1);
  }
}

// A step's sums of [64 weight rows] x [kWide rows of the tile from `first` on], added to `sum`
// while the other warpgroup's products run. At most 128 rows at a time: the registers do not hold
// more.
template <class F, int kWide, int kRegs>
__device__ __forceinline__ void promote_part(float (&sum)[kRegs], uint64_t a, uint64_t b, int first,
                                             const float (&channels)[2]) {
  float part[kWide / 2];
  ptx::wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k)
    F::template Wgmma<kWide>::run(part, a + 2 * k, b + first * (kStepBytes / 16) + 2 * k, k != 0);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::wgmma_ready(part);
  promote<F, kWide>(sum, part, first, channels);
}

// `scales`: of a step, this warpgroup's.
template <class F, int N>
__device__ __forceinline__ void promote_step(TileSums<F>& sum, uint64_t a, uint64_t b,
                                             const float* scales) {
  float channels[2] = {1, 1};
  if constexpr (F::kStepScales) channels[0] = scales[0], channels[1] = scales[1];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint64_t tile = a + i * (kTileRows * kStepBytes / 16);
    if constexpr (N > 128) {
      promote_part<F, N / 2>(sum[i], tile, b, 0, channels);
      promote_part<F, N / 2>(sum[i], tile, b, N / 2, channels);
    } else {
      promote_part<F, N>(sum[i], tile, b, 0, channels);
    }
  }
}

template <class F, int N>
__device__ __forceinline__ void multiply_item(TileSums<F>& sum, PrefillShared& s,
                                              const uint8_t* ring, int k_steps, int buffer,
                                              const Fragment& f, int& stage, uint32_t& phase) {
  int previous = -1;
  if constexpr (F::kPromoted) {
#pragma unroll
    for (int j = 0; j < N / 2; ++j) sum[0][j] = sum[1][j] = 0;
  }
  for (int step = 0; step < k_steps; ++step) {
    ptx::mbarrier_wait(&s.full[stage], phase);
    const uint8_t* base = ring + stage * kStageBytes<F>;
    const uint64_t a = ptx::swizzled_descriptor(base + 2 * f.w * (kTileRows * kStepBytes)),
                   b = ptx::swizzled_descriptor(base + kRowsAt<F>);
    if constexpr (F::kPromoted) {
      promote_step<F, N>(sum, a, b, s.weight_scales[buffer] + step * kStepScales + 2 * f.w);
      release<F>(&s.empty[stage], f.thread);
    } else if constexpr (F::kInt4) {
      uint32_t operands[2][4][4];
      unpack_int4(operands, base, f);
      ptx::wgmma_fence();
      multiply_int4_step<N>(sum, operands, b, step == 0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<0>();
      ptx::wgmma_ready(sum[0]);
      ptx::wgmma_ready(sum[1]);
      release<F>(&s.empty[stage], f.thread);
    } else {
      multiply_step<F, N>(sum, a, a + kTileRows * kStepBytes / 16, b, step == 0);
      ptx::wgmma_wait<1>();  // the stage before this one has been read
      if (previous >= 0) release<F>(&s.empty[previous], f.thread);
      previous = stage;
    }
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
  if constexpr (!F::kPromoted && !F::kInt4) {
    ptx::wgmma_wait<0>();
    release<F>(&s.empty[previous], f.thread);
  }
}

template <class F, Product kProduct>
__device__ __forceinline__ void finish(const PrefillParams& p, const PrefillShared& s,
                                       const PrefillItem& item, const Fragment& f, int buffer,
                                       const TileSums<F>& sum) {
  ChannelScales<F> channel{};
  if (F::kScaled) channel.load(s.weight_scales[buffer] + f.first_packed_row());
  const int64_t first = s.start[item.expert] + item.first_row;
  const int column = kProduct == kUp ? kBlockRows / 2 * item.block + f.up_column()
                                     : kBlockRows * item.block + f.down_column();
#pragma unroll
  for (int j = 0; j < kTileMost<F> / 8; ++j) {
    if (8 * j >= item.rows) break;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const int n = 8 * j + 2 * f.c + t;
      const bool used = n < item.rows;
      const typename F::Sum mine[2][2] = {{sum[0][4 * j + t], sum[0][4 * j + 2 + t]},
                                          {sum[1][4 * j + t], sum[1][4 * j + 2 + t]}};
      float v[2][2];
      scale_sums<F>(mine, channel, F::kScaled ? s.row_scales[buffer][n] : 1.0f, v);
      if constexpr (kProduct == kUp) {
        const uint32_t h = activate(v);
        if constexpr (F::kScaled) {
          if (used)
            __stcs(reinterpret_cast<uint32_t*>(p.out + (first + n) * p.out_stride + column), h);
        } else if (used) {
          const int32_t start = s.start[item.expert], byte = 2 * column;
          std::byte* tile =
              p.h_tiles + int64_t{start} * p.h_steps * kStepBytes +
              int64_t{byte / kStepBytes} * (s.start[item.expert + 1] - start) * kStepBytes;
          if (byte < p.h_steps * kStepBytes)
            *reinterpret_cast<uint32_t*>(
                tile + swizzled_offset(item.first_row + n, byte % kStepBytes)) = h;
        }
      } else if (used && column < p.out_columns) {
        __stcs(reinterpret_cast<uint2*>(p.out + (first + n) * p.out_stride + column),
               make_uint2(pack_bf16x2(v[0][0], v[0][1]), pack_bf16x2(v[1][0], v[1][1])));
      }
    }
  }
}

template <class F, Product kProduct>
__device__ void multiply(const PrefillParams& p, PrefillShared& s, const uint8_t* ring,
                         uint32_t rank) {
  const Fragment f(static_cast<int>(threadIdx.x) - 128);
  const int32_t items = s.item_start[p.experts];
  int stage = 0, turn = 0;
  uint32_t phase = 0;
  for (int32_t i = static_cast<int32_t>(blockIdx.x) / 2; i < items;
       i += static_cast<int32_t>(gridDim.x) / 2, ++turn) {
    const PrefillItem item = locate(p, s, i, static_cast<int32_t>(rank));
    TileSums<F> sum;
    auto run = [&]<int N>() {
      multiply_item<F, N>(sum, s, ring, p.k_steps, turn % 2, f, stage, phase);
    };
    if (item.rows > 128) {
      if constexpr (kTileMost < F >> 144) {
        if (item.rows > 144)
          run.template operator()<160>();
        else
          run.template operator()<144>();
      } else {
        run.template operator()<144>();
      }
    } else if (item.rows > 96) {
      if (item.rows > 112)
        run.template operator()<128>();
      else
        run.template operator()<112>();
    } else if (item.rows > 64) {
      run.template operator()<96>();
    } else if (item.rows > 32) {
      run.template operator()<64>();
    } else {
      run.template operator()<32>();
    }
    finish<F, kProduct>(p, s, item, f, turn % 2, sum);
    if (F::kScaled) {
      ptx::named_barrier(1 + f.w, 128);  // this warpgroup has read its scales
      if (f.thread % 128 == 0) ptx::mbarrier_arrive(&s.scales_empty[turn % 2]);
    }
  }
}

// First item of every expert by a running sum. Warp 0.
__device__ inline void scan_items(const PrefillParams& p, PrefillShared& s, int lane) {
  int32_t carry = 0;
  for (int base = 0; base < p.experts; base += 32) {
    const int e = base + lane;
    const int32_t mine = e < p.experts ? ExpertTiles(s.rows[e], p.tile_most).items(p.blocks) : 0;
    int32_t sum = mine;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int32_t v = __shfl_up_sync(0xffffffffu, sum, d);
      if (lane >= d) sum += v;
    }
    if (e < p.experts) s.item_start[e] = carry + sum - mine;
    carry += __shfl_sync(0xffffffffu, sum, 31);
  }
  if (lane == 0) s.item_start[p.experts] = carry;
}

template <class F, Product kProduct>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_kernel(const __grid_constant__ PrefillParams p) {
  extern __shared__ uint8_t dynamic[];
  __shared__ PrefillShared s;
  uint8_t* ring = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  const int thread = static_cast<int>(threadIdx.x);
  const uint32_t rank = ptx::cluster_rank();
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(&s.full[i], 1);
      ptx::mbarrier_init(&s.empty[i], 2 * kStageReaders<F>);  // of two blocks
    }
    for (auto& b : s.scales_empty) ptx::mbarrier_init(&b, 2);
    ptx::fence_barrier_init();
  }
  ptx::wait_for_previous_kernel();
  ptx::allow_next_kernel();
  for (int e = thread; e <= p.experts; e += kThreads) {
    s.start[e] = __ldcg(p.expert_start + e);
    if (e < p.experts) s.rows[e] = __ldcg(p.expert_rows + e);
  }
  __syncthreads();
  if (thread < 32) scan_items(p, s, thread);
  __syncthreads();
  ptx::cluster_sync();  // the other block's barriers exist
  if (thread < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (thread == 0) produce<F>(p, s, ring, rank);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    multiply<F, kProduct>(p, s, ring, rank);
  }
  __syncwarp();
  ptx::cluster_sync();  // neither block ends while the other may still write to it
}

template <class F, Product kProduct>
Status set_limit() {
  return cuda_status(
      cudaFuncSetAttribute(prefill_kernel<F, kProduct>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           kRingBytes<F>),
      "shared memory of the prefill kernel");
}

}  // namespace

template <class F>
Status prepare_prefill() {
  MOESTRO_TRY((set_limit<F, kUp>()));
  return set_limit<F, kDown>();
}

template <class F>
Status launch_prefill(Product product, const DeviceMoeShape& s, int32_t num_sms,
                      const DeviceMoeWeights& weights, const MoeWorkspace& w, CUstream_st* stream) {
  const MoeSizes z = moe_sizes(s);
  const bool up = product == kUp;
  const DeviceMatrix& m = up ? z.up : z.down;
  PrefillParams p{};
  p.weights = static_cast<const std::byte*>(up ? weights.gate_up : weights.down);
  p.weight_scales = up ? weights.gate_up_scales : weights.down_scales;
  p.rows = up ? w.x_rows : w.h_rows;
  p.row_scales = up ? w.x_scale : w.h_scale;
  p.expert_start = w.expert_start;
  p.expert_rows = w.expert_rows;
  p.out = up ? w.h : w.y;
  p.h_tiles = w.h_rows;
  p.experts = s.experts;
  p.blocks = m.blocks();
  p.k_steps = m.k_steps();
  p.out_stride = p.out_columns = up ? z.h_stride : s.hidden;
  p.h_steps = z.inter_steps;
  p.tile_most = kTileMost<F>;
  const LaunchSize size{
      .grid = num_sms / 2 * 2, .block = kThreads, .shared_bytes = kRingBytes<F>, .cluster = 2};
  return up ? launch_dependent("prefill gate_up", prefill_kernel<F, kUp>, size, stream, p)
            : launch_dependent("prefill down", prefill_kernel<F, kDown>, size, stream, p);
}

}  // namespace moestro::kernels::cuda
