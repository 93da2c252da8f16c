// Work of the decode kernel: the k-steps of all (expert, block, tile) of one product form one line
// that is cut into equal spans, one a thread block. Device code only.
#pragma once
#include <cstdint>

namespace moestro::kernels::cuda {

// Steps [step, step_end) of one block of one tile.
struct DecodeItem {
  uint32_t unit;               // position among all (group, block, tile)
  int32_t group, block, tile;  // tile of the group
  int32_t step, step_end;
};

// Groups are experts (those that were hit, when routed in the kernel: one tile each, no search).
class DecodeSchedule {
 public:
  __device__ DecodeSchedule(const int32_t* tile_start, int32_t groups, int32_t tiles,
                            int32_t blocks, int32_t k_steps)
      : tile_start_(tile_start),
        groups_(groups),
        blocks_(blocks),
        k_steps_(k_steps),
        total_(static_cast<uint32_t>(tiles) * blocks * k_steps),
        spans_(min(gridDim.x, total_)) {
    if (blockIdx.x < spans_) {
      at_ = total_ * blockIdx.x / spans_;
      end_ = total_ * (blockIdx.x + 1) / spans_;
    }
  }

  __device__ uint32_t steps() const { return end_ - at_; }  // before the first next()

  __device__ bool next(DecodeItem& item) {
    if (at_ >= end_) return false;
    item.unit = at_ / k_steps_;
    item.step = static_cast<int32_t>(at_ - item.unit * k_steps_);
    item.step_end = static_cast<int32_t>(min(k_steps_, item.step + (end_ - at_)));
    at_ += static_cast<uint32_t>(item.step_end - item.step);
    locate(item);
    return true;
  }

  // The span that step `at` of the line belongs to.
  __device__ uint32_t owner(uint32_t at) const {
    return ((at + 1) * spans_ + total_ - 1) / total_ - 1;
  }
  __device__ uint32_t first_span(uint32_t unit) const { return owner(unit * k_steps_); }
  __device__ uint32_t last_span(uint32_t unit) const {
    return owner(unit * k_steps_ + k_steps_ - 1);
  }
  __device__ bool whole(const DecodeItem& item) const {
    return item.step == 0 && item.step_end == static_cast<int32_t>(k_steps_);
  }

 private:
  // A group's units are neighbours, tiles of one block innermost.
  __device__ void locate(DecodeItem& item) const {
    if (tile_start_ == nullptr) {
      item.group = static_cast<int32_t>(item.unit / blocks_);
      item.block = static_cast<int32_t>(item.unit % blocks_);
      item.tile = 0;
      return;
    }
    int low = 0, high = groups_;  // tile_start[low] * blocks <= unit < tile_start[high] * blocks
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (static_cast<uint32_t>(tile_start_[middle]) * blocks_ <= item.unit)
        low = middle;
      else
        high = middle;
    }
    const uint32_t tiles = static_cast<uint32_t>(tile_start_[low + 1] - tile_start_[low]);
    const uint32_t local = item.unit - static_cast<uint32_t>(tile_start_[low]) * blocks_;
    item.group = low;
    item.block = static_cast<int32_t>(local / tiles);
    item.tile = static_cast<int32_t>(local % tiles);
  }

  const int32_t* tile_start_;
  int32_t groups_;
  uint32_t blocks_, k_steps_, total_, spans_, at_ = 0, end_ = 0;
};

}  // namespace moestro::kernels::cuda
