// The files of a model by plain name ("config.json", "model-00001-of-00003.safetensors"): a
// directory on disk, or the model embedded in the binary. Everything that is read of a model goes
// through here. Thread-safe after opening.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace moestro::checkpoint {

// Bytes of one file; valid as long as the object lives (a mapping, or a view into the binary).
class FileBytes {
 public:
  virtual ~FileBytes() = default;
  virtual std::span<const std::byte> bytes() const = 0;
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes().data()), bytes().size()};
  }
  // When the file was changed, in ns since 1970; 0: it is not a file of its own.
  virtual int64_t modified_ns() const { return 0; }
  // The pages of [begin, begin + size) will not be read again soon (after repacking). A hint.
  virtual void drop(size_t begin, size_t size) const { (void)begin, (void)size; }
};

class ModelFiles {
 public:
  virtual ~ModelFiles() = default;
  virtual std::string location() const = 0;  // for messages: the directory, or "built-in model"
  virtual std::vector<std::string> list() const = 0;  // base names, sorted
  virtual bool contains(std::string_view name) const = 0;
  // Only plain base names: anything with '/', '\\', "..", NUL or a symbolic link that leaves the
  // model (other than the
  // ../../blobs/<hash> form of a model cache) is refused.
  virtual Result<std::shared_ptr<const FileBytes>> open(std::string_view name) const = 0;
};

// path: a directory that holds config.json. Not there, or not a directory: kNotFound with what was
// looked for.
Result<std::unique_ptr<ModelFiles>> open_model_directory(const std::string& path);
// The same of a directory that need not hold a model: a tokenizer's.
Result<std::unique_ptr<ModelFiles>> open_directory(const std::string& path);

struct EmbeddedFile {
  std::string_view name;
  std::span<const std::byte> bytes;
};
std::unique_ptr<ModelFiles> embedded_model_files(std::string location,
                                                 std::vector<EmbeddedFile> files);

}  // namespace moestro::checkpoint
