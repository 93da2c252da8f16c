// The arithmetic of each weight format, as types that the kernels are templates of: how activations
// are quantised, which wgmma multiplies them, what the sums are. Device code only.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "kernels/cuda/moe_layer.h"
#include "kernels/cuda/ptx/wgmma.cuh"

namespace moestro::kernels::cuda {

__device__ __forceinline__ float2 unpack_bf16x2(uint32_t v) {
  return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
}
__device__ __forceinline__ uint32_t pack_bf16x2(float a, float b) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&v);
}
__device__ __forceinline__ float absmax2(uint32_t v) {
  const float2 f = unpack_bf16x2(v);
  return fmaxf(fabsf(f.x), fabsf(f.y));
}
__device__ __forceinline__ float absmax8(uint4 v) {
  return fmaxf(fmaxf(absmax2(v.x), absmax2(v.y)), fmaxf(absmax2(v.z), absmax2(v.w)));
}

// Activations are moved in pieces of 16 bytes of the format, from kLoads x 8 bfloat16 values, or by
// eight values.
// kScaled: a scale a channel and a row; kStepScales: not a channel, but 128 channels and 128 bytes
// of k. kPromoted: the tensor cores add up to 128 values, float32 registers add those sums.

// int8 weights a channel, int8 activations a token (round half to even): exact int32 sums.
struct Int8 {
  using Sum = int32_t;
  template <int N>
  using Wgmma = ptx::WgmmaS8<N>;
  static constexpr int kValueBytes = 1, kLoads = 2;
  static constexpr bool kScaled = true, kStepScales = false, kPromoted = false,
                        kPowerScales = false, kInt4 = false;
  using Activations = Int8;
  static constexpr int kBlockStep = kBlockStepBytes;  // bytes of weights
  static constexpr float kLargest = 127.0f;

  static __device__ __forceinline__ uint32_t quantize4(uint32_t a, uint32_t b, float inverse) {
    const float2 lo = unpack_bf16x2(a), hi = unpack_bf16x2(b);
    auto q = [&](float x) {
      int v;  // cvt.rni: to nearest, ties to even
      asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(v) : "f"(x * inverse));
      return static_cast<uint32_t>(v) & 0xffu;
    };
    return q(lo.x) | q(lo.y) << 8 | q(hi.x) << 16 | q(hi.y) << 24;
  }
  static __device__ __forceinline__ uint2 eight(uint4 v, float inverse) {
    return make_uint2(quantize4(v.x, v.y, inverse), quantize4(v.z, v.w, inverse));
  }
  static __device__ __forceinline__ uint4 piece(const uint4 (&v)[kLoads], float inverse) {
    return make_uint4(quantize4(v[0].x, v[0].y, inverse), quantize4(v[0].z, v[0].w, inverse),
                      quantize4(v[1].x, v[1].y, inverse), quantize4(v[1].z, v[1].w, inverse));
  }
};

// e4m3 weights a channel, e4m3 activations a token: float32 sums. The tensor cores keep about 14
// bits of a running e4m3 sum, hence the promotion.
struct Fp8 {
  using Sum = float;
  template <int N>
  using Wgmma = ptx::WgmmaE4m3<N>;
  static constexpr int kValueBytes = 1, kLoads = 2;
  static constexpr bool kScaled = true, kStepScales = false, kPromoted = true, kPowerScales = true,
                        kInt4 = false;
  using Activations = Fp8;
  static constexpr int kBlockStep = kBlockStepBytes;
  static constexpr float kLargest = 448.0f;

  static __device__ __forceinline__ uint32_t quantize4(uint32_t a, uint32_t b, float inverse) {
    const float2 lo = unpack_bf16x2(a), hi = unpack_bf16x2(b);
    auto q = [&](float x, float y) {
      return static_cast<uint32_t>(__nv_cvt_float2_to_fp8x2(make_float2(x * inverse, y * inverse),
                                                            __NV_SATFINITE, __NV_E4M3));
    };
    return q(lo.x, lo.y) | q(hi.x, hi.y) << 16;
  }
  static __device__ __forceinline__ uint2 eight(uint4 v, float inverse) {
    return make_uint2(quantize4(v.x, v.y, inverse), quantize4(v.z, v.w, inverse));
  }
  static __device__ __forceinline__ uint4 piece(const uint4 (&v)[kLoads], float inverse) {
    return make_uint4(quantize4(v[0].x, v[0].y, inverse), quantize4(v[0].z, v[0].w, inverse),
                      quantize4(v[1].x, v[1].y, inverse), quantize4(v[1].z, v[1].w, inverse));
  }
};

// e4m3 weights by blocks of 128 x 128, e4m3 activations a token: for a float and scales that are
// powers of two, a scale for every 128 of its values would change nothing but the range.
struct Fp8Block : Fp8 {
  static constexpr bool kStepScales = true;
};
// Scales of weights that an item of the work needs.
template <class F>
constexpr int kWeightScales =
    F::kStepScales ? kMaxDeviceWidth / kStepBytes* kStepScales : kBlockRows;

// bfloat16 as it is.
struct Bf16 {
  using Sum = float;
  template <int N>
  using Wgmma = ptx::WgmmaBf16<N>;
  static constexpr int kValueBytes = 2, kLoads = 1;
  static constexpr bool kScaled = false, kStepScales = false, kPromoted = false,
                        kPowerScales = false, kInt4 = false;
  using Activations = Bf16;
  static constexpr int kBlockStep = kBlockStepBytes;
  static constexpr float kLargest = 1.0f;

  static __device__ __forceinline__ uint4 eight(uint4 v, float) { return v; }
  static __device__ __forceinline__ uint4 piece(const uint4 (&v)[kLoads], float) { return v[0]; }
};

// Weights of 4 bits that become bfloat16 in registers, from where wgmma takes them.
struct Int4 : Bf16 {
  static constexpr bool kInt4 = true;
  static constexpr int kBlockStep = kInt4BlockStepBytes;
};

// Words in memory that are all ones until they are written: no sum, scale or pair of bfloat16 that
// arithmetic gives has these bits (sums of integers are stored doubled, NaN is 0x7fff...).
constexpr uint32_t kNotYet = 0xffffffffu;
__device__ __forceinline__ uint32_t to_word(int32_t sum) { return static_cast<uint32_t>(sum) * 2; }
__device__ __forceinline__ uint32_t to_word(float sum) { return __float_as_uint(sum); }
__device__ __forceinline__ void from_word(uint32_t w, int32_t& sum) {
  sum = static_cast<int32_t>(w) >> 1;
}
__device__ __forceinline__ void from_word(uint32_t w, float& sum) { sum = __uint_as_float(w); }

__device__ __forceinline__ uint4 load_now(const void* from) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}
__device__ __forceinline__ void set_back(uint32_t* words) {
  __stcg(reinterpret_cast<uint4*>(words), make_uint4(kNotYet, kNotYet, kNotYet, kNotYet));
}
__device__ __forceinline__ bool written(uint4 v) {
  return v.x != kNotYet && v.y != kNotYet && v.z != kNotYet && v.w != kNotYet;
}
// Repeats loads until other blocks have written what they read, all that are missing at a time;
// v[i] < count were loaded from at(i). Bounded: never is a bug.
template <int kMost, class At>
__device__ __forceinline__ void until_written(uint4 (&v)[kMost], int count, At&& at) {
  for (uint32_t spins = 0; spins < 50'000'000u; ++spins) {
    bool all = true;
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i < count && !written(v[i])) {
        all = false;
        v[i] = load_now(at(i));
      }
    }
    if (all) return;
  }
  __trap();
}

// The scale of a row. For e4m3 the next power of two: a float loses nothing
// by it, and the last bit of the largest value no longer decides how all others are rounded.
template <class F>
__device__ __forceinline__ float row_scale_of(float absmax) {
  if constexpr (!F::kScaled) return 1.0f;
  const float scale = absmax / F::kLargest;
  return F::kPowerScales ? __uint_as_float((__float_as_uint(scale) + 0x007fffffu) & 0x7f800000u)
                         : scale;
}
__device__ __forceinline__ float inverse_of(float scale) { return scale > 0 ? 1.0f / scale : 0.0f; }

}  // namespace moestro::kernels::cuda
