// A made-up matrix of any packed format, as packing takes it: random codes, scales that bring every
// type to the same size. For measuring.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/pack.h"

namespace moestro::plan {

struct RandomMatrix {
  std::vector<std::byte> bytes, group_scales;
  std::vector<uint8_t> zero_points;
  std::vector<float> scales;
  kernels::SourceMatrix source;  // points into the above

  RandomMatrix(const tensor::PackedFormat& format, int32_t n, int32_t k, uint64_t key);
  RandomMatrix(const RandomMatrix&) = delete;
  RandomMatrix& operator=(const RandomMatrix&) = delete;
};

}  // namespace moestro::plan
