#include "checkpoint/model_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/format.h"
#include "base/json.h"
#include "checkpoint/file_name.h"
#include "platform/memory_map.h"

namespace moestro::checkpoint {
namespace {

namespace fs = std::filesystem;

Status bad_name(std::string_view name, std::string_view location) {
  return invalid_argument(format(
      "{} is not a plain file name (in {}): '/', '\\', '..' and control characters are refused",
      json::quote(name, true), location));
}

class MappedFile final : public FileBytes {
 public:
  explicit MappedFile(platform::MemoryMap map) : map_(std::move(map)) {}
  std::span<const std::byte> bytes() const override { return map_.bytes(); }
  int64_t modified_ns() const override { return map_.modified_ns(); }
  void drop(size_t begin, size_t size) const override { map_.drop(begin, size); }

 private:
  platform::MemoryMap map_;
};

class ViewedFile final : public FileBytes {
 public:
  explicit ViewedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes() const override { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

bool is_inside(const fs::path& file, const fs::path& directory) {
  const auto [d, f] = std::mismatch(directory.begin(), directory.end(), file.begin(), file.end());
  return d == directory.end() && f != file.end();
}

// The cache layout of Hugging Face: snapshots/<revision>/<name> is a link to ../../blobs/<hash>.
bool is_blob_link(const fs::path& target) {
  auto part = target.begin();
  for (const std::string_view wanted : {"..", "..", "blobs"}) {
    if (part == target.end() || part->native() != wanted) return false;
    ++part;
  }
  if (part == target.end()) return false;
  const std::string hash = part->native();
  if (++part != target.end() || hash.empty()) return false;
  return std::all_of(hash.begin(), hash.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

class Directory final : public ModelFiles {
 public:
  Directory(std::string given, fs::path real) : given_(std::move(given)), real_(std::move(real)) {}

  std::string location() const override { return given_; }

  std::vector<std::string> list() const override {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(real_, error), end; !error && it != end; it.increment(error)) {
      std::string name = it->path().filename().native();
      if (is_plain_file_name(name) && contains(name)) names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  bool contains(std::string_view name) const override {
    if (!is_plain_file_name(name)) return false;
    std::error_code error;
    return fs::is_regular_file(real_ / name, error);
  }

  Result<std::shared_ptr<const FileBytes>> open(std::string_view name) const override {
    if (!is_plain_file_name(name)) return bad_name(name, given_);
    const fs::path path = real_ / name;
    std::error_code error;
    const fs::file_status link = fs::symlink_status(path, error);
    if (link.type() == fs::file_type::not_found || error)
      return not_found(format("no {} in {}", name, given_));
    const fs::path resolved = fs::canonical(path, error);
    if (error)
      return not_found(
          format("{}/{} is a link to a file that is missing: {}", given_, name, error.message()));
    if (link.type() == fs::file_type::symlink) MOESTRO_TRY(check_link(name, path, resolved));
    // Asked before opening: opening a pipe would wait for its writer.
    if (!fs::is_regular_file(resolved, error))
      return invalid_argument(format("{}/{} is not a regular file", given_, name));
    auto map = platform::MemoryMap::open(resolved.native());
    if (!map.ok()) return map.status().with(format("{}/{}", given_, name));
    return std::shared_ptr<const FileBytes>(std::make_shared<MappedFile>(std::move(map).value()));
  }

 private:
  Status check_link(std::string_view name, const fs::path& path, const fs::path& resolved) const {
    if (is_inside(resolved, real_)) return {};
    std::error_code error;
    const fs::path target = fs::read_symlink(path, error);
    if (!error && is_blob_link(target)) {
      const fs::path blobs = fs::canonical(real_ / "../../blobs", error);
      if (!error && is_inside(resolved, blobs)) return {};
    }
    return invalid_argument(
        format("{}/{} is a symbolic link that leaves the model directory (to {}); only "
               "../../blobs/<hash> of a model cache is "
               "followed: copy the file, or name the directory that holds it",
               given_, name, resolved.native()));
  }

  std::string given_;
  fs::path real_;
};

class Embedded final : public ModelFiles {
 public:
  Embedded(std::string location, std::vector<EmbeddedFile> files)
      : location_(std::move(location)), files_(std::move(files)) {
    std::sort(files_.begin(), files_.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
  }

  std::string location() const override { return location_; }
  std::vector<std::string> list() const override {
    std::vector<std::string> names;
    for (const EmbeddedFile& file : files_) names.emplace_back(file.name);
    return names;
  }
  bool contains(std::string_view name) const override { return find(name) != nullptr; }
  Result<std::shared_ptr<const FileBytes>> open(std::string_view name) const override {
    if (!is_plain_file_name(name)) return bad_name(name, location_);
    const EmbeddedFile* file = find(name);
    if (!file) return not_found(format("no {} in {}", name, location_));
    return std::shared_ptr<const FileBytes>(std::make_shared<ViewedFile>(file->bytes));
  }

 private:
  const EmbeddedFile* find(std::string_view name) const {
    const auto it = std::lower_bound(
        files_.begin(), files_.end(), name,
        [](const EmbeddedFile& file, std::string_view n) { return file.name < n; });
    return it != files_.end() && it->name == name ? &*it : nullptr;
  }

  std::string location_;
  std::vector<EmbeddedFile> files_;  // sorted by name
};

}  // namespace

bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || name == "." || name == "..") return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u >= 0x20 && u != 0x7f && c != '/' && c != '\\';
  });
}

Result<std::unique_ptr<ModelFiles>> open_directory(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return not_found(format("no model directory {}: {}", path, error.message()));
  if (!fs::is_directory(real, error))
    return not_found(format(
        "{} is not a directory; a model is a directory that holds config.json and *.safetensors",
        path));
  return std::unique_ptr<ModelFiles>(std::make_unique<Directory>(path, real));
}

Result<std::unique_ptr<ModelFiles>> open_model_directory(const std::string& path) {
  MOESTRO_ASSIGN(std::unique_ptr<ModelFiles> files, open_directory(path));
  if (!files->contains("config.json"))
    return not_found(format(
        "no config.json in {}; a model is a directory that holds config.json and *.safetensors",
        path));
  return files;
}

std::unique_ptr<ModelFiles> embedded_model_files(std::string location,
                                                 std::vector<EmbeddedFile> files) {
  return std::make_unique<Embedded>(std::move(location), std::move(files));
}

}  // namespace moestro::checkpoint
