// Large memory for weights, KV cache and scratch: anonymous mappings with transparent huge pages,
// zeroed, 64-byte (2 MiB for large blocks) aligned. Never goes through malloc. Buffers are owned by
// whoever holds them; not thread-safe to create from.
#pragma once
#include <cstddef>
#include <span>

#include "base/status.h"

namespace moestro::platform {

class Buffer {
 public:
  // Zeroed memory. No memory: kResourceExhausted naming the size.
  static Result<Buffer> allocate(size_t bytes);
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;  // asked for
  size_t mapped_ = 0;
};

}  // namespace moestro::platform
