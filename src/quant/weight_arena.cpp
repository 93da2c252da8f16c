#include "quant/weight_arena.h"

#include <algorithm>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::quant {

Result<std::byte*> WeightArena::allocate(size_t bytes) {
  bytes = (bytes + 63) & ~size_t{63};
  const std::scoped_lock lock(mutex_);
  if (chunks_.empty() || used_in_last_ + bytes > chunks_.back().size()) {
    auto chunk = platform::Buffer::allocate(std::max(bytes, kChunkBytes));
    if (!chunk.ok())
      return chunk.status().with(
          format("no memory for weights beyond {}", human_bytes(allocated_)));
    chunks_.push_back(std::move(chunk).value());
    used_in_last_ = 0;
  }
  std::byte* at = chunks_.back().data() + used_in_last_;
  used_in_last_ += bytes;
  allocated_ += bytes;
  return at;
}

}  // namespace moestro::quant
