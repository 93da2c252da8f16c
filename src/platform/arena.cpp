#include "platform/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::platform {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

Result<Buffer> Buffer::allocate(size_t bytes) {
  Buffer buffer;
  buffer.size_ = bytes;
  if (bytes == 0) return buffer;
  const size_t unit = bytes >= kHugePage ? kHugePage : 4096;
  buffer.mapped_ = (bytes + unit - 1) / unit * unit;
  // Over-allocate to reach a huge-page boundary, then give the ends back.
  const size_t slack = unit == kHugePage ? kHugePage : 0;
  void* p = ::mmap(nullptr, buffer.mapped_ + slack, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return Status(Code::kResourceExhausted,
                  format("cannot allocate {}: {}", human_bytes(bytes), std::strerror(errno)));
  auto address = reinterpret_cast<uintptr_t>(p);
  if (slack) {
    const uintptr_t aligned = (address + kHugePage - 1) & ~(kHugePage - 1);
    if (aligned > address) ::munmap(p, aligned - address);
    const size_t tail = address + slack - aligned;
    if (tail) ::munmap(reinterpret_cast<void*>(aligned + buffer.mapped_), tail);
    address = aligned;
    ::madvise(reinterpret_cast<void*>(address), buffer.mapped_, MADV_HUGEPAGE);
  }
  buffer.data_ = reinterpret_cast<std::byte*>(address);
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

Buffer::~Buffer() {
  if (data_) ::munmap(data_, mapped_);
}

}  // namespace moestro::platform
