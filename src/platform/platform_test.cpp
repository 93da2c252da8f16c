#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <numeric>

#include "platform/arena.h"
#include "platform/cpu_features.h"
#include "platform/gang.h"
#include "platform/memory_map.h"

namespace moestro::platform {
namespace {

TEST(Gang, BarriersOrderWritesOfAllWorkers) {
  for (int n : {1, 2, 3, 7}) {
    Gang gang(n, false);
    std::vector<int64_t> parts(static_cast<size_t>(n)), sums(static_cast<size_t>(n));
    for (int round = 0; round < 200; ++round)
      gang.run([&](Worker& w) {
        for (int step = 0; step < 5; ++step) {
          parts[static_cast<size_t>(w.index())] = round * 10 + step + w.index();
          w.barrier();
          sums[static_cast<size_t>(w.index())] =
              std::accumulate(parts.begin(), parts.end(), int64_t{0});
          w.barrier();
          ASSERT_EQ(sums[static_cast<size_t>(w.index())],
                    int64_t{n} * (round * 10 + step) + n * (n - 1) / 2);
        }
      });
  }
}

TEST(Gang, TicketsAreGivenOnceInEveryRound) {
  Gang gang(3, false);
  std::vector<std::atomic<int>> given(100);
  gang.run([&](Worker& w) {
    for (int round = 1; round <= 50; ++round) {
      w.start_tickets();
      for (int64_t t; (t = w.take_ticket()) < 100;) given[static_cast<size_t>(t)].fetch_add(1);
      w.barrier();
      if (w.index() == 0) {
        for (auto& g : given) ASSERT_EQ(g.load(), round);
      }
      w.barrier();
    }
  });
}

TEST(Gang, SharesCoverTheRangeOnce) {
  Gang gang(3, false);
  std::vector<std::atomic<int>> hits(101);
  gang.run([&](Worker& w) {
    const auto [begin, end] = w.share(101, 8);
    EXPECT_EQ(begin % 8, 0);
    for (int64_t i = begin; i < end; ++i) hits[static_cast<size_t>(i)]++;
  });
  for (auto& h : hits) EXPECT_EQ(h.load(), 1);
}

TEST(CpuFeatures, NamesRoundTrip) {
  EXPECT_EQ(parse_isa("avx512_vnni").value(), kAvx512VnniSet);
  EXPECT_EQ(parse_isa("baseline").value(), kBaseline);
  EXPECT_THAT(parse_isa("sse9").status().message(), testing::HasSubstr("avx512_bf16"));
  EXPECT_GE(read_cpu_info().num_cpus, 1);
  EXPECT_GT(read_cpu_info().memory_bytes, 1u << 20);
}

TEST(Buffer, IsZeroedAndAligned) {
  auto buffer = Buffer::allocate((3u << 20) + 5).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % (2u << 20), 0u);
  EXPECT_EQ(buffer.as<uint8_t>()[(3u << 20) + 4], 0);
  EXPECT_EQ(Buffer::allocate(size_t{1} << 62).status().code(), Code::kResourceExhausted);
}

TEST(MemoryMap, MapsFilesAndNamesMissingOnes) {
  const std::string path = testing::TempDir() + "moestro_memory_map_test";
  std::ofstream(path) << "hello";
  auto map = MemoryMap::open(path).value();
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()),
            "hello");
  std::remove(path.c_str());
  EXPECT_THAT(MemoryMap::open(path).status().message(), testing::HasSubstr(path));
  EXPECT_FALSE(MemoryMap::open("/").ok());
}

}  // namespace
}  // namespace moestro::platform
