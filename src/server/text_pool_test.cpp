#include "server/text_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace moestro::server {
namespace {

TEST(TextPool, RequestsNeverHoldAllThreads) {
  TextPool pool(3);
  std::promise<void> release;
  const std::shared_future<void> released(release.get_future());
  std::atomic<int> started{0};
  for (int i = 0; i < 5; ++i) {
    pool.post(TextPool::Lane::kRequests, [&, released] {
      ++started;
      released.wait();
    });
  }
  for (int i = 0; i < 10; ++i) {  // each would wait for ever behind requests on every thread
    std::promise<void> done;
    pool.post(TextPool::Lane::kEvents, [&] { done.set_value(); });
    ASSERT_EQ(done.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  }
  EXPECT_LE(started, 2);
  release.set_value();
  pool.stop();
  EXPECT_EQ(started, 5) << "stop() runs what is queued";
}

TEST(TextPool, QueueKeepsOrderAndWaitsForResume) {
  TextPool pool(4);
  auto queue = std::make_shared<TaskQueue>(pool);
  std::vector<int> seen;  // touched by one task at a time
  std::atomic<int> running{0};
  std::promise<void> done;
  for (int i = 0; i < 1000; ++i) {
    if (i == 500) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      EXPECT_EQ(running, 0) << "paused";
      EXPECT_TRUE(seen.empty());
      queue->resume();
    }
    queue->post([&, i] {
      EXPECT_EQ(++running, 1);
      seen.push_back(i);
      --running;
      if (i == 999) done.set_value();
    });
  }
  ASSERT_EQ(done.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST(TextPool, ATaskThatThrowsHurtsNobody) {
  TextPool pool(2);
  pool.post(TextPool::Lane::kEvents, [] { throw std::runtime_error("on purpose"); });
  std::promise<void> done;
  pool.post(TextPool::Lane::kEvents, [&] { done.set_value(); });
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

}  // namespace
}  // namespace moestro::server
