// A read-only mapping of a whole file. Used by checkpoint/ for shards. Movable; the bytes live as
// long as the object. The size is taken by fstat at open: a file cut short later by somebody else
// makes reads fault (SIGBUS), so files are opened once, checked, and never reopened by path.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace moestro::platform {

class MemoryMap {
 public:
  static Result<MemoryMap> open(const std::string& path);
  MemoryMap() = default;
  MemoryMap(MemoryMap&& other) noexcept;
  MemoryMap& operator=(MemoryMap&& other) noexcept;
  ~MemoryMap();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  int64_t modified_ns() const { return modified_ns_; }  // the file's time at open, since 1970
  // Tells the kernel that [begin, begin + size) has been read and its pages may go (after
  // repacking).
  void drop(size_t begin, size_t size) const;
  // [begin, begin + size) will be read: reads it from the file and maps it, in large pages where
  // the file system has them.
  void populate(size_t begin, size_t size) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int64_t modified_ns_ = 0;
};

}  // namespace moestro::platform
