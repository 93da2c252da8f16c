// Clusters of thread blocks: rank, barrier, arrivals at another block's mbarrier, and bulk copies
// into several blocks at once. PTX ISA, "barrier.cluster", "mapa", "cp.async.bulk". Device code
// only.
#pragma once
#include "kernels/cuda/ptx/bulk_copy.cuh"

namespace moestro::ptx {

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// All threads of all blocks of the cluster meet; writes before are visible after.
__device__ __forceinline__ void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

// An arrival at the barrier that lies at the same place in block `rank` of the cluster.
__device__ __forceinline__ void mbarrier_arrive_at(uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}

// bulk_load into the same place of every block of `mask`; each block's own barrier counts the
// bytes that arrive there.
__device__ __forceinline__ void bulk_load_multicast(void* shared, const void* global,
                                                    uint32_t bytes, uint64_t* barrier,
                                                    uint16_t mask) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1], %2, [%3], %4;" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier)), "h"(mask)
      : "memory");
}

// bulk_load_once likewise.
__device__ __forceinline__ void bulk_load_once_multicast(void* shared, const void* global,
                                                         uint32_t bytes, uint64_t* barrier,
                                                         uint16_t mask) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::"
      "cache_hint [%0], [%1], %2, [%3], %4, %5;" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier)), "h"(mask), "l"(kEvictFirst)
      : "memory");
}

}  // namespace moestro::ptx
