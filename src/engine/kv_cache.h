// The paged KV cache: BlockPool says who holds which page, KvCache owns the memory, the views that
// layers see, and the index of prefixes. Used by the engine thread only. Pages are reference
// counted; free pages wait in the order they were last used, and those with a prefix in them are
// found again until somebody takes them.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "engine/prefix_index.h"
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
  // The page at the front of the free list, now with one reference. There must be one (num_free() >
  // 0).
  int32_t take();
  // One more holder; a free page leaves the free list (its content is still there).
  void retain(int32_t block);
  // One holder less; without holders the page is free: the last to be taken if its content may be
  // wanted again, else the first.
  void release(int32_t block, bool keep);

 private:
  struct Block {
    int32_t references = 0;
    int32_t previous = 0, next = 0;  // in the free list
  };
  void unlink(int32_t block);

  std::vector<Block> blocks_;  // the last is the free list's head: a ring
  int32_t num_free_;
};

// The beginning of a sequence that the cache holds.
struct PrefixHit {
  int32_t num_pages = 0;
  int32_t num_free = 0;  // of these, pages that nobody holds
};

class KvCache {
 public:
  // As many pages as fit in `bytes`; fewer than min_pages: kResourceExhausted with both sizes.
  // dtype: kBF16 or kF32. prefix_seed: a secret number; unset: prefixes are not kept.
  static Result<KvCache> create(std::span<const models::LayerKvWidths> widths, DType dtype,
                                int32_t page_size, int64_t bytes, int32_t min_pages,
                                std::optional<uint64_t> prefix_seed);
  // Bytes of one page over all layers.
  static int64_t page_bytes(std::span<const models::LayerKvWidths> widths, DType dtype,
                            int32_t page_size);

  int32_t page_size() const { return page_size_; }
  int32_t pages_for(int32_t tokens) const { return (tokens + page_size_ - 1) / page_size_; }
  const BlockPool& pool() const { return pool_; }
  bool keeps_prefixes() const { return keeps_prefixes_; }
  const PrefixIndex& prefixes() const { return prefixes_; }
  kernels::KvView view() const { return {layers_}; }

  // Takes pages until `pages` (a sequence's block table, with reserved room) holds num_tokens. The
  // pool must have them.
  void grow(std::vector<int32_t>& pages, int32_t num_tokens);
  // Gives all back, the last first, so that beginnings of sequences stay longest.
  void release(std::vector<int32_t>& pages);

  // For a sequence of at most max_tokens tokens.
  PrefixChain make_chain(PrefixSalt salt, int32_t max_tokens) const;
  // How many pages of this beginning are there, of no more than max_tokens tokens. chain: has the
  // keys of tokens' full pages up to there.
  PrefixHit find_prefix(const PrefixChain& chain, std::span<const int32_t> tokens,
                        int32_t max_tokens) const;
  // Appends the first num_pages pages of what find_prefix() found to the empty `pages`, and holds
  // them.
  void share_prefix(const PrefixChain& chain, std::span<const int32_t> tokens, int32_t num_pages,
                    std::vector<int32_t>& pages);
  // Names the full pages first_page ... of a sequence whose first num_tokens tokens are computed;
  // the pages before are named. Where a page with the same beginning is known already the sequence
  // takes that one, so equal prefixes are kept once. Returns the number of named pages.
  int32_t publish(const PrefixChain& chain, std::span<const int32_t> tokens, int32_t num_tokens,
                  int32_t first_page, std::vector<int32_t>& pages);
  // No page is found any more; who holds pages keeps them.
  void forget_prefixes() { prefixes_.clear(); }

 private:
  KvCache() : pool_(0), prefixes_(0, 1, 0) {}
  bool named(int32_t page) const { return keeps_prefixes_ && prefixes_.contains(page); }
  // The page of `chain` after `parent`, or kNone.
  int32_t next_page(const PrefixChain& chain, std::span<const int32_t> tokens, int32_t page_idx,
                    int32_t parent) const;
  std::span<const int32_t> page_tokens(std::span<const int32_t> tokens, int32_t page_idx) const {
    return tokens.subspan(static_cast<size_t>(page_idx) * static_cast<size_t>(page_size_),
                          static_cast<size_t>(page_size_));
  }

  BlockPool pool_;
  // A named page's parent is named too, is held by whoever holds the page, and stands behind it in
  // the free list: prefixes are forgotten from their ends.
  PrefixIndex prefixes_;
  bool keeps_prefixes_ = false;
  int32_t page_size_ = 0;
  platform::Buffer memory_;
  std::vector<kernels::LayerKv> layers_;
};

}  // namespace moestro::engine
