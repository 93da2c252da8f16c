// Bulk copies by the copy engine, and dependent launches. PTX ISA, "cp.async.bulk" and
// "griddepcontrol". Device code only.
#pragma once
#include "kernels/cuda/ptx/mbarrier.cuh"

namespace moestro::ptx {

// Contiguous bytes (a multiple of 16, both ends 16-byte aligned) from global to shared memory;
// `barrier` counts them.
__device__ __forceinline__ void bulk_load(void* shared, const void* global, uint32_t bytes,
                                          uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

// The policy that createpolicy.fractional.L2::evict_first gives for all bytes.
constexpr uint64_t kEvictFirst = 0x12F0000000000000;

// The same for bytes that nobody reads again: they leave L2 first.
__device__ __forceinline__ void bulk_load_once(void* shared, const void* global, uint32_t bytes,
                                               uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1], "
      "%2, [%3], %4;" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier)), "l"(kEvictFirst)
      : "memory");
}

// Makes this thread's ordinary writes to shared memory visible to wgmma and bulk copies, once a
// barrier has ordered them.
__device__ __forceinline__ void fence_shared_writes() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// A barrier among `threads` threads of the block; 0 is __syncthreads.
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Blocks until the kernels this launch depends on have completed and their writes are visible.
__device__ __forceinline__ void wait_for_previous_kernel() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Lets the next kernel of the stream start once every block of this one has come here or ended.
__device__ __forceinline__ void allow_next_kernel() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace moestro::ptx
