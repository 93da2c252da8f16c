// Heap: the memory and the patience of one render. All values of a render live in one arena that
// goes when the render ends: reference cycles cannot leak, slices of strings share bytes, and one
// counter bounds what a template may hold. Not thread-safe: one Heap a render.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/deadline.h"

namespace moestro::text::jinja {

struct Budget {
  uint64_t max_steps;
  uint64_t max_output_bytes;
  uint64_t max_memory_bytes;
  uint64_t max_depth;
  Deadline deadline;
};

class Heap {
 public:
  explicit Heap(const Budget& budget);
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  const Budget& budget() const { return budget_; }
  // One step is a node evaluated or an element touched. Fails when the steps or the time are used
  // up.
  void step(uint64_t n = 1) {
    if (n >= steps_to_check_) [[unlikely]]
      check(n);
    steps_to_check_ -= n;
  }
  // For work that moves or reads n bytes.
  void step_bytes(size_t n) { step(1 + n / 64); }

  void* allocate(size_t bytes);  // 16-byte aligned
  template <class T, class... Args>
  T* make(Args&&... args) {
    static_assert(std::is_trivially_destructible_v<T>, "the arena runs no destructors");
    return new (allocate(sizeof(T))) T{std::forward<Args>(args)...};
  }
  template <class T>
  T* array(size_t n) {
    static_assert(std::is_trivially_destructible_v<T>, "the arena runs no destructors");
    return static_cast<T*>(allocate(checked_bytes(n, sizeof(T))));
  }
  std::string_view copy(std::string_view text);
  // left + right. A string that grows by appending (`ns.text = ns.text ~ x` in a loop) is extended
  // in place, so that building n bytes costs O(n) and not O(n^2).
  std::string_view concat(std::string_view left, std::string_view right);
  // Fails unless n more bytes may be allocated: to be asked before a large temporary outside the
  // arena is built.
  void require(uint64_t n) const;

 private:
  struct Growth {
    char* end = nullptr;
    char* limit = nullptr;
  };
  void check(uint64_t n);
  void* allocate_chunk(size_t bytes);
  size_t checked_bytes(size_t n, size_t size) const;

  Budget budget_;
  uint64_t steps_to_check_ = 0;  // until the next look at the clock
  uint64_t steps_left_;          // not counting steps_to_check_
  uint64_t memory_used_ = 0;
  char* at_ = nullptr;
  char* end_ = nullptr;
  size_t next_chunk_ = 16 << 10;
  std::array<Growth, 4> growth_;
  size_t next_growth_ = 0;
  std::vector<std::unique_ptr<std::byte[]>> chunks_;
};

}  // namespace moestro::text::jinja
