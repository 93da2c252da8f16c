// Token contents by id and ids by content. Filled at load, then read from any thread.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace moestro::text {

constexpr int32_t kNoToken = -1;
constexpr int32_t kMaxTokenId = (1 << 24) - 1;

class Vocabulary {
 public:
  void reserve(size_t tokens, size_t bytes);
  // An id or a content that is there already, or an id out of range, is an error.
  Status add(std::string_view content, int64_t id);
  int32_t find(std::string_view content) const;  // kNoToken if absent
  bool contains(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < entries_.size() &&
           entries_[static_cast<size_t>(id)].length != kAbsent;
  }
  std::string_view content(int32_t id) const {
    if (!contains(id)) return {};
    const Entry& e = entries_[static_cast<size_t>(id)];
    return {arena_.data() + e.offset, e.length};
  }
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }  // largest id + 1

 private:
  static constexpr uint32_t kAbsent = 0xffffffff;
  struct Entry {
    uint32_t offset = 0, length = kAbsent;
  };
  // All that a look-up compares before the text itself: loading looks up a million times, each a
  // cache miss or two.
  struct Slot {
    uint32_t tag = 0, offset = 0, length = 0;
    int32_t id = kNoToken;
  };
  void grow_table(size_t slots);
  size_t slot_of(std::string_view content, uint64_t hash) const;

  std::string arena_;
  std::vector<Entry> entries_;  // [id]
  std::vector<Slot> table_;     // open addressing, a power of two, at most half full
  size_t count_ = 0;
};

inline uint64_t hash_bytes(std::string_view text) { return std::hash<std::string_view>{}(text); }

}  // namespace moestro::text
