// How the KV cache is sized, without a model.
#include "app/kv_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moestro::app {
namespace {

constexpr int64_t kGiB = 1ll << 30;

// 64 tokens a page, 64 KiB a page: 1 KiB a token.
KvRequest base() {
  KvRequest r;
  r.page_size = 64;
  r.page_bytes = 64 << 10;
  r.model_context = 4096;
  r.max_num_seqs = 16;
  r.memory = {64 * kGiB, 60 * kGiB};
  return r;
}

TEST(KvBudget, EverySequenceIfThatIsLittle) {
  const KvSizes sizes = *size_kv_cache(base());
  EXPECT_EQ(sizes.kv_bytes, 16 * 4096 * 1024);
  EXPECT_EQ(sizes.max_model_len, 4096);
  EXPECT_FALSE(sizes.substitution);
}

TEST(KvBudget, AtMostTheDefaultAndHalfOfFreeMemory) {
  KvRequest r = base();
  r.max_num_seqs = 100'000;
  EXPECT_EQ(size_kv_cache(r)->kv_bytes, kDefaultKvBytes);
  r.memory.available = 3 * kGiB;
  r.resident_bytes = 1 * kGiB;
  EXPECT_EQ(size_kv_cache(r)->kv_bytes, 1 * kGiB);
  r.memory = {10 * kGiB, 60 * kGiB};
  r.utilization = 0.3;  // 3 GiB in all, 1 of them for weights
  EXPECT_EQ(size_kv_cache(r)->kv_bytes, 1 * kGiB);
}

TEST(KvBudget, OneLongSequenceGetsMoreThanTheDefault) {
  KvRequest r = base();
  r.model_context = 8 << 20;  // 8 GiB
  EXPECT_EQ(size_kv_cache(r)->kv_bytes, 8 * kGiB);
  EXPECT_EQ(size_kv_cache(r)->max_model_len, 8 << 20);
}

TEST(KvBudget, LengthGivesWayUnlessAskedFor) {
  KvRequest r = base();
  r.model_context = 64 << 20;  // 64 GiB
  const KvSizes sizes = *size_kv_cache(r);
  EXPECT_LE(sizes.kv_bytes, 30 * kGiB);
  EXPECT_EQ(sizes.max_model_len, sizes.kv_bytes / r.page_bytes * r.page_size);
  ASSERT_TRUE(sizes.substitution);
  EXPECT_THAT(sizes.substitution->text(), testing::HasSubstr("--max-model-len"));
  r.max_model_len = 64 << 20;
  const auto refused = size_kv_cache(r);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(refused.status().message(), testing::HasSubstr("--max-model-len"));
}

TEST(KvBudget, AutoTakesWhatFitsWithoutANote) {
  KvRequest r = base();
  r.model_context = 64 << 20;
  r.max_model_len = -1;
  const KvSizes sizes = *size_kv_cache(r);
  EXPECT_EQ(sizes.kv_bytes, kDefaultKvBytes);
  EXPECT_EQ(sizes.max_model_len, 4 << 20);
  EXPECT_FALSE(sizes.substitution);
}

TEST(KvBudget, AskedSizesAreTakenAsTheyAre) {
  KvRequest r = base();
  r.kv_bytes = 1 << 20;  // 1024 tokens
  r.max_model_len = 1000;
  EXPECT_EQ(size_kv_cache(r)->kv_bytes, 1 << 20);
  r.max_model_len = 2000;
  EXPECT_FALSE(size_kv_cache(r).ok());
  r.kv_bytes.reset();
  r.num_pages = 40;
  EXPECT_EQ(size_kv_cache(r)->kv_bytes, 40 * r.page_bytes);
}

TEST(KvBudget, NoMemoryAtAll) {
  KvRequest r = base();
  r.resident_bytes = 100 * kGiB;
  const auto refused = size_kv_cache(r);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(refused.status().message(), testing::HasSubstr("need 100.0 GiB"));
}

TEST(KvBudget, MemoryOfThisMachine) {
  const MemoryFacts facts = read_memory_facts();
  EXPECT_GT(facts.available, 0);
  EXPECT_LE(facts.available, facts.total);
}

}  // namespace
}  // namespace moestro::app
