// Cheap deterministic random bytes and numbers for made-up weights: counter based, so a tensor
// depends on its key only. Speeds of several GB/s; not for anything that needs good statistics.
// Pure functions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/dtype.h"

namespace moestro::checkpoint {

uint64_t random_key(std::string_view name, uint64_t seed);

void fill_random_bytes(uint64_t key, std::span<std::byte> out);
// Every byte a finite e4m3 / e5m2 value.
void fill_random_fp8(uint64_t key, std::span<std::byte> out, DType dtype);
// mean + deviation * N(0, 1), cut at 3.7 deviations. dtype: kBF16, kF16, kF32 or kF64.
void fill_normal(uint64_t key, std::span<std::byte> out, DType dtype, float mean, float deviation);
// Evenly between low and high, same types.
void fill_uniform(uint64_t key, std::span<std::byte> out, DType dtype, float low, float high);
bool is_plain_float(DType dtype);

}  // namespace moestro::checkpoint
