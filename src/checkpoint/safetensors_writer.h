// Writes one safetensors file whose tensors are known beforehand, in order, without holding them:
// header first, then each tensor's bytes as they come. Called by converters, one thread a writer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace moestro::checkpoint {

struct OutputTensor {
  std::string name;
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  uint64_t bytes() const {
    uint64_t total = static_cast<uint64_t>(moestro::bits(dtype));
    for (const int64_t d : shape) total *= static_cast<uint64_t>(d);
    return total / 8;
  }
};

class SafetensorsWriter {
 public:
  // Creates the file, which must not be there, and writes its header; data starts 64-byte aligned.
  static Result<std::unique_ptr<SafetensorsWriter>> create(
      const std::string& path, const std::vector<OutputTensor>& tensors);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The next bytes of the data section. No space, or more than the header promises: an error.
  Status append(std::span<const std::byte> bytes);
  // Everything promised has been written: flushes to disk and closes.
  Status finish();

 private:
  SafetensorsWriter(std::string path, int fd, uint64_t promised)
      : path_(std::move(path)), fd_(fd), promised_(promised) {}
  Status write(std::span<const std::byte> bytes);

  std::string path_;
  int fd_;
  uint64_t promised_, written_ = 0;
};

}  // namespace moestro::checkpoint
