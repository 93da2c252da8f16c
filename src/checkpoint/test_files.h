// For the tests of checkpoint/ only: a temporary model directory, and safetensors files built by
// hand so that each rule of the reader can be broken on its own.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/format.h"
#include "base/json.h"
#include "checkpoint/model_files.h"

namespace moestro::checkpoint::testing {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "moestro_ckpt_XXXXXX").native();
    CHECK(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::filesystem::path path() const { return path_; }
  void write(const std::string& name, std::string_view content) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << content;
  }
  std::shared_ptr<const ModelFiles> open(const std::string& below = ".") const {
    auto files = open_model_directory((path_ / below).native());
    CHECK(files.ok(), files.status().message());
    return std::shared_ptr<const ModelFiles>(std::move(files).value());
  }

 private:
  std::filesystem::path path_;
};

// length: what the first 8 bytes say; the header's own size unless given.
inline std::string safetensors_file(std::string_view header, std::string_view data,
                                    int64_t length = -1) {
  const uint64_t n = length < 0 ? header.size() : static_cast<uint64_t>(length);
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(n >> (8 * i));
  return out + std::string(header) + std::string(data);
}

struct Made {
  std::string name, dtype, shape;  // shape as JSON: "[2, 3]"
  std::string bytes;
};
inline std::string safetensors_of(const std::vector<Made>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}", data;
  for (const Made& t : tensors) {
    header += format(",{}:{}\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]{}",
                     json::quote(t.name), "{", t.dtype, t.shape, data.size(),
                     data.size() + t.bytes.size(), "}");
    data += t.bytes;
  }
  return safetensors_file(header + "}", data);
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline json::object object_of(std::string_view text) {
  auto parsed = json::parse(text);
  CHECK(parsed.ok(), parsed.status().message());
  return parsed->as_object();
}

}  // namespace moestro::checkpoint::testing
