// The decode kernel itself (decode.cuh); each format is one translation unit: decode_<format>.cu.
#pragma once
#include "kernels/cuda/decode.cuh"

#include <algorithm>

#include "kernels/cuda/decode_shared.cuh"

namespace moestro::kernels::cuda {
namespace {

// One kernel's view of its work: which rows a group has, where they lie.
template <class F, int N, bool kResident>
struct Decode {
  using Sum = typename F::Sum;
  static constexpr int kStage = kStageBytes<N>;
  // Warps that write rows of h of a stage.
  static constexpr int kQuantiseArrivals = kResident ? kQuantiseWarps : 1;

  const DecodeParams& p;
  DecodeShared<N, kResident>& s;
  uint8_t* x_rows;  // resident only
  uint8_t* ring;

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
  __device__ void quantise_h(int quantise_warp);
  __device__ void quantise_resident_h(int quantise_warp);
  __device__ void multiply(int product, int math_thread, int& stage, uint32_t& phase, int& items);
  __device__ void store_part(uint32_t* to, const DecodeItem& item, const Fragment& f, int rows,
                             const Sum (&sum)[2][N / 2]);
  __device__ bool merge(const DecodeSchedule& line, const DecodeItem& item, int product,
                        const Fragment& f, int rows, Sum (&sum)[2][N / 2]);
  __device__ void finish_up(const DecodeItem& item, const Fragment& f, int rows, int buffer,
                            const Sum (&sum)[2][N / 2]);
  __device__ void finish_down(const DecodeItem& item, const Fragment& f, int rows, int buffer,
                              const Sum (&sum)[2][N / 2]);
  __device__ void combine(int math_thread, float* y);
};

__device__ __forceinline__ void advance(int& stage, uint32_t& phase, int stages) {
  if (++stage == stages) {
    stage = 0;
    phase ^= 1;
  }
}

// The other set is set back for the launch after this one. 96 threads.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::clear_other_set(int thread) const {
  const int64_t first = int64_t{blockIdx.x} * 96 + thread, stride = int64_t{gridDim.x} * 96;
  const int64_t per_row = p.h_stride / 8, other = s.map.set ^ 1;
  uint4* h = reinterpret_cast<uint4*>(p.w.h_set + other * p.rows * p.h_stride);
  for (int64_t i = first; i < p.rows / 8 * p.max_tokens * per_row; i += stride) {
    const int64_t row = i / per_row, g = row / p.max_tokens, n = row % p.max_tokens;
    __stcg(h + (8 * g + n) * per_row + i % per_row, make_uint4(kNotYet, kNotYet, kNotYet, kNotYet));
  }
  uint32_t* scales = reinterpret_cast<uint32_t*>(p.w.h_scale_set) + other * p.rows;
  for (int64_t i = first; i < p.rows; i += stride) scales[i] = kNotYet;
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
          p.weights[product] + (matrix_block * k_steps + item.step) * kBlockStepBytes;
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
        if (asked++ >= min(kInFlight, p.stages)) {
          ptx::mbarrier_wait(&s.landed[oldest], oldest_phase);
          advance(oldest, oldest_phase, p.stages);
        }
        ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
        uint8_t* to = ring + stage * kStage;
        const bool scales = F::kScaled && step == item.step;
        const uint32_t row_scales = scales && load_rows ? rows_bytes / kStepBytes * 4 : 0;
        if (scales) ptx::mbarrier_wait(&s.scales_empty[buffer], (items / 2 & 1) ^ 1);
        ptx::mbarrier_arrive_expect(&s.landed[stage],
                                    kBlockStepBytes + (load_rows ? rows_bytes : 0) +
                                        (scales ? 4 * kBlockRows : 0) + row_scales);
        ptx::bulk_load_once(to, weights, kBlockStepBytes, &s.landed[stage]);
        if (scales) {
          ptx::bulk_load(s.weight_scales[buffer],
                         p.weight_scales[product] + matrix_block * kBlockRows, 4 * kBlockRows,
                         &s.landed[stage]);
          if (load_rows)
            ptx::bulk_load(s.row_scales[buffer], p.w.x_scale + first_row(item), row_scales,
                           &s.landed[stage]);
        }
        if (load_rows) ptx::bulk_load(to + kBlockStepBytes, rows, rows_bytes, &s.landed[stage]);
        weights += kBlockStepBytes;
        rows += step_stride;
        advance(stage, phase, p.stages);
      }
    }
  }
}

// The rows of h of every step of down, by three warps in turn.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::quantise_h(int quantise_warp) {
  if constexpr (!kResident) {
    const int lane = threadIdx.x % 32;
    DecodeSchedule up = schedule(kUp);
    DecodeItem item;
    int items = 0;
    const uint32_t before = up.steps();
    while (up.next(item)) ++items;
    int stage = static_cast<int>(before % p.stages);
    uint32_t phase = before / p.stages & 1;
    DecodeSchedule line = schedule(kDown);
    int ready = -1, turn = 0;           // the group whose h is known to be complete
    ptx::mbarrier_wait(&s.up_over, 0);  // before it, stages could be more than one round behind
    for (; line.next(item); ++items) {
      const int rows = num_rows(item), first = first_row(item), buffer = items % 2;
      const float* absmax = p.w.h_absmax + first;
      for (int step = item.step; step < item.step_end; ++step) {
        if (turn++ % kQuantiseWarps == quantise_warp) {
          if (ready != item.group) {
            const uint32_t blocks = static_cast<uint32_t>(s.map.tile_start[item.group + 1] -
                                                          s.map.tile_start[item.group]) *
                                    p.blocks[kUp];
            if (lane == 0) {
              uint32_t spins = 0, done;
              do {
                asm volatile("ld.acquire.gpu.u32 %0, [%1];"
                             : "=r"(done)
                             : "l"(p.w.up_done + item.group)
                             : "memory");
                if (++spins > 200'000'000u) __trap();
              } while (done != blocks);
            }
            __syncwarp();
            ready = item.group;
          }
          constexpr int kAtOnce = N >= 32 ? 4 : 2;
          uint8_t* to = ring + stage * kStage + kBlockStepBytes;
          for (int base = 0; base < rows * 8; base += 32 * kAtOnce) {
            uint4 v[kAtOnce][F::kLoads];
            float most[kAtOnce];
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
              const int piece = base + 32 * i + lane, n = piece / 8;
              if (n < rows) {
                const uint4* from =
                    reinterpret_cast<const uint4*>(p.w.h + int64_t{first + n} * p.h_stride +
                                                   (step * 8 + piece % 8) * (8 * F::kLoads));
                most[i] = F::kScaled ? __ldcg(absmax + n) : 1.0f;
#pragma unroll
                for (int l = 0; l < F::kLoads; ++l) v[i][l] = __ldcg(from + l);
              }
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
          if (F::kScaled && step == item.step) {
            ptx::mbarrier_wait(&s.scales_empty[buffer], (items / 2 & 1) ^ 1);
            for (int n = lane; n < rows; n += 32)
              s.row_scales[buffer][n] = row_scale_of<F>(__ldcg(absmax + n));
          }
          ptx::fence_shared_writes();
          __syncwarp();
          if (lane == 0) ptx::mbarrier_arrive(&s.h_ready[stage]);
        }
        advance(stage, phase, p.stages);
      }
    }
  }
}

// The same for resident tokens, as soon as their rows of h are written: each warp takes every third
// token of a group, and all of its row, for the row's scale.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::quantise_resident_h(int quantise_warp) {
  if constexpr (kResident) {
    const int lane = threadIdx.x % 32;
    constexpr int kPerStep = kStepBytes / F::kValueBytes / 8;  // eights of values
    constexpr int kHeld = 8, kMine = 3, kSteps = 32 / kPerStep;
    const int eights = p.k_steps[kDown] * kPerStep;
    const uint32_t before = schedule(kUp).steps();
    int stage = static_cast<int>(before % p.stages);
    uint32_t phase = before / p.stages & 1;
    DecodeSchedule line = schedule(kDown);
    DecodeItem item;
    bool up_over = false;
    while (line.next(item)) {
      int mine[kMine] = {-1, -1, -1};
      float inverse[kMine] = {};
      uint32_t left = s.map.tokens_of[item.group];
      for (int i = 0; left; left &= left - 1, ++i) {
#pragma unroll
        for (int m = 0; m < kMine; ++m)
          if (i == kMine * m + quantise_warp) mine[m] = __ffs(static_cast<int>(left)) - 1;
      }
      const uint16_t* rows = h() + int64_t{8 * item.group} * p.h_stride;
      uint4 held[kHeld];  // of the first token: the first 256 eights
#pragma unroll
      for (int m = kMine - 1; m >= 0; --m) {
        if (mine[m] < 0) continue;
        const uint4* row = reinterpret_cast<const uint4*>(rows + mine[m] * p.h_stride);
        float absmax = 0;
        for (int base = 0; base < eights; base += 32 * kHeld) {
          uint4 v[kHeld];
#pragma unroll
          for (int i = 0; i < kHeld; ++i) {
            const int c = base + 32 * i + lane;
            v[i] = c < eights ? load_now(row + c) : make_uint4(0, 0, 0, 0);
          }
          until_written(v, kHeld, [&](int i) { return row + base + 32 * i + lane; });
#pragma unroll
          for (int i = 0; i < kHeld; ++i) {
            if (F::kScaled) absmax = fmaxf(absmax, absmax8(v[i]));
            if (base == 0) held[i] = v[i];
          }
        }
        if (F::kScaled) {
          const float scale = row_scale_of<F>(warp_max(absmax));
          inverse[m] = inverse_of(scale);
          if (lane == 0) __stcg(h_scale(8 * item.group + mine[m]), scale);
        }
      }
      if (!up_over) ptx::mbarrier_wait(&s.up_over, 0);  // before it, stages are rounds behind
      up_over = true;
      auto put = [&](int step, bool first_held, uint4 first) {
        ptx::mbarrier_wait(&s.empty[stage], phase ^ 1);
        uint8_t* to = ring + stage * kStage + kBlockStepBytes;
#pragma unroll
        for (int m = 0; m < kMine; ++m) {
          if (mine[m] < 0) continue;
          const bool from_held = m == 0 && first_held;
          const int c = step * kPerStep + lane % kPerStep;
          if (lane / kPerStep != (from_held ? step % kSteps : 0)) continue;
          const uint4 v =
              from_held ? first
                        : load_now(reinterpret_cast<const uint4*>(rows + mine[m] * p.h_stride) + c);
          const auto q = F::eight(v, inverse[m]);
          *reinterpret_cast<std::remove_const_t<decltype(q)>*>(
              to + swizzled_offset(mine[m], lane % kPerStep * (8 * F::kValueBytes))) = q;
        }
        ptx::fence_shared_writes();
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(&s.h_ready[stage]);
        advance(stage, phase, p.stages);
      };
      if (eights <= 32 * kHeld) {
#pragma unroll
        for (int i = 0; i < kHeld; ++i)
          for (int step = max(item.step, i * kSteps); step < min(item.step_end, (i + 1) * kSteps);
               ++step)
            put(step, true, held[i]);
      } else {
        for (int step = item.step; step < item.step_end; ++step) put(step, false, held[0]);
      }
    }
  }
}

// Row 0..rows-1 of a part: 256 channels each, a thread's four neighbours 16 bytes.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::store_part(uint32_t* to, const DecodeItem& item,
                                                    const Fragment& f, int rows,
                                                    const Sum (&sum)[2][N / 2]) {
#pragma unroll
  for (int j = 0; j < N / 8; ++j)
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const int n = 8 * j + 2 * f.c + t;
      if (!used(item, rows, n)) continue;
      __stcg(reinterpret_cast<uint4*>(to + n * kBlockRows + f.down_column()),
             make_uint4(to_word(sum[0][4 * j + t]), to_word(sum[0][4 * j + 2 + t]),
                        to_word(sum[1][4 * j + t]), to_word(sum[1][4 * j + 2 + t])));
    }
}

// A block that several spans share: every span but the first stores its part, with which it began;
// the first adds them to its own, in order, and sets them back. False: not the first.
template <class F, int N, bool kResident>
__device__ bool Decode<F, N, kResident>::merge(const DecodeSchedule& line, const DecodeItem& item,
                                               int product, const Fragment& f, int rows,
                                               Sum (&sum)[2][N / 2]) {
  const uint32_t first = line.first_span(item.unit), last = line.last_span(item.unit);
  auto part = [&](uint32_t span) { return p.w.parts[product] + span * (kBlockRows * N); };
  if (blockIdx.x != first) {
    store_part(part(blockIdx.x), item, f, rows, sum);
    return false;
  }
  constexpr int kRows = N / 4 < 8 ? N / 4 : 8;  // a thread's, at once
  for (uint32_t span = first + 1; span <= last; ++span) {
#pragma unroll
    for (int base = 0; base < N / 4; base += kRows) {
      auto row = [&](int i) { return 8 * ((base + i) / 2) + 2 * f.c + (base + i) % 2; };
      auto from = [&](int i) { return part(span) + row(i) * kBlockRows + f.down_column(); };
      if (4 * base >= rows) break;
      uint4 v[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        v[i] = used(item, rows, row(i)) ? load_now(from(i)) : make_uint4(0, 0, 0, 0);
      until_written(v, kRows, from);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (!used(item, rows, row(i))) continue;
        __stcg(reinterpret_cast<uint4*>(from(i)), make_uint4(kNotYet, kNotYet, kNotYet, kNotYet));
        const uint32_t words[4] = {v[i].x, v[i].y, v[i].z, v[i].w};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          Sum add;
          from_word(words[c], add);
          sum[c / 2][4 * ((base + i) / 2) + 2 * (c % 2) + (base + i) % 2] += add;
        }
      }
    }
  }
  return true;
}

template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::finish_up(const DecodeItem& item, const Fragment& f,
                                                   int rows, int buffer,
                                                   const Sum (&sum)[2][N / 2]) {
  ChannelScales channel{};
  if (F::kScaled) channel.load(s.weight_scales[buffer] + f.first_packed_row());
  const int64_t first = first_row(item);
#pragma unroll
  for (int j = 0; j < N / 8; ++j) {
    if (8 * j >= rows) break;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const int n = 8 * j + 2 * f.c + t;
      const bool use = used(item, rows, n);
      float x = 1;
      if constexpr (kResident)
        x = s.map.x_scale[n];
      else if (F::kScaled)
        x = s.row_scales[buffer][n];
      const Sum mine[2][2] = {{sum[0][4 * j + t], sum[0][4 * j + 2 + t]},
                              {sum[1][4 * j + t], sum[1][4 * j + 2 + t]}};
      float v[2][2];
      scale_sums<F>(mine, channel, x, v);
      const uint32_t h_pair = activate(v);
      if (use)
        __stcg(reinterpret_cast<uint32_t*>(h() + (first + n) * p.h_stride + 128 * item.block +
                                           f.up_column()),
               h_pair);
      if (F::kScaled && !kResident) raise_absmax(p.w.h_absmax + first + n, use, h_pair, f.r);
    }
  }
  if constexpr (!kResident) {
    ptx::named_barrier(kMathBarrier, kMathThreads);
    if (f.thread == 0) {
      __threadfence();
      atomicAdd(p.w.up_done + item.group, 1u);
    }
  }
}

template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::finish_down(const DecodeItem& item, const Fragment& f,
                                                     int rows, int buffer,
                                                     const Sum (&sum)[2][N / 2]) {
  ChannelScales channel{};
  if (F::kScaled) channel.load(s.weight_scales[buffer] + f.first_packed_row());
  const int64_t first = first_row(item);
  const int column = kBlockRows * item.block + f.down_column();
#pragma unroll
  for (int j = 0; j < N / 8; ++j)
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const int n = 8 * j + 2 * f.c + t;
      if (n >= rows || column >= p.hidden) continue;
      const Sum mine[2][2] = {{sum[0][4 * j + t], sum[0][4 * j + 2 + t]},
                              {sum[1][4 * j + t], sum[1][4 * j + 2 + t]}};
      float v[2][2];
      scale_sums<F>(mine, channel, F::kScaled ? s.row_scales[buffer][n] : 1.0f, v);
      *reinterpret_cast<uint2*>(p.w.y + (first + n) * p.hidden + column) =
          make_uint2(pack_bf16x2(v[0][0], v[0][1]), pack_bf16x2(v[1][0], v[1][1]));
    }
}

// Resident: out from the parts of down, as they come; a warp takes 32 channels of a token. `y` is
// its shared memory, [slots][32] values.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::combine(int math_thread, float* y) {
  if constexpr (kResident) {
    const int warp = math_thread / 32, lane = math_thread % 32, top_k = p.rules.top_k;
    const DecodeSchedule line = schedule(kDown);
    const int blocks = p.blocks[kDown], chunks = (p.hidden + 31) / 32;
    constexpr int kPart = kBlockRows * N;
    constexpr int kSlots = 2, kParts = 3;  // a lane's, at once
    const bool one = p.max_tokens == 1;    // each slot has parts of its own
    auto set_back = [](uint32_t* words) {
      __stcg(reinterpret_cast<uint4*>(words), make_uint4(kNotYet, kNotYet, kNotYet, kNotYet));
    };
    for (int task = warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
         task < s.map.tokens * chunks; task += kMathThreads / 32 * static_cast<int>(gridDim.x)) {
      const int n = task / chunks, block = task % chunks / 8, w_q = task % chunks % 8;
      const int channel = 32 * w_q + 4 * (lane % 8);
      const int packed = 128 * (w_q / 4) + 16 * (w_q % 4) + lane % 8;
      // Lane l takes slots l / 8, l / 8 + 4, …, for four neighbouring channels.
      for (int slot = lane / 8; slot - lane / 8 < top_k; slot += 4 * kSlots) {
        uint32_t* at[kSlots];
        int count[kSlots], group[kSlots];
        uint4 v[kSlots * kParts];
#pragma unroll
        for (int i = 0; i < kSlots; ++i) {
          const int j = slot + 4 * i;
          group[i] = j < top_k ? s.map.pair_group[n * top_k + j] : -1;
          count[i] = 0;
          if (group[i] >= 0) {
            const uint32_t unit = static_cast<uint32_t>(group[i] * blocks + block);
            const uint32_t first = line.first_span(unit);
            count[i] = static_cast<int>(line.last_span(unit) - first) + 1;
            at[i] = p.w.parts[kDown] + (int64_t{unit} + first) * kPart + n * kBlockRows + channel;
          }
#pragma unroll
          for (int k = 0; k < kParts; ++k)
            v[i * kParts + k] = k < count[i] ? load_now(at[i] + k * kPart) : make_uint4(0, 0, 0, 0);
        }
        ChannelScales scales[kSlots];
        float row[kSlots];
#pragma unroll
        for (int i = 0; i < kSlots; ++i) {
          row[i] = 1;
          if (!F::kScaled || group[i] < 0) continue;
          scales[i].load(p.weight_scales[kDown] +
                         (int64_t{s.map.expert[group[i]]} * blocks + block) * kBlockRows + packed);
          row[i] = __ldcg(h_scale(8 * group[i] + n));
        }
        until_written(v, kSlots * kParts,
                      [&](int i) { return at[i / kParts] + i % kParts * kPart; });
#pragma unroll
        for (int i = 0; i < kSlots; ++i) {
          if (group[i] < 0) continue;
          Sum sums[2][2] = {};
          auto add = [&](uint4 part) {
            const uint32_t words[4] = {part.x, part.y, part.z, part.w};
#pragma unroll
            for (int c = 0; c < 4; ++c) {
              Sum more;
              from_word(words[c], more);
              sums[c / 2][c % 2] += more;
            }
          };
#pragma unroll
          for (int k = 0; k < kParts; ++k)
            if (k < count[i]) add(v[i * kParts + k]);
          for (int k = kParts; k < count[i]; ++k) {
            uint4 more[1] = {load_now(at[i] + k * kPart)};
            until_written(more, 1, [&](int) { return at[i] + k * kPart; });
            add(more[0]);
          }
          if (one)
            for (int k = 0; k < count[i]; ++k) set_back(at[i] + k * kPart);
          if (F::kScaled) {  // written before any part of its row
            const volatile float* from = h_scale(8 * group[i] + n);
            while (__float_as_uint(row[i]) == kNotYet) row[i] = *from;
          }
          float values[2][2];
          scale_sums<F>(sums, scales[i], row[i], values);
          *reinterpret_cast<float4*>(y + (slot + 4 * i) * 32 + 4 * (lane % 8)) =
              make_float4(values[0][0], values[0][1], values[1][0], values[1][1]);
        }
      }
      __syncwarp();
      float sum = 0;
      for (int j = 0; j < top_k; ++j) {
        if (s.map.pair_group[n * top_k + j] < 0) continue;
        const float v = __bfloat162float(__float2bfloat16(y[j * 32 + lane]));
        sum = fmaf(s.map.pair_weight[n * top_k + j], v, sum);
      }
      const int column = kBlockRows * block + 32 * w_q + lane;
      if (column < p.hidden)
        static_cast<__nv_bfloat16*>(p.in.out)[int64_t{n} * p.hidden + column] =
            __float2bfloat16(sum);
      // Otherwise set back after all lanes have read: a token may name an expert twice.
      for (int j = lane / 8; j < top_k && !one; j += 4) {
        const int g = s.map.pair_group[n * top_k + j];
        if (g < 0) continue;
        const uint32_t unit = static_cast<uint32_t>(g * blocks + block);
        const uint32_t last = line.last_span(unit);
        for (uint32_t span = line.first_span(unit); span <= last; ++span)
          set_back(p.w.parts[kDown] + (int64_t{unit} + span) * kPart + n * kBlockRows + channel);
      }
      __syncwarp();
    }
  }
}

template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::multiply(int product, int math_thread, int& stage,
                                                  uint32_t& phase, int& items) {
  const Fragment f(math_thread);
  DecodeSchedule line = schedule(product);
  DecodeItem item;
  uint32_t h_phases = 0;  // of every stage
  auto up_is_over = [&] {
    if (product == kUp && line.steps() == 0 && f.thread % 128 == 0)
      ptx::mbarrier_arrive(&s.up_over);
  };
  if (line.steps() == 0) up_is_over();
  for (; line.next(item); ++items) {
    Sum sum[2][N / 2];
    const int buffer = items % 2;
    int previous = -1;
    for (int step = item.step; step < item.step_end; ++step) {
      ptx::mbarrier_wait(&s.landed[stage], phase);
      if (product == kDown) {
        ptx::mbarrier_wait(&s.h_ready[stage], h_phases >> stage & 1);
        h_phases ^= 1u << stage;
      }
      const uint8_t* base = ring + stage * kStage;
      const uint8_t* rows =
          kResident && product == kUp ? x_rows + step * (8 * kStepBytes) : base + kBlockStepBytes;
      multiply_step<F, N>(sum, ptx::swizzled_descriptor(base + (2 * f.w) * kTileRows * kStepBytes),
                          ptx::swizzled_descriptor(base + (2 * f.w + 1) * kTileRows * kStepBytes),
                          ptx::swizzled_descriptor(rows), step == item.step);
      ptx::wgmma_wait<1>();  // the stage before this one has been read
      if (previous >= 0 && f.thread % 128 == 0) ptx::mbarrier_arrive(&s.empty[previous]);
      previous = stage;
      advance(stage, phase, p.stages);
    }
    ptx::wgmma_wait<0>();
    if (f.thread % 128 == 0) ptx::mbarrier_arrive(&s.empty[previous]);
    up_is_over();
    const int rows = num_rows(item);
    if (kResident && product == kDown) {
      // Not what combine() does not read: it would stay for a launch whose parts lie elsewhere.
      if (kBlockRows * item.block + f.down_column() < (p.hidden + 31) / 32 * 32)
        store_part(p.w.parts[kDown] + (int64_t{item.unit} + blockIdx.x) * (kBlockRows * N), item, f,
                   rows, sum);
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
  __shared__ DecodeShared<N, kResident> s;
  uint8_t* aligned = dynamic + (1024 - ptx::shared_address(dynamic) % 1024) % 1024;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  Decode<F, N, kResident> work{p, s, aligned, aligned};
  if (thread == 0) {
    for (int i = 0; i < p.stages; ++i) {
      ptx::mbarrier_init(&s.landed[i], 1);
      ptx::mbarrier_init(&s.h_ready[i], work.kQuantiseArrivals);
      ptx::mbarrier_init(&s.empty[i], 2);  // two warpgroups
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
      work.quantise_resident_h(warp - 1);
    } else {
      work.quantise_h(warp - 1);
    }
  } else {
    if constexpr (kResident) work.clear_out_unless_hit(thread - 128);
    int stage = 0, items = 0;
    uint32_t phase = 0;
    work.multiply(kUp, thread - 128, stage, phase, items);
    work.multiply(kDown, thread - 128, stage, phase, items);
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
                           cudaFuncAttributeMaxDynamicSharedMemorySize, kDecodeSharedBytes + 1024),
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
  p.stages = std::min(kMostStages, (kDecodeSharedBytes - x_bytes) / kStageBytes<N>);
  return launch_dependent("decode", decode_kernel<F, N, kResident>,
                          {.grid = num_sms,
                           .block = kDecodeThreads,
                           .shared_bytes = x_bytes + p.stages * kStageBytes<N> + 1024,
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
