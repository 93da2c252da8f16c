// The paged KV cache: BlockPool says who holds which page, KvCache owns the memory and the views
// layers see. Used by the engine thread only. Built for prefix reuse: pages are reference counted,
// and free pages wait in the order they were last used, so a prefix index can name a free page's
// content until somebody takes it.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "kernels/kv_view.h"
#include "models/model.h"
#include "platform/arena.h"

namespace moestro::engine {

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);
  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()) - 1; }
  int32_t num_free() const { return num_free_; }
  int32_t references(int32_t block) const { return blocks_[static_cast<size_t>(block)].references; }
  // The page that has been free for longest, now with one reference. There must be one (num_free()
  // > 0).
  int32_t take();
  // One more holder; a free page leaves the free list (its content is still there).
  void retain(int32_t block);
  // One holder less; without holders the page goes to the end of the free list.
  void release(int32_t block);

 private:
  struct Block {
    int32_t references = 0;
    int32_t previous = 0, next = 0;  // in the free list
  };
  void unlink(int32_t block);

  std::vector<Block> blocks_;  // the last is the free list's head: a ring
  int32_t num_free_;
};

class KvCache {
 public:
  // As many pages as fit in `bytes`; fewer than min_pages: kResourceExhausted with both sizes.
  // dtype: kBF16 or kF32.
  static Result<KvCache> create(std::span<const models::LayerKvWidths> widths, DType dtype,
                                int32_t page_size, int64_t bytes, int32_t min_pages);
  // Bytes of one page over all layers.
  static int64_t page_bytes(std::span<const models::LayerKvWidths> widths, DType dtype,
                            int32_t page_size);

  int32_t page_size() const { return page_size_; }
  int32_t pages_for(int32_t tokens) const { return (tokens + page_size_ - 1) / page_size_; }
  const BlockPool& pool() const { return pool_; }
  kernels::KvView view() const { return {layers_}; }

  // Takes pages until `pages` (a sequence's block table, with reserved room) holds num_tokens. The
  // pool must have them.
  void grow(std::vector<int32_t>& pages, int32_t num_tokens);
  // Gives all back, the last first, so that beginnings of sequences stay longest.
  void release(std::vector<int32_t>& pages);

 private:
  KvCache() : pool_(0) {}

  BlockPool pool_;
  int32_t page_size_ = 0;
  platform::Buffer memory_;
  std::vector<kernels::LayerKv> layers_;
};

}  // namespace moestro::engine
