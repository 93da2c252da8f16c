// Eight bfloat16 values at a time to int8: absolute maximum, and round_half_even(x * inverse)
// saturated. Device code only.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace moestro::kernels::cuda {

__device__ __forceinline__ float2 unpack_bf16x2(uint32_t v) {
  return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
}

__device__ __forceinline__ float absmax2(uint32_t v) {
  const float2 f = unpack_bf16x2(v);
  return fmaxf(fabsf(f.x), fabsf(f.y));
}
__device__ __forceinline__ float absmax8(uint4 v) {
  return fmaxf(fmaxf(absmax2(v.x), absmax2(v.y)), fmaxf(absmax2(v.z), absmax2(v.w)));
}

__device__ __forceinline__ uint32_t quantize4(uint32_t a, uint32_t b, float inverse) {
  const float2 lo = unpack_bf16x2(a), hi = unpack_bf16x2(b);
  auto q = [&](float x) {
    int v;  // cvt.rni: to nearest, ties to even
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(v) : "f"(x * inverse));
    return static_cast<uint32_t>(v) & 0xffu;
  };
  return q(lo.x) | q(lo.y) << 8 | q(hi.x) << 16 | q(hi.y) << 24;
}
__device__ __forceinline__ uint2 quantize8(uint4 v, float inverse) {
  return make_uint2(quantize4(v.x, v.y, inverse), quantize4(v.z, v.w, inverse));
}

}  // namespace moestro::kernels::cuda
