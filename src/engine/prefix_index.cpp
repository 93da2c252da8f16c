#include "engine/prefix_index.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace moestro::engine {
namespace {

uint64_t mix(uint64_t x) {  // splitmix64's finaliser (Steele, Lea, Flood 2014)
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t absorb(uint64_t state, uint64_t word) { return mix((state ^ word) + 0x9e3779b97f4a7c15u); }

uint64_t key_of(uint64_t parent_key, std::span<const int32_t> tokens) {
  uint64_t state = parent_key;
  size_t i = 0;
  for (; i + 1 < tokens.size(); i += 2)
    state = absorb(state, static_cast<uint64_t>(static_cast<uint32_t>(tokens[i])) << 32 |
                              static_cast<uint32_t>(tokens[i + 1]));
  if (i < tokens.size()) state = absorb(state, static_cast<uint32_t>(tokens[i]));
  return state;
}

bool same_salt(const PrefixSalt& a, const PrefixSalt& b) { return a == b || (a && b && *a == *b); }

}  // namespace

PrefixChain::PrefixChain(uint64_t seed, PrefixSalt salt, int32_t page_size, int32_t max_pages)
    : salt_(std::move(salt)), root_(absorb(seed, salt_ ? 1 : 0)), page_size_(page_size) {
  if (salt_)
    for (const char c : *salt_) root_ = absorb(root_, static_cast<unsigned char>(c));
  keys_.reserve(static_cast<size_t>(max_pages));
}

void PrefixChain::extend(std::span<const int32_t> tokens) {
  const auto page = static_cast<size_t>(page_size_);
  while (page > 0 && (keys_.size() + 1) * page <= tokens.size())
    keys_.push_back(
        key_of(keys_.empty() ? root_ : keys_.back(), tokens.subspan(keys_.size() * page, page)));
}

PrefixIndex::PrefixIndex(int32_t num_blocks, int32_t page_size, uint64_t seed)
    : seed_(seed),
      page_size_(page_size),
      entries_(static_cast<size_t>(num_blocks)),
      tokens_(static_cast<size_t>(num_blocks) * static_cast<size_t>(page_size)),
      buckets_(std::bit_ceil(static_cast<size_t>(num_blocks) + 1), kNone) {}

bool PrefixIndex::same(int32_t page, uint64_t key, int32_t parent, std::span<const int32_t> tokens,
                       const PrefixSalt& salt) const {
  const Entry& e = entry(page);
  if (e.key != key || e.parent != parent) return false;
  if (parent == kNone && !same_salt(e.salt, salt)) return false;
  return std::equal(tokens.begin(), tokens.end(),
                    tokens_.begin() + static_cast<std::ptrdiff_t>(page) * page_size_);
}

int32_t PrefixIndex::find(uint64_t key, int32_t parent, std::span<const int32_t> tokens,
                          const PrefixSalt& salt) const {
  int32_t page = buckets_[bucket(key)];
  while (page != kNone && !same(page, key, parent, tokens, salt)) page = entry(page).next;
  return page;
}

void PrefixIndex::insert(int32_t page, uint64_t key, int32_t parent,
                         std::span<const int32_t> tokens, const PrefixSalt& salt) {
  Entry& e = entry(page);
  CHECK(!e.named, "a page cannot hold two prefixes");
  if (parent != kNone) {
    CHECK(entry(parent).named, "a prefix needs the one before it");
    ++entry(parent).num_children;
  }
  e = {key, parent == kNone ? salt : nullptr, parent, 0, buckets_[bucket(key)], true};
  buckets_[bucket(key)] = page;
  std::copy(tokens.begin(), tokens.end(),
            tokens_.begin() + static_cast<std::ptrdiff_t>(page) * page_size_);
  ++size_;
}

void PrefixIndex::erase(int32_t page) {
  Entry& e = entry(page);
  if (!e.named) return;
  CHECK(e.num_children == 0, "the end of a prefix is forgotten before its beginning");
  int32_t* link = &buckets_[bucket(e.key)];
  while (*link != page) link = &entry(*link).next;
  *link = e.next;
  if (e.parent != kNone) --entry(e.parent).num_children;
  e = {};
  --size_;
}

void PrefixIndex::clear() {
  std::fill(entries_.begin(), entries_.end(), Entry{});
  std::fill(buckets_.begin(), buckets_.end(), kNone);
  size_ = 0;
}

}  // namespace moestro::engine
