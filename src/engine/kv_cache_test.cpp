// The block pool's order and counts, and the cache's layout: no two slots overlap, all lie inside.
#include "engine/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace moestro::engine {
namespace {

TEST(BlockPool, PagesWorthKeepingAreTakenInTheOrderOfTheirRelease) {
  BlockPool pool(4);
  EXPECT_EQ(pool.num_blocks(), 4);
  for (const int32_t expected : {0, 1, 2, 3}) EXPECT_EQ(pool.take(), expected);
  EXPECT_EQ(pool.num_free(), 0);
  for (const int32_t block : {2, 0, 3}) pool.release(block, true);
  EXPECT_EQ(pool.num_free(), 3);
  for (const int32_t expected : {2, 0, 3}) EXPECT_EQ(pool.take(), expected);
}

TEST(BlockPool, PagesNotWorthKeepingAreTakenFirst) {
  BlockPool pool(4);
  for (int i = 0; i < 4; ++i) pool.take();
  pool.release(2, true);
  pool.release(0, false);
  pool.release(1, true);
  pool.release(3, false);
  for (const int32_t expected : {3, 0, 2, 1}) EXPECT_EQ(pool.take(), expected);
}

TEST(BlockPool, SharedPagesStayUntilTheLastHolderLeaves) {
  BlockPool pool(3);
  const int32_t block = pool.take();
  pool.retain(block);
  EXPECT_EQ(pool.references(block), 2);
  pool.release(block, true);
  EXPECT_EQ(pool.num_free(), 2);
  pool.release(block, true);
  EXPECT_EQ(pool.num_free(), 3);
  pool.retain(1);  // as a prefix index does: a free page is found again by its content
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.take(), 2);
  EXPECT_EQ(pool.take(), block);
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(BlockPoolDeathTest, ReleasingTwiceIsABug) {
  BlockPool pool(2);
  const int32_t block = pool.take();
  pool.release(block, true);
  EXPECT_DEATH(pool.release(block, true), "twice");
}

TEST(KvCache, SlotsDoNotOverlap) {
  const std::vector<models::LayerKvWidths> widths{{3, 5, 0}, {7, 0, 2}};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const int64_t per_page = KvCache::page_bytes(widths, dtype, 6);
    const auto cache = KvCache::create(widths, dtype, 6, per_page * 5 + per_page / 2, 5, {});
    ASSERT_TRUE(cache.ok());
    const KvCache& kv = *const_cast<Result<KvCache>&>(cache);
    EXPECT_EQ(kv.pool().num_blocks(), 5);
    std::map<std::byte*, int64_t> slots;
    for (const kernels::LayerKv& layer : kv.view().layers)
      for (const tensor::PagedView* v : {&layer.key, &layer.value, &layer.index})
        for (int32_t block = 0; block < 5 && v->width > 0; ++block)
          for (int32_t offset = 0; offset < 6; ++offset) {
            EXPECT_EQ(reinterpret_cast<uintptr_t>(v->row(block, 0)) % 64, 0u);
            const bool fresh = slots.emplace(v->row(block, offset), v->row_bytes).second;
            EXPECT_TRUE(fresh);
          }
    EXPECT_EQ(slots.size(), 4u * 5 * 6);
    const std::byte* end = nullptr;
    for (const auto& [begin, bytes] : slots) {
      EXPECT_LE(end, begin);
      end = begin + bytes;
      begin[0] = begin[bytes - 1] = std::byte{1};  // inside the memory
    }
    EXPECT_LE(end - slots.begin()->first, per_page * 5);
  }
}

TEST(KvCache, TooLittleMemoryNamesFlagAndSizes) {
  const std::vector<models::LayerKvWidths> widths{{8, 8, 0}};
  const auto cache = KvCache::create(widths, DType::kF32, 16, 4096, 5, {});  // 1 KiB a page
  ASSERT_FALSE(cache.ok());
  EXPECT_EQ(cache.status().code(), Code::kResourceExhausted);
  for (const char* part :
       {"--kv-cache-memory-bytes", "--max-model-len", "4.0 KiB", "64 tokens", "5 pages", "5.0 KiB"})
    EXPECT_THAT(cache.status().message(), testing::HasSubstr(part));
}

}  // namespace
}  // namespace moestro::engine
