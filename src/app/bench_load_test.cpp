#include "app/bench_load.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace moestro::app {
namespace {

TEST(BenchLoad, SameSeedSameRequests) {
  const RandomLoad load{.count = 3, .input_len = 10, .output_len = 5, .vocab = 100, .seed = 7};
  const auto a = random_requests(load), b = random_requests(load);
  ASSERT_EQ(a.size(), 3u);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].prompt, b[i].prompt);
  EXPECT_NE(a[0].prompt, a[1].prompt);
  RandomLoad other = load;
  other.seed = 8;
  EXPECT_NE(random_requests(other)[0].prompt, a[0].prompt);
}

TEST(BenchLoad, LengthsStayInTheirRange) {
  const RandomLoad load{.count = 200,
                        .input_len = 100,
                        .output_len = 20,
                        .prefix_len = 4,
                        .spread = 0.5,
                        .vocab = 50};
  const auto requests = random_requests(load);
  size_t shortest = 1000, longest = 0;
  for (const BenchRequest& request : requests) {
    EXPECT_TRUE(std::equal(requests[0].prompt.begin(), requests[0].prompt.begin() + 4,
                           request.prompt.begin()));
    for (const int32_t id : request.prompt) EXPECT_TRUE(id >= 0 && id < 50);
    shortest = std::min(shortest, request.prompt.size());
    longest = std::max(longest, request.prompt.size());
    EXPECT_GE(request.output_len, 10);
    EXPECT_LE(request.output_len, 30);
  }
  EXPECT_GE(shortest, 54u);
  EXPECT_LE(longest, 154u);
  EXPECT_GT(longest - shortest, 50u);  // it does spread
}

TEST(BenchLoad, Percentiles) {
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 50), 2.5);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4, 5}, 25), 2);
  EXPECT_DOUBLE_EQ(percentile({1, 2}, 100), 2);
  EXPECT_DOUBLE_EQ(percentile({9}, 10), 9);
  EXPECT_DOUBLE_EQ(mean({1, 2, 6}), 3);
}

}  // namespace
}  // namespace moestro::app
