#include "engine/kv_cache.h"

#include <algorithm>
#include <limits>

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

void BlockPool::release(int32_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  CHECK(b.references > 0, "a page was released twice");
  if (--b.references > 0) return;
  const int32_t head = num_blocks();
  b.previous = blocks_.back().previous;
  b.next = head;
  blocks_[static_cast<size_t>(b.previous)].next = block;
  blocks_.back().previous = block;
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
                                int32_t page_size, int64_t bytes, int32_t min_pages) {
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
  while (pages.size() < wanted) pages.push_back(pool_.take());
}

void KvCache::release(std::vector<int32_t>& pages) {
  for (; !pages.empty(); pages.pop_back()) pool_.release(pages.back());
}

}  // namespace moestro::engine
