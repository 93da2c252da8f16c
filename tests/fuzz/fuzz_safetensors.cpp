// A safetensors file of any bytes: refused with a message, or every tensor's view lies in the file.
// Input: with a first byte of 0 the rest is a whole file; otherwise the rest is a JSON header, to
// which length and data are added, so that mutations reach the checks behind the length.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/weight_source.h"

namespace {

using namespace moestro;
using namespace moestro::checkpoint;

std::string file_of(const uint8_t* data, size_t size) {
  std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 0) return rest;
  std::string file;
  for (int i = 0; i < 8; ++i)
    file += static_cast<char>(static_cast<uint64_t>(rest.size()) >> (8 * i));
  return file + rest + std::string(data[0] - 1u, 'x');
}

void read_all(const std::string& bytes) {
  const std::span view{reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
  std::shared_ptr<const ModelFiles> files =
      embedded_model_files("fuzz", {{"model.safetensors", view}});
  const auto source = open_safetensors(files);
  if (!source.ok()) {
    CHECK(!source.status().message().empty(), "an error without a message");
    return;
  }
  uint64_t total = 0;
  for (const std::string& name : (*source)->names()) {
    const TensorInfo* info = (*source)->find(name);
    if (!info) continue;
    const DType accepted[] = {info->dtype};
    const auto tensor = (*source)->get(name, info->shape, accepted);
    CHECK(tensor.ok(), tensor.status().message());
    CHECK(tensor->bytes.size() == info->bytes, "size");
    CHECK(tensor->num_elements() * bits(info->dtype) == static_cast<int64_t>(info->bytes * 8),
          "elements");
    for (const std::byte b : tensor->bytes) total += std::to_integer<uint64_t>(b);
    (*source)->drop(*tensor);
  }
  volatile uint64_t sink = total;
  (void)sink;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log_level(LogLevel::kOff);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) read_all(file_of(data, size));
  return 0;
}
