#include "checkpoint/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "base/json.h"

namespace moestro::checkpoint {
namespace {

Status failure(std::string_view what, std::string_view path, int error) {
  return {error == ENOSPC ? Code::kResourceExhausted : Code::kInternal,
          format("cannot {} {}: {}", what, path, std::strerror(error))};
}

}  // namespace

Result<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::create(
    const std::string& path, const std::vector<OutputTensor>& tensors) {
  json::object header;
  header["__metadata__"] = json::object{{"format", "pt"}};
  uint64_t at = 0;
  for (const OutputTensor& t : tensors) {
    json::array shape;
    for (const int64_t d : t.shape) shape.emplace_back(d);
    header[t.name] = json::object{{"dtype", safetensors_name(t.dtype)},
                                  {"shape", std::move(shape)},
                                  {"data_offsets", json::array{at, at + t.bytes()}}};
    at += t.bytes();
  }
  std::string text = json::dump(header);
  while ((text.size() + 8) % 64 != 0) text += ' ';
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return failure("create", path, errno);
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter(path, fd, at));
  const uint64_t size = text.size();
  char prefix[8];
  for (size_t i = 0; i < 8; ++i) prefix[i] = static_cast<char>(size >> (8 * i));
  MOESTRO_TRY(writer->write(std::as_bytes(std::span(prefix))));
  MOESTRO_TRY(writer->write(std::as_bytes(std::span(text))));
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ >= 0) ::close(fd_);
}

Status SafetensorsWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failure("write", path_, n < 0 ? errno : EIO);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  written_ += bytes.size();
  if (written_ > promised_)
    return internal_error(
        format("{}: {} bytes of tensors, but the header has {}", path_, written_, promised_));
  return write(bytes);
}

Status SafetensorsWriter::finish() {
  if (written_ != promised_)
    return internal_error(
        format("{}: {} bytes of tensors, but the header has {}", path_, written_, promised_));
  if (::fsync(fd_) != 0) return failure("flush", path_, errno);
  if (::close(std::exchange(fd_, -1)) != 0) return failure("close", path_, errno);
  return {};
}

}  // namespace moestro::checkpoint
