// How every op's candidates look: an ordered constexpr array in <device>/lists.cpp, best first, the
// reference last. The order is the policy; plan/ picks the first whose ISA and shape fit (or a
// measured faster one) and prints why the others lost.
#pragma once
#include <span>
#include <string_view>

#include "platform/cpu_features.h"
#include "platform/gang.h"

namespace moestro::kernels {

// Reasons that several kernels give.
inline constexpr std::string_view kWantsFloatKv = "the KV cache is neither float32 nor bfloat16";
inline constexpr std::string_view kWantsBf16Kv = "the KV cache is not bfloat16";

// Conventions of every run():
// - called by all workers of the gang at the same place (SPMD); inputs are visible to all workers
// on entry;
// - the work is shared out by worker index or tickets; run() may use worker.barrier() inside;
// - on return only this worker's part is surely written: the caller puts a barrier before the
// output is read;
// - no allocation, no exception, no global state; scratch comes with the arguments, sized by the
// kernel's scratch_bytes;
//   two runs that share scratch need a barrier between them, as a worker may leave the first while
//   others still read it.
template <class Shape, class Args>
struct Kernel {
  std::string_view name;  // printed by explain: "linear_int8_amx"
  platform::IsaSet needs;
  // Why this kernel cannot run the shape, for people; empty: it can.
  std::string_view (*why_not)(const Shape&) noexcept;
  int64_t (*scratch_bytes)(const Shape&, int num_workers) noexcept;
  void (*run)(const Args&, platform::Worker&) noexcept;
};

}  // namespace moestro::kernels
