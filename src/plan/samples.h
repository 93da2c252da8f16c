// Timing the kernels of one place on a sample of it: made-up weights of its format and shape, fewer
// experts and channels where there are many (ratios are what counts), a few tokens and many. Used
// by measure.h; main thread.
#pragma once
#include <vector>

#include "base/status.h"
#include "kernels/expert_mlp.h"
#include "kernels/linear.h"
#include "plan/kernel_table.h"
#include "platform/arena.h"
#include "platform/gang.h"

namespace moestro::plan {

// A bucket's typical step: one user, several, a chunk, a long prompt.
inline constexpr std::array<int32_t, kernels::kTokenBuckets> kTypicalTokens = {1, 16, 128, 512};

// What every sample uses again; grows as they need it.
struct SampleMemory {
  platform::Buffer x, y, scratch, weights;
};

// Median times of all buckets that the shape can see, and which kernels give equal bits; within
// about `seconds`, packing aside. No memory: kResourceExhausted.
Result<KernelTimes> time_sample(const kernels::LinearShape& shape,
                                const std::vector<const kernels::LinearKernel*>& kernels,
                                double seconds, platform::Gang& gang, SampleMemory& memory);
Result<KernelTimes> time_sample(const kernels::ExpertMlpShape& shape,
                                const std::vector<const kernels::ExpertMlpKernel*>& kernels,
                                double seconds, platform::Gang& gang, SampleMemory& memory);

}  // namespace moestro::plan
