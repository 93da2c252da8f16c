#include "platform/memory_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/format.h"

namespace moestro::platform {
namespace {
constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ of Linux 5.14; older headers lack the name
}

Result<MemoryMap> MemoryMap::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return not_found(format("cannot open {}: {}", path, std::strerror(errno)));
  struct stat info;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return invalid_argument(format("{} is not a regular file", path));
  }
  MemoryMap map;
  map.size_ = static_cast<size_t>(info.st_size);
  map.modified_ns_ = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  if (map.size_ > 0) {
    void* p = ::mmap(nullptr, map.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      return Status(Code::kResourceExhausted,
                    format("cannot map {} ({} bytes): {}", path, map.size_, std::strerror(error)));
    }
    map.data_ = static_cast<const std::byte*>(p);
  }
  ::close(fd);
  return map;
}

MemoryMap::MemoryMap(MemoryMap&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      modified_ns_(other.modified_ns_) {}

MemoryMap& MemoryMap::operator=(MemoryMap&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(modified_ns_, other.modified_ns_);
  return *this;
}

MemoryMap::~MemoryMap() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MemoryMap::drop(size_t begin, size_t size) const {
  // A fault maps what is cached of 64 KiB, so a reader's neighbourhood goes with what it read; who
  // still reads there faults once more.
  constexpr size_t kAround = size_t{64} << 10;
  const size_t first = begin / kAround * kAround;
  const size_t last = std::min((begin + size + kAround - 1) / kAround * kAround, size_);
  if (size > 0 && first < last)
    ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

void MemoryMap::populate(size_t begin, size_t size) const {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t first = begin / page * page, last = std::min(begin + size, size_);
  if (size == 0 || first >= last) return;
  auto* at = const_cast<std::byte*>(data_) + first;
  ::madvise(at, last - first, MADV_HUGEPAGE);
  if (::madvise(at, last - first, kPopulateRead) == 0) return;
  std::byte seen{};
  for (size_t i = first; i < last; i += page) seen ^= data_[i];  // an older kernel
  asm volatile("" : : "r"(seen));
}

}  // namespace moestro::platform
