#include "engine/kv_cache.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/format.h"
#include "base/strings.h"

namespace moestro::engine {
namespace {

constexpr int64_t kAlignment = 64;  // of every page, for vector loads
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int64_t block_bytes(int32_t width, DType dtype, int32_t page_size) {
  return aligned(int64_t{width} * bits(dtype) / 8 * page_size);
}

}  // namespace

BlockPool::BlockPool(int32_t num_blocks)
    : blocks_(static_cast<size_t>(num_blocks) + 1), num_free_(num_blocks) {
  for (int32_t i = 0; i <= num_blocks; ++i) {
    blocks_[static_cast<size_t>(i)].previous = i == 0 ? num_blocks : i - 1;
    blocks_[static_cast<size_t>(i)].next = i == num_blocks ? 0 : i + 1;
  }
}

int32_t BlockPool::take() {
  CHECK(num_free_ > 0, "the scheduler promised more pages than there are");
  const int32_t block = blocks_.back().next;
  retain(block);
  return block;
}

void BlockPool::retain(int32_t block) {
  if (blocks_[static_cast<size_t>(block)].references++ == 0) unlink(block);
}

void BlockPool::release(int32_t block, bool keep) {
  Block& b = blocks_[static_cast<size_t>(block)];
  CHECK(b.references > 0, "a page was released twice");
  if (--b.references > 0) return;
  const int32_t head = num_blocks();
  b.previous = keep ? blocks_.back().previous : head;
  b.next = keep ? head : blocks_.back().next;
  blocks_[static_cast<size_t>(b.previous)].next = block;
  blocks_[static_cast<size_t>(b.next)].previous = block;
  ++num_free_;
}

void BlockPool::unlink(int32_t block) {
  const Block& b = blocks_[static_cast<size_t>(block)];
  blocks_[static_cast<size_t>(b.previous)].next = b.next;
  blocks_[static_cast<size_t>(b.next)].previous = b.previous;
  --num_free_;
}

int64_t KvCache::page_bytes(std::span<const models::LayerKvWidths> widths, DType dtype,
                            int32_t page_size) {
  int64_t bytes = 0;
  for (const auto& w : widths)
    for (const int32_t width : {w.key, w.value, w.index})
      bytes += block_bytes(width, dtype, page_size);
  return bytes;
}

Result<KvCache> KvCache::create(std::span<const models::LayerKvWidths> widths, DType dtype,
                                int32_t page_size, int64_t bytes, int32_t min_pages,
                                std::optional<uint64_t> prefix_seed) {
  const int64_t per_page = page_bytes(widths, dtype, page_size);
  // A model without any cache still counts pages, as tokens of bookkeeping.
  const int64_t pages = std::min<int64_t>(per_page > 0 ? bytes / per_page : bytes,
                                          std::numeric_limits<int32_t>::max() / 2);
  if (pages < min_pages) {
    return Status(
        Code::kResourceExhausted,
        format(
            "the KV cache has {} (--kv-cache-memory-bytes), room for {} tokens; one sequence of "
            "--max-model-len needs {} pages of {} tokens, {}: raise the first or lower the second",
            human_bytes(static_cast<uint64_t>(std::max<int64_t>(bytes, 0))), pages * page_size,
            min_pages, page_size, human_bytes(static_cast<uint64_t>(per_page * min_pages))));
  }
  KvCache cache;
  cache.pool_ = BlockPool(static_cast<int32_t>(pages));
  cache.page_size_ = page_size;
  cache.keeps_prefixes_ = prefix_seed.has_value();
  if (prefix_seed)
    cache.prefixes_ = PrefixIndex(static_cast<int32_t>(pages), page_size, *prefix_seed);
  auto memory =
      platform::Buffer::allocate(static_cast<size_t>(std::max<int64_t>(per_page * pages, 1)));
  if (!memory.ok()) return memory.status().with("KV cache (--kv-cache-memory-bytes)");
  cache.memory_ = std::move(memory).value();
  std::byte* next = cache.memory_.data();
  const auto place = [&](int32_t width) {
    const int64_t block = block_bytes(width, dtype, page_size);
    const tensor::PagedView view{width > 0 ? next : nullptr,       dtype, page_size, width,
                                 int64_t{width} * bits(dtype) / 8, block};
    next += block * pages;
    return view;
  };
  for (const auto& w : widths) {
    const tensor::PagedView key = place(w.key), value = place(w.value), index = place(w.index);
    cache.layers_.push_back({key, value, index});
  }
  return cache;
}

void KvCache::grow(std::vector<int32_t>& pages, int32_t num_tokens) {
  const auto wanted = static_cast<size_t>(pages_for(num_tokens));
  while (pages.size() < wanted) {
    pages.push_back(pool_.take());
    if (keeps_prefixes_) prefixes_.erase(pages.back());
  }
}

void KvCache::release(std::vector<int32_t>& pages) {
  for (; !pages.empty(); pages.pop_back()) pool_.release(pages.back(), named(pages.back()));
}

PrefixChain KvCache::make_chain(PrefixSalt salt, int32_t max_tokens) const {
  if (!keeps_prefixes_) return {};
  return {prefixes_.seed(), std::move(salt), page_size_, max_tokens / page_size_};
}

int32_t KvCache::next_page(const PrefixChain& chain, std::span<const int32_t> tokens,
                           int32_t page_idx, int32_t parent) const {
  return prefixes_.find(chain.key(page_idx), parent, page_tokens(tokens, page_idx), chain.salt());
}

PrefixHit KvCache::find_prefix(const PrefixChain& chain, std::span<const int32_t> tokens,
                               int32_t max_tokens) const {
  PrefixHit hit;
  const int32_t most = std::min(chain.size(), max_tokens / page_size_);
  int32_t page = PrefixIndex::kNone;
  while (hit.num_pages < most) {
    page = next_page(chain, tokens, hit.num_pages, page);
    if (page == PrefixIndex::kNone) break;
    ++hit.num_pages;
    if (pool_.references(page) == 0) ++hit.num_free;
  }
  return hit;
}

void KvCache::share_prefix(const PrefixChain& chain, std::span<const int32_t> tokens,
                           int32_t num_pages, std::vector<int32_t>& pages) {
  for (int32_t i = 0; i < num_pages; ++i) {
    const int32_t page =
        next_page(chain, tokens, i, pages.empty() ? PrefixIndex::kNone : pages.back());
    CHECK(page != PrefixIndex::kNone, "a prefix was forgotten between decision and step");
    pool_.retain(page);
    pages.push_back(page);
  }
}

int32_t KvCache::publish(const PrefixChain& chain, std::span<const int32_t> tokens,
                         int32_t num_tokens, int32_t first_page, std::vector<int32_t>& pages) {
  const int32_t full = std::min(chain.size(), num_tokens / page_size_);
  for (int32_t i = first_page; i < full; ++i) {
    int32_t& page = pages[static_cast<size_t>(i)];
    const int32_t parent = i == 0 ? PrefixIndex::kNone : pages[static_cast<size_t>(i) - 1];
    const int32_t known = next_page(chain, tokens, i, parent);
    if (known == PrefixIndex::kNone) {
      prefixes_.insert(page, chain.key(i), parent, page_tokens(tokens, i), chain.salt());
    } else {
      pool_.retain(known);
      pool_.release(page, false);
      page = known;
    }
  }
  return std::max(first_page, full);
}

}  // namespace moestro::engine
