// What the machine can do at best, measured next to the kernels so that shares mean something on a
// shared host: memory read bandwidth and the multiply rate of each unit with operands in registers.
// Called by the benches, on a gang's caller
// thread.
#pragma once
#include <cstddef>

#include "platform/cpu_features.h"
#include "platform/gang.h"

namespace moestro::platform {

// What all times here are taken with: the wall clock, or (on a host busy with other work, one
// worker only) the processor time of the calling thread, which leaves out the time it was not
// running.
void use_cpu_time(bool on);
double seconds_now();

// Bytes a second that all workers together read from `bytes` of memory at `data` (much more than
// the caches): the median of `repeats` passes.
double read_bandwidth(Gang& gang, const std::byte* data, size_t bytes, int repeats);

// Operations (2 a multiply-add) a second of all workers together, median of five short runs; 0
// where the processor lacks it.
enum class Unit { kAmxInt8, kAmxBf16, kVnni512, kFma512, kInt8Avx2, kFmaAvx2 };
const char* unit_name(Unit unit);
double compute_ceiling(Gang& gang, Unit unit);

}  // namespace moestro::platform
