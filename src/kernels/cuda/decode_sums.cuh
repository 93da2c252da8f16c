// Finished sums of the decode kernel: parts of blocks that are cut, h, y. Device code only.
#pragma once
#include "kernels/cuda/decode_work.cuh"

namespace moestro::kernels::cuda {
namespace {

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
        set_back(from(i));
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
  ChannelScales<F> channel{};
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
  ChannelScales<F> channel{};
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

}  // namespace
}  // namespace moestro::kernels::cuda
