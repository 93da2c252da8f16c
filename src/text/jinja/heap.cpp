#include "text/jinja/heap.h"

#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "text/jinja/failure.h"

namespace moestro::text::jinja {
namespace {
constexpr uint64_t kStepsPerClockLook = 4096;
constexpr size_t kMaxChunk = 1 << 20;
constexpr size_t kAlign = 16;

[[noreturn]] void out_of_memory(const Budget& budget) {
  fail(format("the template needs more than {} of memory (limit max_memory_bytes)",
              human_bytes(budget.max_memory_bytes)));
}
}  // namespace

Heap::Heap(const Budget& budget) : budget_(budget), steps_left_(budget.max_steps) {}

void Heap::check(uint64_t n) {
  const uint64_t left = steps_left_ + steps_to_check_;
  if (n >= left) {
    fail(format("the template takes more than {} steps (limit max_steps)", budget_.max_steps));
  }
  if (budget_.deadline.expired()) {
    throw Failure{Code::kDeadlineExceeded,
                  "the deadline passed while the chat template was rendered", 0, true};
  }
  steps_to_check_ = std::min(left, n + kStepsPerClockLook);
  steps_left_ = left - steps_to_check_;
}

size_t Heap::checked_bytes(size_t n, size_t size) const {
  if (n > budget_.max_memory_bytes / size) out_of_memory(budget_);
  return n * size;
}

void Heap::require(uint64_t n) const {
  if (n > budget_.max_memory_bytes - std::min(memory_used_, budget_.max_memory_bytes))
    out_of_memory(budget_);
}

void* Heap::allocate(size_t bytes) {
  const size_t rounded = (bytes + kAlign - 1) & ~(kAlign - 1);
  if (rounded > static_cast<size_t>(end_ - at_)) return allocate_chunk(rounded);
  void* result = at_;
  at_ += rounded;
  return result;
}

void* Heap::allocate_chunk(size_t bytes) {
  require(bytes);
  step_bytes(bytes);
  // Large blocks stand alone, so that they do not waste the rest of the open chunk.
  const bool alone = bytes > next_chunk_ / 4;
  const size_t size =
      alone ? bytes : std::min<size_t>(next_chunk_, budget_.max_memory_bytes - memory_used_);
  if (size < bytes) out_of_memory(budget_);
  memory_used_ += size;
  chunks_.push_back(std::make_unique_for_overwrite<std::byte[]>(std::max<size_t>(size, 1)));
  char* begin = reinterpret_cast<char*>(chunks_.back().get());
  if (alone) return begin;
  next_chunk_ = std::min(kMaxChunk, next_chunk_ * 2);
  at_ = begin + bytes;
  end_ = begin + size;
  return begin;
}

std::string_view Heap::copy(std::string_view text) {
  if (text.empty()) return {};
  step_bytes(text.size());
  char* to = static_cast<char*>(allocate(text.size()));
  std::memcpy(to, text.data(), text.size());
  return {to, text.size()};
}

std::string_view Heap::concat(std::string_view left, std::string_view right) {
  if (right.empty()) return left;
  if (left.empty()) return right;
  for (Growth& g : growth_) {
    if (g.end == left.data() + left.size() &&
        right.size() <= static_cast<size_t>(g.limit - g.end)) {
      step_bytes(right.size());
      std::memcpy(g.end, right.data(), right.size());
      g.end += right.size();
      return {left.data(), left.size() + right.size()};
    }
  }
  const size_t size = left.size() + right.size();
  step_bytes(size);
  const size_t capacity = size < 256 ? size : size * 2;
  char* to = static_cast<char*>(allocate(capacity));
  std::memcpy(to, left.data(), left.size());
  std::memcpy(to + left.size(), right.data(), right.size());
  if (capacity > size) {
    growth_[next_growth_] = {to + size, to + capacity};
    next_growth_ = (next_growth_ + 1) % growth_.size();
  }
  return {to, size};
}

}  // namespace moestro::text::jinja
