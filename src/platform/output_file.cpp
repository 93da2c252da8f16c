#include "platform/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::platform {
namespace {

namespace fs = std::filesystem;

Status failed(const std::string& path, std::string_view what, int error) {
  return Status(Code::kUnavailable, format("cannot {} {}: {}", what, path, std::strerror(error)));
}

Status no_space(const std::string& path, size_t wanted, uint64_t there) {
  return Status(Code::kResourceExhausted, format("{} needs {}, and {} are free there", path,
                                                 human_bytes(wanted), human_bytes(there)));
}

// Whoever writes a partial file holds its lock, so a free one is left over from a process that
// died.
void remove_left_overs(const fs::path& path) {
  const std::string prefix = path.filename().native() + ".partial-";
  std::error_code error;
  for (fs::directory_iterator it(path.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    if (!it->path().filename().native().starts_with(prefix)) continue;
    const int fd = ::open(it->path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(it->path().c_str());
    ::close(fd);
  }
}

Status take_space(int fd, const std::string& path, size_t bytes) {
  struct statvfs info {};
  const bool known = ::fstatvfs(fd, &info) == 0;
  const uint64_t there = known ? uint64_t{info.f_bavail} * info.f_frsize : 0;
  if (known && there < bytes) return no_space(path, bytes, there);
  const int error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == ENOSPC || error == EDQUOT) return no_space(path, bytes, there);
  return error == 0 ? Status() : failed(path, "take space for", error);
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::string& path, size_t bytes) {
  static std::atomic<int> number{0};
  std::error_code error;
  OutputFile file;
  file.path_ = fs::absolute(path, error).lexically_normal().native();
  const fs::path parent = fs::path(file.path_).parent_path();
  fs::create_directories(parent, error);
  if (error) return failed(parent.native(), "create", error.value());
  remove_left_overs(file.path_);
  // Another one that cleans up may come between making and locking; then once more.
  for (struct stat info{}; info.st_nlink == 0;) {
    if (file.fd_ >= 0) ::close(file.fd_);
    std::string partial = format("{}.partial-{}-{}", file.path_, ::getpid(), number.fetch_add(1));
    file.fd_ = ::open(partial.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file.fd_ < 0) return failed(partial, "write", errno);
    file.partial_ = std::move(partial);
    if (::flock(file.fd_, LOCK_EX) != 0 || ::fstat(file.fd_, &info) != 0)
      return failed(file.partial_, "lock", errno);
  }
  MOESTRO_TRY(take_space(file.fd_, file.path_, bytes));
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd_, 0);
  if (p == MAP_FAILED) return failed(file.partial_, "map", errno);
  file.data_ = static_cast<std::byte*>(p);
  file.size_ = bytes;
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(partial_, other.partial_);
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

OutputFile::~OutputFile() {
  if (data_) ::munmap(data_, size_);
  if (!partial_.empty()) ::unlink(partial_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

Status OutputFile::publish() {
  if (::msync(data_, size_, MS_SYNC) != 0 || ::fsync(fd_) != 0)
    return failed(partial_, "write", errno);
  if (std::rename(partial_.c_str(), path_.c_str()) != 0) return failed(path_, "replace", errno);
  partial_.clear();
  return {};
}

}  // namespace moestro::platform
