// Where packed weights live: a bump allocator over large huge-page buffers, freed as a whole with
// the model. Allocation takes a mutex (packing runs on all workers); the bytes are then only read.
#pragma once
#include <cstddef>
#include <mutex>
#include <vector>

#include "base/status.h"
#include "platform/arena.h"

namespace moestro::quant {

class WeightArena {
 public:
  // 64-byte aligned, zeroed. No memory: kResourceExhausted naming what was asked for and what is
  // held.
  Result<std::byte*> allocate(size_t bytes);
  size_t allocated_bytes() const { return allocated_; }

 private:
  static constexpr size_t kChunkBytes = size_t{64} << 20;
  std::mutex mutex_;
  std::vector<platform::Buffer> chunks_;
  size_t used_in_last_ = 0;
  size_t allocated_ = 0;
};

}  // namespace moestro::quant
