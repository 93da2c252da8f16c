// PrefixIndex: which pages of the KV cache hold which beginnings of token sequences. A tree: an
// entry is a full page of tokens below the page of the tokens before it. A page is found by its
// parent, its tokens and its sequence's salt, all compared in full, so no hash can make two texts
// one; the 64-bit keys only pick where to look. Used by the engine thread only; takes all memory at
// construction.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moestro::engine {

// Sequences share pages only with those of the same salt (a request's `cache_salt`; null: none).
using PrefixSalt = std::shared_ptr<const std::string>;

// The keys of one sequence's full pages: key i stands for its salt and the tokens [0, (i + 1) *
// page_size). Built with the sequence, on the submitting thread.
class PrefixChain {
 public:
  PrefixChain() = default;  // of a cache that is off: no keys
  // seed: the index's. Room for max_pages keys is taken here.
  PrefixChain(uint64_t seed, PrefixSalt salt, int32_t page_size, int32_t max_pages);
  // Adds the keys of pages that `tokens` (all of the sequence) have filled.
  void extend(std::span<const int32_t> tokens);

  int32_t size() const { return static_cast<int32_t>(keys_.size()); }
  uint64_t key(int32_t page_idx) const { return keys_[static_cast<size_t>(page_idx)]; }
  const PrefixSalt& salt() const { return salt_; }

 private:
  PrefixSalt salt_;
  uint64_t root_ = 0;
  int32_t page_size_ = 0;
  std::vector<uint64_t> keys_;  // reserved
};

class PrefixIndex {
 public:
  static constexpr int32_t kNone = -1;
  // seed: secret, so that no client can fill one bucket.
  PrefixIndex(int32_t num_blocks, int32_t page_size, uint64_t seed);

  // The page with these tokens below `parent` (kNone: at the beginning of a sequence with this
  // salt), or kNone. tokens: one page of them.
  int32_t find(uint64_t key, int32_t parent, std::span<const int32_t> tokens,
               const PrefixSalt& salt) const;
  // Names the page, which had no entry; nothing equal is there and the parent is (or kNone).
  void insert(int32_t page, uint64_t key, int32_t parent, std::span<const int32_t> tokens,
              const PrefixSalt& salt);
  // Forgets a page, which must have no children: its number may come again with other tokens.
  void erase(int32_t page);
  void clear();

  bool contains(int32_t page) const { return entry(page).named; }
  int32_t num_children(int32_t page) const { return entry(page).num_children; }
  int32_t size() const { return size_; }
  uint64_t seed() const { return seed_; }

 private:
  struct Entry {
    uint64_t key = 0;
    PrefixSalt salt;  // of a sequence's first page
    int32_t parent = kNone, num_children = 0;
    int32_t next = kNone;  // in the bucket
    bool named = false;
  };
  const Entry& entry(int32_t page) const { return entries_[static_cast<size_t>(page)]; }
  Entry& entry(int32_t page) { return entries_[static_cast<size_t>(page)]; }
  size_t bucket(uint64_t key) const { return static_cast<size_t>(key) & (buckets_.size() - 1); }
  bool same(int32_t page, uint64_t key, int32_t parent, std::span<const int32_t> tokens,
            const PrefixSalt& salt) const;

  uint64_t seed_;
  int32_t page_size_, size_ = 0;
  std::vector<Entry> entries_;    // [num_blocks]
  std::vector<int32_t> tokens_;   // [num_blocks, page_size]
  std::vector<int32_t> buckets_;  // first page of each, a power of two of them
};

}  // namespace moestro::engine
