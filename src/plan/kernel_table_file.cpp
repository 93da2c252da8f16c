#include "plan/kernel_table_file.h"

#include <elf.h>
#include <link.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/digest.h"
#include "base/format.h"
#include "base/json.h"

namespace moestro::plan {
namespace {

constexpr int64_t kFormat = 1;
constexpr size_t kMaxBytes = size_t{16} << 20;

// The note that the linker leaves: a digest of the whole program.
int find_build_id(struct dl_phdr_info* info, size_t, void* out) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const auto* at = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
    const char* end = at + header.p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const char* name = at + sizeof note;
      const char* value = name + ((note.n_namesz + 3) & ~3u);
      const char* next = value + ((note.n_descsz + 3) & ~3u);
      if (next > end) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
          std::memcmp(name, "GNU", 4) == 0) {
        *static_cast<std::string*>(out) = hex(fnv1a({value, note.n_descsz}));
        return 1;
      }
      at = next;
    }
  }
  return 1;  // the first object is the program; libraries do not count
}

std::string build_id() {
  std::string id;
  ::dl_iterate_phdr(find_build_id, &id);
  if (!id.empty()) return id;
  struct stat info {};
  if (::stat("/proc/self/exe", &info) != 0) return "unknown";
  return format("{}-{}", info.st_size, info.st_mtime);
}

Status damaged(const std::string& path, std::string_view what) {
  return data_loss(format("kernel table {}: {}", path, what));
}

Result<KernelTimes> read_times(const json::value& value) {
  KernelTimes times;
  if (!value.is_object()) return data_loss("not an object");
  for (const auto& item : value.get_object()) {
    const std::string name(std::string_view(item.key()));
    const json::value& entry = item.value();
    if (!entry.is_object()) return data_loss(format("{} is not an object", name));
    KernelTime time{.kernel = name, .us = {}, .results = 0};
    MOESTRO_ASSIGN(const int64_t results, json::get_int(entry.get_object(), "results", -1));
    const json::value* us = json::find(entry.get_object(), "us");
    if (results < 0 || results > 1000 || us == nullptr || !us->is_array() ||
        us->get_array().size() != time.us.size())
      return data_loss(format("{} lacks its times", name));
    for (size_t b = 0; b < time.us.size(); ++b) {
      const json::value& v = us->get_array()[b];
      const double number = v.is_double()  ? v.get_double()
                            : v.is_int64() ? static_cast<double>(v.get_int64())
                                           : -1;
      if (!std::isfinite(number) || number < 0)
        return data_loss(format("a time of {} is no number", name));
      time.us[b] = number;
    }
    time.results = static_cast<int>(results);
    times.kernels.push_back(std::move(time));
  }
  return times;
}

}  // namespace

TableIdentity TableIdentity::of_this_machine() {
  return {platform::read_cpu_info().model_name, platform::isa_names(platform::detect_isa()),
          build_id()};
}

std::string user_cache_directory() {
  const passwd* user = ::getpwuid(::getuid());
  if (user == nullptr || user->pw_dir == nullptr || user->pw_dir[0] != '/') return {};
  return format("{}/.cache/moestro", user->pw_dir);
}

std::string default_table_path(const TableIdentity& identity) {
  const std::string directory = user_cache_directory();
  if (directory.empty()) return {};
  return format("{}/kernels-{}.json", directory,
                hex(fnv1a(identity.cpu + "\n" + identity.isa + "\n" + identity.build)));
}

Result<KernelTable> read_table(const std::string& path, const TableIdentity& identity) {
  KernelTable table;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return table;
  const Result<json::value> parsed = json::parse_file(path, {.max_bytes = kMaxBytes});
  if (!parsed.ok()) return damaged(path, parsed.status().message());
  if (!parsed->is_object()) return damaged(path, "not a JSON object");
  const json::object& o = parsed->get_object();
  const Result<int64_t> version = json::get_int(o, "format", 0);
  const Result<std::string> cpu = json::get_string(o, "cpu", ""),
                            isa = json::get_string(o, "isa", ""),
                            build = json::get_string(o, "build", "");
  if (!version.ok() || !cpu.ok() || !isa.ok() || !build.ok() || *version <= 0 || cpu->empty() ||
      isa->empty() || build->empty())
    return damaged(path, "format, cpu, isa or build is missing");
  if (*version != kFormat || TableIdentity{*cpu, *isa, *build} != identity) return table;
  const json::value* times = json::find(o, "times");
  if (times == nullptr || !times->is_object()) return damaged(path, "times is missing");
  for (const auto& item : times->get_object()) {
    const std::string key(std::string_view(item.key()));
    Result<KernelTimes> entry = read_times(item.value());
    if (!entry.ok()) return damaged(path, format("\"{}\": {}", key, entry.status().message()));
    table.set(key, std::move(*entry));
  }
  return table;
}

Status write_table(const std::string& path, const TableIdentity& identity,
                   const KernelTable& table) {
  json::object times;
  for (const auto& [key, entry] : table.all()) {
    json::object kernels;
    for (const KernelTime& t : entry.kernels) {
      json::array us;
      for (const double v : t.us) us.push_back(std::round(v * 100) / 100);
      kernels[t.kernel] = json::object{{"us", std::move(us)}, {"results", t.results}};
    }
    times[key] = std::move(kernels);
  }
  const json::object o{{"format", kFormat},
                       {"cpu", identity.cpu},
                       {"isa", identity.isa},
                       {"build", identity.build},
                       {"times", std::move(times)}};
  const auto fail = [&](std::string_view why) {
    return Status(Code::kUnavailable, format("kernel table {}: {}", path, why));
  };
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, error);
  if (error) return fail(error.message());
  const std::string temporary = format("{}.{}", path, ::getpid());
  std::FILE* file = std::fopen(temporary.c_str(), "we");
  if (file == nullptr) return fail(std::strerror(errno));
  const std::string text = json::dump(o, {.indent = 1}) + "\n";
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  if (!written || !closed || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const int code = errno;
    std::remove(temporary.c_str());
    return fail(std::strerror(code));
  }
  return {};
}

}  // namespace moestro::plan
