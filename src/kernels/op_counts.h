// OpCounts: what really ran at one place of a model, by token-count bucket: the kernel's name as
// the call found it, how often, and how many rows. Written by worker 0 inside a step, read by
// anybody; plan/ compares it with what it announced. No allocation, no lock.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>

namespace moestro::kernels {

// Steps of few and of many tokens may want different kernels: buckets of 1-4, 5-32, 33-256 and
// more tokens (decode of one user, of several, short and long prompts).
inline constexpr std::array<int32_t, 3> kTokenBucketEnds = {4, 32, 256};
inline constexpr int kTokenBuckets = 4;
constexpr int token_bucket(int32_t tokens) {
  int b = 0;
  while (b < kTokenBuckets - 1 && tokens > kTokenBucketEnds[static_cast<size_t>(b)]) ++b;
  return b;
}
constexpr int32_t first_of_bucket(int bucket) {
  return bucket == 0 ? 1 : kTokenBucketEnds[static_cast<size_t>(bucket - 1)] + 1;
}

class OpCounts {
 public:
  // A plan has one kernel a bucket. Room for one more, so that what should not run is named too;
  // a third would be counted in `others`.
  static constexpr int kNames = 2;
  struct Slot {
    std::atomic<const char*> name{nullptr};
    std::atomic<uint64_t> runs{0}, rows{0};
  };

  // By one thread at a time (worker 0). name: NUL-terminated, lives for ever.
  void add(const char* name, int32_t rows) noexcept {
    auto& slots = buckets_[static_cast<size_t>(token_bucket(rows))];
    for (Slot& s : slots) {
      const char* known = s.name.load(std::memory_order_relaxed);
      if (known != nullptr && known != name) continue;
      if (known == nullptr) s.name.store(name, std::memory_order_release);
      s.runs.store(s.runs.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      s.rows.store(s.rows.load(std::memory_order_relaxed) + static_cast<uint64_t>(rows),
                   std::memory_order_relaxed);
      return;
    }
    others_.store(others_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  const std::array<Slot, kNames>& bucket(int b) const { return buckets_[static_cast<size_t>(b)]; }
  uint64_t others() const { return others_.load(std::memory_order_relaxed); }

 private:
  std::array<std::array<Slot, kNames>, kTokenBuckets> buckets_;
  std::atomic<uint64_t> others_{0};
};

}  // namespace moestro::kernels
