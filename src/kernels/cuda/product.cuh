// What the decode and prefill kernels share: which channels a thread's sums are, scales and
// activation of finished sums. Both give the same bits for the same sums. Device code only.
#pragma once
#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/moe_workspace.h"

namespace moestro::kernels::cuda {

enum Product { kUp = 0, kDown = 1 };

// A thread of the two warpgroups that multiply. sum[i][4 j + 2 h + t] of thread (w, q, r, c) is
// packed row 128 w + 64 i + 16 q + 8 h + r of the block and row 8 j + 2 c + t of the tile
// (device_layout.h, ptx/wgmma.cuh): four neighbouring channels (i, h), or two columns (i) of gate
// and up (h).
struct Fragment {
  int thread, w, q, r, c;
  __device__ explicit Fragment(int math_thread)
      : thread(math_thread),
        w(math_thread / 128),
        q(math_thread / 32 % 4),
        r(math_thread % 32 / 4),
        c(math_thread % 4) {}
  __device__ int first_packed_row() const { return 128 * w + 16 * q + r; }
  __device__ int up_column() const { return 64 * w + 16 * q + 2 * r; }     // of 128 a block
  __device__ int down_column() const { return 128 * w + 32 * q + 4 * r; }  // of 256 a block
};

// Scales of a thread's channels [i][h]. Ones where its sums have them already.
template <class F>
struct ChannelScales {
  float of[2][2] = {{1, 1}, {1, 1}};
  __device__ void load(const float* packed) {
    if (!F::kScaled || F::kStepScales) return;
    of[0][0] = packed[0];
    of[0][1] = packed[8];
    of[1][0] = packed[64];
    of[1][1] = packed[72];
  }
};

// The four values of one row: sums to float32.
template <class F>
__device__ __forceinline__ void scale_sums(const typename F::Sum (&sum)[2][2],
                                           const ChannelScales<F>& channel, float row,
                                           float (&v)[2][2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      v[i][h] = static_cast<float>(sum[i][h]);
      if constexpr (F::kScaled) v[i][h] *= row * channel.of[i][h];
    }
}

// A stored part of four sums.
template <class F>
__device__ __forceinline__ void add_part(typename F::Sum (&sum)[2][2], uint4 part) {
  const uint32_t words[4] = {part.x, part.y, part.z, part.w};
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    typename F::Sum more;
    from_word(words[c], more);
    sum[c / 2][c % 2] += more;
  }
}

__device__ __forceinline__ float silu_times(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}
// silu(gate) * up of two columns, rounded to bfloat16.
__device__ __forceinline__ uint32_t activate(const float (&v)[2][2]) {
  return pack_bf16x2(silu_times(v[0][0], v[0][1]), silu_times(v[1][0], v[1][1]));
}

// Raises the absolute maximum of row 8 j + 2 c + t of h by the two columns of every lane with the
// same c. Whole warps.
__device__ __forceinline__ void raise_absmax(float* absmax, bool used, uint32_t h, int r) {
  float most = used ? absmax2(h) : 0.0f;
#pragma unroll
  for (int d = 4; d < 32; d *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, d));
  // Of non-negative floats the bits have the same order.
  if (r == 0 && used) atomicMax(reinterpret_cast<int*>(absmax), __float_as_int(most));
}

// A running product of one 128-byte step: A [2][64 rows of this warpgroup], B [N rows].
template <class F, int N, int kRegs>
__device__ __forceinline__ void multiply_step(typename F::Sum (&sum)[2][kRegs], uint64_t a0,
                                              uint64_t a1, uint64_t b, bool first) {
  ptx::wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int add = !first || k != 0;
    F::template Wgmma<N>::run(sum[0], a0 + 2 * k, b + 2 * k, add);
    F::template Wgmma<N>::run(sum[1], a1 + 2 * k, b + 2 * k, add);
  }
  ptx::wgmma_commit();
}

// A thread's share of A of one step, [tile][chunk of 16 values][register]: 128 + code by its bits,
// code - 8 exactly, then one rounding with the scale.
__device__ __forceinline__ void unpack_int4(uint32_t (&a)[2][4][4], const uint8_t* stage,
                                            const Fragment& f) {
  const uint2 scales =
      *reinterpret_cast<const uint2*>(stage + kInt4CodeBytes + 8 * (32 * f.w + 8 * f.q + f.r));
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint4 codes =
        *reinterpret_cast<const uint4*>(stage + ((2 * f.w + i) * 128 + f.thread % 128) * 16);
    const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w}, pair = i ? scales.y : scales.x;
    const uint32_t scale[2] = {__byte_perm(pair, 0, 0x1010), __byte_perm(pair, 0, 0x3232)};
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint32_t v = ((words[k] >> (4 * j)) & 0x000f000fu) | 0x43004300u;
        asm("sub.rn.bf16x2 %0, %0, %1;" : "+r"(v) : "r"(0x43084308u));
        asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(a[i][k][j]) : "r"(v), "r"(scale[j % 2]));
      }
  }
}
template <int N, int kRegs>
__device__ __forceinline__ void multiply_int4_step(float (&sum)[2][kRegs],
                                                   const uint32_t (&a)[2][4][4], uint64_t b,
                                                   bool first) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int add = !first || k != 0;
    ptx::WgmmaBf16RegisterA<N>::run(sum[0], a[0][k], b + 2 * k, add);
    ptx::WgmmaBf16RegisterA<N>::run(sum[1], a[1][k], b + 2 * k, add);
  }
}

// Adds the sums of one step of N rows; channels are a step's scales of gate and up (h).
template <class F, int N, int kRegs, int kParts>
__device__ __forceinline__ void promote(float (&sum)[kRegs], const float (&part)[kParts], int first,
                                        const float (&channels)[2]) {
#pragma unroll
  for (int j = 0; j < N / 2; ++j) {
    if constexpr (F::kStepScales)
      sum[first / 2 + j] = fmaf(part[j], channels[j / 2 % 2], sum[first / 2 + j]);
    else
      sum[first / 2 + j] += part[j];
  }
}

}  // namespace moestro::kernels::cuda
