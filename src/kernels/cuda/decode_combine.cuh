// The sum over a token's experts inside the decode kernel (resident tokens). Device code only.
#pragma once
#include "kernels/cuda/decode_work.cuh"

namespace moestro::kernels::cuda {
namespace {

constexpr int kSlotsAtOnce = 2, kPartsAtOnce = 3;  // of a lane

// 32 channels of a token, a warp's: lane l has four neighbouring channels, of slots l / 8, l / 8 +
// 4, ….
struct CombineTask {
  int token, block;  // of 256 channels
  int channel;       // of the block: the first of this lane's
  int packed;        // packed row of that channel
  __device__ CombineTask(int task, int chunks, int lane)
      : token(task / chunks),
        block(task % chunks / 8),
        channel(32 * (task % chunks % 8) + 4 * (lane % 8)),
        packed(128 * (channel / 128) + 16 * (channel / 32 % 4) + lane % 8) {}
};

// The parts of one slot's block of columns, in order.
struct SlotParts {
  int32_t group = -1;
  int count = 0;
  uint32_t* first = nullptr;
};
template <class F, int N, bool kResident>
__device__ SlotParts Decode<F, N, kResident>::slot_parts(const DecodeSchedule& line,
                                                         const CombineTask& t, int slot) const {
  SlotParts parts;
  if (slot < p.rules.top_k) parts.group = s.map.pair_group[t.token * p.rules.top_k + slot];
  if (parts.group < 0) return parts;
  const uint32_t unit = static_cast<uint32_t>(parts.group * p.blocks[kDown] + t.block);
  const uint32_t span = line.first_span(unit);
  parts.count = static_cast<int>(line.last_span(unit) - span) + 1;
  parts.first =
      p.w.parts[kDown] + (int64_t{unit} + span) * kPart + t.token * kBlockRows + t.channel;
  return parts;
}

// Down's values of slots `slot` and slot + 4, to y [slot][32 channels].
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::sum_slots(const DecodeSchedule& line, const CombineTask& t,
                                                   int slot, float* y) {
  SlotParts parts[kSlotsAtOnce];
  uint4 v[kSlotsAtOnce * kPartsAtOnce];
  ChannelScales<F> scales[kSlotsAtOnce];
#pragma unroll
  for (int i = 0; i < kSlotsAtOnce; ++i) {
    parts[i] = slot_parts(line, t, slot + 4 * i);
#pragma unroll
    for (int k = 0; k < kPartsAtOnce; ++k)
      v[i * kPartsAtOnce + k] =
          k < parts[i].count ? load_now(parts[i].first + k * kPart) : make_uint4(0, 0, 0, 0);
    if (F::kScaled && !F::kStepScales && parts[i].group >= 0)
      scales[i].load(p.weight_scales[kDown] +
                     (int64_t{s.map.expert[parts[i].group]} * p.blocks[kDown] + t.block) *
                         kBlockRows +
                     t.packed);
  }
  until_written(v, kSlotsAtOnce * kPartsAtOnce,
                [&](int i) { return parts[i / kPartsAtOnce].first + i % kPartsAtOnce * kPart; });
#pragma unroll
  for (int i = 0; i < kSlotsAtOnce; ++i) {
    if (parts[i].group < 0) continue;
    Sum sums[2][2] = {};
#pragma unroll
    for (int k = 0; k < kPartsAtOnce; ++k)
      if (k < parts[i].count) add_part<F>(sums, v[i * kPartsAtOnce + k]);
    for (int k = kPartsAtOnce; k < parts[i].count; ++k) {
      uint4 more[1] = {load_now(parts[i].first + k * kPart)};
      until_written(more, 1, [&](int) { return parts[i].first + k * kPart; });
      add_part<F>(sums, more[0]);
    }
    if (p.max_tokens == 1)  // nobody else reads them
      for (int k = 0; k < parts[i].count; ++k) set_back(parts[i].first + k * kPart);
    float row = 1;
    if (F::kScaled) {  // written before any part of its row
      const volatile float* from = h_scale(8 * parts[i].group + t.token);
      while (__float_as_uint(row = *from) == kNotYet) {
      }
    }
    float values[2][2];
    scale_sums<F>(sums, scales[i], row, values);
    *reinterpret_cast<float4*>(y + (slot + 4 * i) * 32 + t.channel % 32) =
        make_float4(values[0][0], values[0][1], values[1][0], values[1][1]);
  }
}

// Out from the parts of down, as they come. `y` is this warp's shared memory, [slots][32] values.
template <class F, int N, bool kResident>
__device__ void Decode<F, N, kResident>::combine(int math_thread, float* y) {
  const int lane = math_thread % 32, top_k = p.rules.top_k, chunks = (p.hidden + 31) / 32;
  const DecodeSchedule line = schedule(kDown);
  const int grid = static_cast<int>(gridDim.x);
  for (int i = math_thread / 32 * grid + static_cast<int>(blockIdx.x); i < s.map.tokens * chunks;
       i += kMathThreads / 32 * grid) {
    const CombineTask t(i, chunks, lane);
    for (int slot = lane / 8; slot - lane / 8 < top_k; slot += 4 * kSlotsAtOnce)
      sum_slots(line, t, slot, y);
    __syncwarp();
    float sum = 0;
    for (int j = 0; j < top_k; ++j) {
      if (s.map.pair_group[t.token * top_k + j] < 0) continue;
      const float v = __bfloat162float(__float2bfloat16(y[j * 32 + lane]));
      sum = fmaf(s.map.pair_weight[t.token * top_k + j], v, sum);
    }
    const int column = i % chunks * 32 + lane;
    if (column < p.hidden)
      static_cast<__nv_bfloat16*>(p.in.out)[int64_t{t.token} * p.hidden + column] =
          __float2bfloat16(sum);
    // Else set back after all lanes have read: a token may name an expert twice.
    for (int j = lane / 8; j < top_k && p.max_tokens > 1; j += 4) {
      const SlotParts parts = slot_parts(line, t, j);
      for (int k = 0; k < parts.count; ++k) set_back(parts.first + k * kPart);
    }
    __syncwarp();
  }
}

}  // namespace
}  // namespace moestro::kernels::cuda
