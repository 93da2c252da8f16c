// Warpgroup matrix products D[64, N] += A[64, 32 bytes of k] B[N, 32 bytes of k]^T, A and B in
// shared memory, both with k contiguous in rows of 128 bytes under the 128-byte swizzle. PTX ISA,
// "Asynchronous Warpgroup Level Matrix Instructions". Device code only (sm_90a).
//
// Fragment of D: thread (warp q, lane l) of the warpgroup holds, for j < N / 8, d[4j + 2h + t] =
// D[16q + l/4 + 8h, 8j + 2(l%4) + t].
#pragma once
#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

namespace moestro::ptx {

// Matrix descriptor of a swizzled tile: 8-row groups lie 1024 bytes apart (stride offset); tiles
// are 1024-byte aligned. Adding (bytes >> 4) moves along k inside the 128-byte row.
__device__ __forceinline__ uint64_t swizzled_descriptor(const void* shared) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kStride1024 = uint64_t{1024 >> 4} << 32,
                     kLeading = uint64_t{1} << 16;
  return kSwizzle128 | kStride1024 | kLeading | ((shared_address(shared) & 0x3FFFF) >> 4);
}

// Registers written before the products (the accumulators) are ordered before them.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Closes a group of products.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `Pending` groups are unfinished.
template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Sums that a wait has made ready: no earlier than here may the compiler read them. Without it
// reads move above the wait, and ptxas then serialises all products of the function (C7514).
template <int kRegs>
__device__ __forceinline__ void wgmma_ready(float (&d)[kRegs]) {
#pragma unroll
  for (int i = 0; i < kRegs; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// The registers of one asm statement, by their number.
#define MOESTRO_N4(a) "%" #a "0, %" #a "1, %" #a "2, %" #a "3"
#define MOESTRO_N10(a) MOESTRO_N4(a) ", %" #a "4, %" #a "5, %" #a "6, %" #a "7, %" #a "8, %" #a "9"
#define MOESTRO_LIST_4 "%0, %1, %2, %3"
#define MOESTRO_LIST_8 MOESTRO_LIST_4 ", %4, %5, %6, %7"
#define MOESTRO_LIST_16 MOESTRO_LIST_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define MOESTRO_LIST_32 MOESTRO_LIST_8 ", %8, %9, " MOESTRO_N10(1) ", " MOESTRO_N10(2) ", %30, %31"
#define MOESTRO_LIST_36 MOESTRO_LIST_32 ", %32, %33, %34, %35"
#define MOESTRO_TO_39 \
  MOESTRO_LIST_8 ", %8, %9, " MOESTRO_N10(1) ", " MOESTRO_N10(2) ", " MOESTRO_N10(3)
#define MOESTRO_TO_59 MOESTRO_TO_39 ", " MOESTRO_N10(4) ", " MOESTRO_N10(5)
#define MOESTRO_LIST_48 MOESTRO_TO_39 ", " MOESTRO_N4(4) ", %44, %45, %46, %47"
#define MOESTRO_LIST_56 MOESTRO_TO_39 ", " MOESTRO_N10(4) ", " MOESTRO_N4(5) ", %54, %55"
#define MOESTRO_LIST_64 MOESTRO_TO_59 ", " MOESTRO_N4(6)
#define MOESTRO_LIST_72 MOESTRO_TO_59 ", " MOESTRO_N10(6) ", %70, %71"
#define MOESTRO_LIST_80 MOESTRO_TO_59 ", " MOESTRO_N10(6) ", " MOESTRO_N10(7)
#define MOESTRO_USE_4(c, i) c(d[i]), c(d[(i) + 1]), c(d[(i) + 2]), c(d[(i) + 3])
#define MOESTRO_USE_8(c, i) MOESTRO_USE_4(c, i), MOESTRO_USE_4(c, (i) + 4)
#define MOESTRO_USE_16(c, i) MOESTRO_USE_8(c, i), MOESTRO_USE_8(c, (i) + 8)
#define MOESTRO_USE_32(c, i) MOESTRO_USE_16(c, i), MOESTRO_USE_16(c, (i) + 16)
#define MOESTRO_USE_36(c, i) MOESTRO_USE_32(c, i), MOESTRO_USE_4(c, (i) + 32)
#define MOESTRO_USE_48(c, i) MOESTRO_USE_32(c, i), MOESTRO_USE_16(c, (i) + 32)
#define MOESTRO_USE_56(c, i) MOESTRO_USE_48(c, i), MOESTRO_USE_8(c, (i) + 48)
#define MOESTRO_USE_64(c, i) MOESTRO_USE_32(c, i), MOESTRO_USE_32(c, (i) + 32)
#define MOESTRO_USE_72(c, i) MOESTRO_USE_64(c, i), MOESTRO_USE_8(c, (i) + 64)
#define MOESTRO_USE_80(c, i) MOESTRO_USE_64(c, i), MOESTRO_USE_16(c, (i) + 64)
// name<N>::run(d, a, b, add): the first N / 2 registers of d; add = 0 overwrites them.
#define MOESTRO_WGMMA(name, type, constraint, n, regs, a, b, p, shape, types, tail)                \
  template <>                                                                                      \
  struct name<n> {                                                                                 \
    template <int kRegs>                                                                           \
    static __device__ __forceinline__ void run(type (&d)[kRegs], uint64_t desc_a, uint64_t desc_b, \
                                               int add) {                                          \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " p                                           \
                   ", 0;\nwgmma.mma_async.sync.aligned." shape "." types " {" MOESTRO_LIST_##regs  \
                   "}, " a ", " b ", p" tail ";\n}"                                                \
                   : MOESTRO_USE_##regs(constraint, 0)                                             \
                   : "l"(desc_a), "l"(desc_b), "r"(add));                                          \
    }                                                                                              \
  };
#define MOESTRO_WGMMA_ALL_N(name, type, constraint, k, types, tail)                             \
  template <int N>                                                                              \
  struct name;                                                                                  \
  MOESTRO_WGMMA(name, type, constraint, 8, 4, "%4", "%5", "%6", "m64n8" k, types, tail)         \
  MOESTRO_WGMMA(name, type, constraint, 16, 8, "%8", "%9", "%10", "m64n16" k, types, tail)      \
  MOESTRO_WGMMA(name, type, constraint, 32, 16, "%16", "%17", "%18", "m64n32" k, types, tail)   \
  MOESTRO_WGMMA(name, type, constraint, 64, 32, "%32", "%33", "%34", "m64n64" k, types, tail)   \
  MOESTRO_WGMMA(name, type, constraint, 96, 48, "%48", "%49", "%50", "m64n96" k, types, tail)   \
  MOESTRO_WGMMA(name, type, constraint, 112, 56, "%56", "%57", "%58", "m64n112" k, types, tail) \
  MOESTRO_WGMMA(name, type, constraint, 128, 64, "%64", "%65", "%66", "m64n128" k, types, tail) \
  MOESTRO_WGMMA(name, type, constraint, 144, 72, "%72", "%73", "%74", "m64n144" k, types, tail) \
  MOESTRO_WGMMA(name, type, constraint, 160, 80, "%80", "%81", "%82", "m64n160" k, types, tail)

// Signed 8-bit integers, exact sums in int32 (no saturation): 32 values of k.
MOESTRO_WGMMA_ALL_N(WgmmaS8, int32_t, "+r", "k32", "s32.s8.s8", "")
// e4m3, sums in float32: 32 values of k.
MOESTRO_WGMMA_ALL_N(WgmmaE4m3, float, "+f", "k32", "f32.e4m3.e4m3", ", 1, 1")
MOESTRO_WGMMA(WgmmaE4m3, float, "+f", 72, 36, "%36", "%37", "%38", "m64n72k32", "f32.e4m3.e4m3",
              ", 1, 1")
// bfloat16, sums in float32: 16 values of k.
MOESTRO_WGMMA_ALL_N(WgmmaBf16, float, "+f", "k16", "f32.bf16.bf16", ", 1, 1, 0, 0")

// bfloat16 with A in registers: thread (q, l) holds of A [64, 16 values of k] rows 16q + l/4 + 8 (j
// % 2), values 2 (l % 4) + 8 (j / 2) and the next one in a[j]. They may not change until the
// products are waited for.
#define MOESTRO_WGMMA_A(n, regs, a0, a1, a2, a3, b, p)                                         \
  template <>                                                                                  \
  struct WgmmaBf16RegisterA<n> {                                                               \
    template <int kRegs>                                                                       \
    static __device__ __forceinline__ void run(float (&d)[kRegs], const uint32_t (&a)[4],      \
                                               uint64_t desc_b, int add) {                     \
      asm volatile(                                                                            \
          "{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n   \
          "k16.f32.bf16.bf16 "                                                                 \
          "{" MOESTRO_LIST_##regs "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b ", p, 1, 1, 0;\n}" \
          : MOESTRO_USE_##regs("+f", 0)                                                        \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc_b), "r"(add));                \
    }                                                                                          \
  };
template <int N>
struct WgmmaBf16RegisterA;
MOESTRO_WGMMA_A(8, 4, "%4", "%5", "%6", "%7", "%8", "%9")
MOESTRO_WGMMA_A(16, 8, "%8", "%9", "%10", "%11", "%12", "%13")
MOESTRO_WGMMA_A(32, 16, "%16", "%17", "%18", "%19", "%20", "%21")
MOESTRO_WGMMA_A(64, 32, "%32", "%33", "%34", "%35", "%36", "%37")
MOESTRO_WGMMA_A(96, 48, "%48", "%49", "%50", "%51", "%52", "%53")
MOESTRO_WGMMA_A(112, 56, "%56", "%57", "%58", "%59", "%60", "%61")
MOESTRO_WGMMA_A(128, 64, "%64", "%65", "%66", "%67", "%68", "%69")
MOESTRO_WGMMA_A(144, 72, "%72", "%73", "%74", "%75", "%76", "%77")
MOESTRO_WGMMA_A(160, 80, "%80", "%81", "%82", "%83", "%84", "%85")

#undef MOESTRO_WGMMA_A
#undef MOESTRO_WGMMA_ALL_N
#undef MOESTRO_WGMMA
#undef MOESTRO_USE_4
#undef MOESTRO_USE_8
#undef MOESTRO_USE_16
#undef MOESTRO_USE_32
#undef MOESTRO_USE_36
#undef MOESTRO_USE_48
#undef MOESTRO_USE_56
#undef MOESTRO_USE_64
#undef MOESTRO_USE_72
#undef MOESTRO_USE_80
#undef MOESTRO_LIST_4
#undef MOESTRO_LIST_8
#undef MOESTRO_LIST_16
#undef MOESTRO_LIST_32
#undef MOESTRO_LIST_36
#undef MOESTRO_TO_39
#undef MOESTRO_TO_59
#undef MOESTRO_LIST_48
#undef MOESTRO_LIST_56
#undef MOESTRO_LIST_64
#undef MOESTRO_LIST_72
#undef MOESTRO_LIST_80
#undef MOESTRO_N4
#undef MOESTRO_N10

}  // namespace moestro::ptx
