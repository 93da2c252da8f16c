#include "quant/weight_store.h"

#include <algorithm>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::quant {

Result<WeightStore::Place> WeightArena::place(std::string_view name, std::string_view,
                                              size_t bytes) {
  bytes = (bytes + 63) & ~size_t{63};
  const std::scoped_lock lock(mutex_);
  if (chunks_.empty() || used_in_last_ + bytes > chunks_.back().size()) {
    auto chunk = platform::Buffer::allocate(std::max(bytes, kChunkBytes));
    if (!chunk.ok())
      return chunk.status().with(
          format("no memory for {} and weights beyond {}", name, human_bytes(allocated_)));
    chunks_.push_back(std::move(chunk).value());
    used_in_last_ = 0;
  }
  std::byte* at = chunks_.back().data() + used_in_last_;
  used_in_last_ += bytes;
  allocated_ += bytes;
  return Place{at, at};
}

Result<WeightStore::Place> WeightList::place(std::string_view name, std::string_view contents,
                                             size_t bytes) {
  const std::scoped_lock lock(mutex_);
  ListedWeight weight{std::string(name), std::string(contents), bytes};
  const auto [at, is_new] = index_.try_emplace(weight.name, weights_.size());
  if (is_new) {
    weights_.push_back(std::move(weight));
  } else if (weights_[at->second] != weight) {
    return internal_error(
        format("weight {} is {} ({} bytes) in one place and {} ({} bytes) in "
               "another",
               name, weights_[at->second].contents, weights_[at->second].bytes, contents, bytes));
  }
  return Place{};
}

uint64_t WeightList::total_bytes() const {
  uint64_t sum = 0;
  for (const ListedWeight& w : weights_) sum += w.bytes;
  return sum;
}

}  // namespace moestro::quant
