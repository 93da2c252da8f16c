// h on its way from gate_up to down in the decode kernel: waited for, quantised, put into the ring.
// Device code only.
#pragma once
#include "kernels/cuda/decode_work.cuh"

namespace moestro::kernels::cuda {
namespace {

// Rows of h of the steps of down, by three warps, in the order of the schedule.
struct DownSteps {
  int stage, items;
  uint32_t phase;
};

template <class F, int N, bool kResident>
__device__ DownSteps Decode<F, N, kResident>::first_of_down() const {
  DecodeSchedule up = schedule(kUp);
  DecodeItem item;
  int items = 0;
  const uint32_t before = up.steps(), stages = static_cast<uint32_t>(p.stages);
  while (up.next(item)) ++items;
  return {static_cast<int>(before % stages), items, before / stages & 1};
}

// Until h of all rows of a group is written. A warp.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::wait_for_group(int32_t group) const {
  if constexpr (!kResident) {
    const uint32_t blocks =
        static_cast<uint32_t>(s.map.tile_start[group + 1] - s.map.tile_start[group]) *
        static_cast<uint32_t>(p.blocks[kUp]);
    if (threadIdx.x % 32 == 0) {
      uint32_t spins = 0, done;
      do {
        asm volatile("ld.acquire.gpu.u32 %0, [%1];"
                     : "=r"(done)
                     : "l"(p.w.up_done + group)
                     : "memory");
        if (++spins > 200'000'000u) __trap();
      } while (done != blocks);
    }
    __syncwarp();
  }
}

// One step's rows of a tile to its stage. A warp.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::quantise_step(const DecodeItem& item, int step, int stage,
                                                       uint32_t phase) {
  constexpr int kAtOnce = N >= 32 ? 4 : 2;
  const int lane = threadIdx.x % 32, rows = num_rows(item), first = first_row(item);
  const float* absmax = p.w.h_absmax + first;
  uint8_t* to = ring + stage * kStage + kRowsAt<F>;
  for (int base = 0; base < rows * 8; base += 32 * kAtOnce) {
    uint4 v[kAtOnce][F::kLoads];
    float most[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int piece = base + 32 * i + lane, n = piece / 8;
      if (n >= rows) continue;
      const uint4* from = reinterpret_cast<const uint4*>(p.w.h + int64_t{first + n} * p.h_stride +
                                                         (step * 8 + piece % 8) * (8 * F::kLoads));
      most[i] = F::kScaled ? __ldcg(absmax + n) : 1.0f;
#pragma unroll
      for (int l = 0; l < F::kLoads; ++l) v[i][l] = __ldcg(from + l);
    }
    if (base == 0) ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int piece = base + 32 * i + lane, n = piece / 8;
      if (n < rows)
        *reinterpret_cast<uint4*>(to + swizzled_offset(n, piece % 8 * 16)) =
            F::piece(v[i], inverse_of(row_scale_of<F>(most[i])));
    }
  }
}

template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::quantise_h(int quantise_warp) {
  const int lane = threadIdx.x % 32;
  auto [stage, items, phase] = first_of_down();
  DecodeSchedule line = schedule(kDown);
  DecodeItem item;
  int ready = -1, turn = 0;           // the group whose h is known to be complete
  ptx::mbarrier_wait(&s.up_over, 0);  // before it, stages could be more than one round behind
  for (; line.next(item); ++items) {
    for (int step = item.step; step < item.step_end; ++step) {
      if (turn++ % kQuantiseWarps == quantise_warp) {
        if (ready != item.group) wait_for_group(item.group);
        ready = item.group;
        quantise_step(item, step, stage, phase);
        if (F::kScaled && step == item.step) {
          const int buffer = items % 2;
          ptx::mbarrier_wait(&s.scales_empty[buffer], (items / 2 & 1) ^ 1);
          for (int n = lane; n < num_rows(item); n += 32)
            s.row_scales[buffer][n] = row_scale_of<F>(__ldcg(p.w.h_absmax + first_row(item) + n));
        }
        ptx::fence_shared_writes();
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(&s.h_ready[stage]);
      }
      advance(stage, phase, p.stages);
    }
  }
}

// Tokens of a group that one warp takes: every third. A row is read whole, for its scale.
template <class F>
struct ResidentRows {
  static constexpr int kPerStep = kStepBytes / F::kValueBytes / 8;  // eights of values
  static constexpr int kHeld = 8, kMine = 3, kSteps = 32 / kPerStep;
  int token[kMine];  // -1: none
  float inverse[kMine];
  uint4 held[kHeld];  // of the first token: the first 256 eights, 32 i + lane
};

// Waits for the rows of this warp's tokens of a group, and finds and publishes their scales.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::read_resident_rows(const DecodeItem& item, int turn,
                                                            ResidentRows<F>& mine) {
  using R = ResidentRows<F>;
  const int lane = threadIdx.x % 32, eights = p.k_steps[kDown] * R::kPerStep;
#pragma unroll
  for (int m = 0; m < R::kMine; ++m) mine.token[m] = -1;
  uint32_t left = tokens_of(item);
  for (int i = 0; left; left &= left - 1, ++i) {
#pragma unroll
    for (int m = 0; m < R::kMine; ++m)
      if (i == kQuantiseWarps * m + turn) mine.token[m] = __ffs(static_cast<int>(left)) - 1;
  }
#pragma unroll
  for (int m = R::kMine - 1; m >= 0; --m) {  // the first last: its row is held
    if (mine.token[m] < 0) continue;
    const int32_t row_index = first_row(item) + mine.token[m];
    const uint4* row = reinterpret_cast<const uint4*>(h() + int64_t{row_index} * p.h_stride);
    float absmax = 0;
    for (int base = 0; base < eights; base += 32 * R::kHeld) {
      uint4 v[R::kHeld];
#pragma unroll
      for (int i = 0; i < R::kHeld; ++i) {
        const int c = base + 32 * i + lane;
        v[i] = c < eights ? load_now(row + c) : make_uint4(0, 0, 0, 0);
      }
      until_written(v, R::kHeld, [&](int i) { return row + base + 32 * i + lane; });
#pragma unroll
      for (int i = 0; i < R::kHeld; ++i) {
        if (F::kScaled) absmax = fmaxf(absmax, absmax8(v[i]));
        if (base == 0) mine.held[i] = v[i];
      }
    }
    if (F::kScaled) {
      const float scale = row_scale_of<F>(warp_max(absmax));
      mine.inverse[m] = inverse_of(scale);
      if (lane == 0) __stcg(h_scale(row_index), scale);
    }
  }
}

// One step of them to its stage; `first` is the first token's, if it is held.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::put_resident_rows(const DecodeItem& item, int step,
                                                           int stage, uint32_t phase,
                                                           const ResidentRows<F>& mine,
                                                           bool first_held, uint4 first) {
  using R = ResidentRows<F>;
  const int lane = threadIdx.x % 32, in_step = lane % R::kPerStep;
  ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
  uint8_t* to = ring + stage * kStage + kRowsAt<F>;
#pragma unroll
  for (int m = 0; m < R::kMine; ++m) {
    if (mine.token[m] < 0) continue;
    const bool from_held = m == 0 && first_held;
    if (lane / R::kPerStep != (from_held ? step % R::kSteps : 0)) continue;
    const uint4* row =
        reinterpret_cast<const uint4*>(h() + int64_t{first_row(item) + mine.token[m]} * p.h_stride);
    const uint4* from = row + step * R::kPerStep + in_step;
    uint4 v[1] = {from_held ? first : load_now(from)};
    // Another lane of this warp has waited for these words, which orders nothing for this lane.
    until_written(v, 1, [&](int) { return from; });
    const auto q = F::eight(v[0], mine.inverse[m]);
    *reinterpret_cast<std::remove_const_t<decltype(q)>*>(
        to + swizzled_offset(mine.token[m], in_step * (8 * F::kValueBytes))) = q;
  }
  ptx::fence_shared_writes();
  __syncwarp();
  if (lane == 0) ptx::mbarrier_arrive(&s.h_ready[stage]);
}

template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::quantise_resident_h(int quantise_warp) {
  using R = ResidentRows<F>;
  auto [stage, items, phase] = first_of_down();
  DecodeSchedule line = schedule(kDown);
  DecodeItem item;
  bool up_over = false;
  for (; line.next(item); ++items) {
    R mine;
    // In turn, so that single tokens of successive groups are waited for side by side.
    read_resident_rows(item, (quantise_warp + items) % kQuantiseWarps, mine);
    if (!up_over) ptx::mbarrier_wait(&s.up_over, 0);  // before it, stages are rounds behind
    up_over = true;
    const bool held = p.k_steps[kDown] * R::kPerStep <= 32 * R::kHeld;
    if (held) {
#pragma unroll
      for (int i = 0; i < R::kHeld; ++i)
        for (int step = max(item.step, i * R::kSteps);
             step < min(item.step_end, (i + 1) * R::kSteps); ++step) {
          put_resident_rows(item, step, stage, phase, mine, true, mine.held[i]);
          advance(stage, phase, p.stages);
        }
    } else {
      for (int step = item.step; step < item.step_end; ++step) {
        put_resident_rows(item, step, stage, phase, mine, false, mine.held[0]);
        advance(stage, phase, p.stages);
      }
    }
  }
}

// Rows that need no scale: a step's words are waited for when they are needed, some steps at once.
// A token's step is kLanes lanes' eights.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::stream_resident_h(int quantise_warp) {
  constexpr int kLanes = kStepBytes / F::kValueBytes / 8, kTokens = 32 / kLanes,
                kPasses = ceil_div(ceil_div(8, kQuantiseWarps), kTokens), kSteps = 4;
  const int lane = threadIdx.x % 32, in_step = lane % kLanes;
  auto [stage, items, phase] = first_of_down();
  DecodeSchedule line = schedule(kDown);
  DecodeItem item;
  bool up_over = false;
  for (; line.next(item); ++items) {
    int token[kPasses];  // of this lane: every third of the group's; -1: none
    const uint4* row[kPasses];
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      uint32_t left = tokens_of(item);
      const int before =
          kQuantiseWarps * (kTokens * i + lane / kLanes) + (quantise_warp + items) % kQuantiseWarps;
      for (int j = 0; j < before; ++j) left &= left - 1;
      token[i] = __ffs(static_cast<int>(left)) - 1;
      row[i] = reinterpret_cast<const uint4*>(h() + int64_t{first_row(item) + max(0, token[i])} *
                                                        p.h_stride) +
               in_step;
    }
    for (int first = item.step; first < item.step_end; first += kSteps) {
      uint4 v[kSteps * kPasses];
      auto from = [&](int i) { return row[i % kPasses] + (first + i / kPasses) * kLanes; };
#pragma unroll
      for (int i = 0; i < kSteps * kPasses; ++i)
        v[i] = token[i % kPasses] >= 0 && first + i / kPasses < item.step_end
                   ? load_now(from(i))
                   : make_uint4(0, 0, 0, 0);
      until_written(v, kSteps * kPasses, from);
      __syncwarp();
      if (!up_over) ptx::mbarrier_wait(&s.up_over, 0);  // before it, stages are rounds behind
      up_over = true;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        if (first + k >= item.step_end) break;
        ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
        uint8_t* to = ring + stage * kStage + kRowsAt<F>;
#pragma unroll
        for (int i = 0; i < kPasses; ++i) {
          if (token[i] < 0) continue;
          *reinterpret_cast<uint4*>(to + swizzled_offset(token[i], in_step * 16)) =
              F::eight(v[k * kPasses + i], 1.0f);
        }
        ptx::fence_shared_writes();
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(&s.h_ready[stage]);
        advance(stage, phase, p.stages);
      }
    }
  }
}

}  // namespace
}  // namespace moestro::kernels::cuda
