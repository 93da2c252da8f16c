// What every layer's forward() gets: the batch, the cache, this worker, the row operations, the
// step's rotary table and scratch. Passed by reference through the layers of one step; each worker
// has its own copy. Layers follow the kernels' rule: inputs are visible to all workers on entry; on
// return only this worker's part is written, so the caller puts a barrier before use, unless a
// layer's comment says that it ends with one.
#pragma once
#include <cstddef>

#include "kernels/kv_view.h"
#include "kernels/row_ops.h"
#include "kernels/step_input.h"
#include "platform/gang.h"

namespace moestro::layers {

struct StepContext {
  const kernels::StepInput& step;
  const kernels::KvView& kv;
  platform::Worker& worker;
  const kernels::RowOps& ops;
  const float* rope_cos;  // [num_tokens, rope_dim / 2]
  const float* rope_sin;
  std::byte* scratch;  // for one kernel at a time, sized for the largest
};

}  // namespace moestro::layers
