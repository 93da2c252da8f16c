// What every thread of the decode kernel knows of its work: which rows a group has, where they lie.
// Device code only.
#pragma once
#include "kernels/cuda/decode_shared.cuh"

namespace moestro::kernels::cuda {
namespace {

// Where a reader of the ring is. Rows of h come in phases of their own, a bit a stage.
struct Ring {
  int stage = 0;
  uint32_t phase = 0, h_phases = 0;
};

struct DownSteps;
template <class F>
struct ResidentRows;
struct CombineTask;
struct SlotParts;

template <class F, int N, bool kResident>
struct Decode {
  using Sum = typename F::Sum;
  static constexpr int kStage = kStageBytes<F, N>;
  static constexpr int kPart = kBlockRows * N;  // words
  // Sums of a step start in registers of their own and are added after: sums in float32 that run on
  // across a loop make ptxas serialise the products (C7514, C7520).
  static constexpr bool kFreshSums = std::is_same_v<Sum, float>;
  // Warps that write rows of h of a stage.
  static constexpr int kQuantiseArrivals = kResident ? kQuantiseWarps : 1;

  const DecodeParams& p;
  DecodeShared<F, N, kResident>& s;
  uint8_t* x_rows;  // resident only
  uint8_t* ring;
  // Arrivals that free a stage: a thread a warpgroup, or a lane a warp where every thread reads it.
  static constexpr int kReleases = F::kInt4 ? kMathThreads / 32 : 2;

  __device__ DecodeSchedule schedule(int product) const {
    if constexpr (kResident)
      return {nullptr, s.map.groups, s.map.groups, p.blocks[product], p.k_steps[product]};
    else
      return {s.map.tile_start, p.rules.experts, s.map.tile_start[p.rules.experts],
              p.blocks[product], p.k_steps[product]};
  }
  __device__ int32_t expert(const DecodeItem& item) const {
    if constexpr (kResident)
      return s.map.expert[item.group];
    else
      return item.group;
  }
  __device__ int32_t first_row(const DecodeItem& item) const {
    if constexpr (kResident)
      return 8 * item.group;
    else
      return s.map.start[item.group] + item.tile * N;
  }
  __device__ int32_t num_rows(const DecodeItem& item) const {
    if constexpr (kResident)
      return s.map.tokens;
    else
      return min(N, s.map.rows[item.group] - item.tile * N);
  }
  __device__ bool used(const DecodeItem& item, int rows, int n) const {
    if constexpr (kResident)
      return s.map.tokens_of[item.group] >> n & 1;
    else
      return n < rows;
  }
  __device__ uint32_t tokens_of(const DecodeItem& item) const {
    return s.map.tokens_of[item.group];
  }
  __device__ uint16_t* h() const {
    if constexpr (kResident)
      return p.w.h_set + s.map.set * p.rows * p.h_stride;
    else
      return p.w.h;
  }
  __device__ float* h_scale(int32_t row) const {
    return p.w.h_scale_set + s.map.set * p.rows + row;
  }

  __device__ void clear_other_set(int thread) const;
  __device__ void clear_out_unless_hit(int math_thread) const;
  __device__ void produce();
  // decode_h.cuh
  __device__ DownSteps first_of_down() const;
  __device__ void wait_for_group(int32_t group) const;
  __device__ void quantise_step(const DecodeItem& item, int step, int stage, uint32_t phase);
  __device__ void quantise_h(int quantise_warp);
  __device__ void read_resident_rows(const DecodeItem& item, int turn, ResidentRows<F>& mine);
  __device__ void put_resident_rows(const DecodeItem& item, int step, int stage, uint32_t phase,
                                    const ResidentRows<F>& mine, bool first_held, uint4 first);
  __device__ void quantise_resident_h(int quantise_warp);
  __device__ void stream_resident_h(int quantise_warp);
  __device__ void release(int stage, int math_thread) const;
  __device__ void multiply_item_step(int product, const Fragment& f, const DecodeItem& item,
                                     int step, int stage, int buffer, int& previous,
                                     Sum (&sum)[2][N / 2]);
  __device__ void wait_for_stage(int product, Ring& at);
  template <int kSteps>
  __device__ void multiply_int4_steps(int product, const Fragment& f, int step, bool first,
                                      Ring& at, Sum (&sum)[2][N / 2]);
  __device__ void multiply(int product, int math_thread, Ring& at, int& items);
  // decode_sums.cuh
  __device__ void store_part(uint32_t* to, const DecodeItem& item, const Fragment& f, int rows,
                             const Sum (&sum)[2][N / 2]);
  __device__ bool merge(const DecodeSchedule& line, const DecodeItem& item, int product,
                        const Fragment& f, int rows, Sum (&sum)[2][N / 2]);
  __device__ void finish_up(const DecodeItem& item, const Fragment& f, int rows, int buffer,
                            const Sum (&sum)[2][N / 2]);
  __device__ void finish_down(const DecodeItem& item, const Fragment& f, int rows, int buffer,
                              const Sum (&sum)[2][N / 2]);
  // decode_combine.cuh
  __device__ SlotParts slot_parts(const DecodeSchedule& line, const CombineTask& t, int slot) const;
  __device__ void sum_slots(const DecodeSchedule& line, const CombineTask& t, int slot, float* y);
  __device__ void combine(int math_thread, float* y);
};

__device__ __forceinline__ void advance(int& stage, uint32_t& phase, int stages) {
  if (++stage == stages) {
    stage = 0;
    phase ^= 1;
  }
}

// This warpgroup, or this warp, has read a stage.
template <class F, int N, bool kResident>
__device__ __forceinline__ void Decode<F, N, kResident>::release(int stage, int math_thread) const {
  if constexpr (F::kInt4) __syncwarp();
  if (math_thread % (kMathThreads / kReleases) == 0) ptx::mbarrier_arrive(&s.empty[stage]);
}

// The other set is set back for the launch after this one. 96 threads.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::clear_other_set(int thread) const {
  const uint32_t first = blockIdx.x * 96 + static_cast<uint32_t>(thread), stride = gridDim.x * 96;
  const uint32_t rows = static_cast<uint32_t>(p.rows), tokens = static_cast<uint32_t>(p.max_tokens),
                 per_row = static_cast<uint32_t>(p.h_stride) / 8;
  const int64_t other = (s.map.set ^ 1) * p.rows;
  uint32_t* h = reinterpret_cast<uint32_t*>(p.w.h_set + other * p.h_stride);
  for (uint32_t i = first; i < rows / 8 * tokens * per_row; i += stride) {
    const uint32_t row = i / per_row;
    set_back(h + 4 * ((8 * (row / tokens) + row % tokens) * per_row + i % per_row));
  }
  uint32_t* scales = reinterpret_cast<uint32_t*>(p.w.h_scale_set) + other;
  for (uint32_t i = first; i < rows; i += stride) scales[i] = kNotYet;
}

// Tokens none of whose experts are ours, and no block of columns to add them up.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::clear_out_unless_hit(int math_thread) const {
  if constexpr (kResident) {
    if (s.map.groups != 0) return;
    uint4* out = static_cast<uint4*>(p.in.out);
    for (int i = static_cast<int>(blockIdx.x) * kMathThreads + math_thread;
         i < s.map.tokens * (p.hidden / 8); i += static_cast<int>(gridDim.x) * kMathThreads)
      out[i] = make_uint4(0, 0, 0, 0);
  }
}

}  // namespace
}  // namespace moestro::kernels::cuda
