// A large file of known size that is written through memory, by several threads, and appears under
// its name whole or not at all: until publish() it is a neighbour with another name, removed by the
// destructor, or, if the process was killed, by the next one that writes the same file. Main thread
// but for the bytes.
#pragma once
#include <cstddef>
#include <string>

#include "base/status.h"

namespace moestro::platform {

class OutputFile {
 public:
  // Makes the directories above path and takes the space, all zeros. Not enough of it:
  // kResourceExhausted naming both sizes; no permission: kUnavailable.
  static Result<OutputFile> create(const std::string& path, size_t bytes);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  // Everything is on disk, then under its name, whatever was there before.
  Status publish();

 private:
  OutputFile() = default;

  std::string path_, partial_;
  int fd_ = -1;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace moestro::platform
