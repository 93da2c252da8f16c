#include "platform/cpu_features.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::platform {
namespace {

struct Name {
  std::string_view name;
  Isa isa;
  IsaSet implied;
};

constexpr Name kNames[] = {
    {"avx2", Isa::kAvx2, kBaseline},
    {"avx512", Isa::kAvx512, Isa::kAvx2},
    {"avx512_vnni", Isa::kAvx512Vnni, kAvx512Base},
    {"avx512_bf16", Isa::kAvx512Bf16, kAvx512Base},
    {"avx512_fp16", Isa::kAvx512Fp16, kAvx512Base},
    {"avx512_vbmi", Isa::kAvx512Vbmi, kAvx512Base},
    {"avx_vnni", Isa::kAvxVnni, Isa::kAvx2},
    {"amx_bf16", Isa::kAmxBf16, kAvx512Bf16Set},
    {"amx_int8", Isa::kAmxInt8, kAvx512VnniSet},
};

uint64_t xcr0() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

bool ask_for_amx() {
  constexpr long kArchReqXcompPerm = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kXfeatureTileData = 18;
  return ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

IsaSet detect() {
  IsaSet set;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return set;
  const bool osxsave = c >> 27 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
  if (!osxsave) return set;
  const uint64_t state = xcr0();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6,
             tiles = (state & 0x60000) == 0x60000;
  uint32_t b7 = 0, c7 = 0, d7 = 0, a71 = 0;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return set;
  const uint32_t leaves = a;
  if (leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) a71 = a;
  const auto bit = [](uint32_t word, int n) { return (word >> n & 1) != 0; };
  if (ymm && fma && f16c && bit(b7, 5) && bit(b7, 8)) set = set | Isa::kAvx2;
  if (set.contains(Isa::kAvx2) && bit(a71, 4)) set = set | Isa::kAvxVnni;
  if (zmm && set.contains(Isa::kAvx2) && bit(b7, 16) && bit(b7, 17) && bit(b7, 28) && bit(b7, 30) &&
      bit(b7, 31)) {
    set = set | Isa::kAvx512;
    if (bit(c7, 11)) set = set | Isa::kAvx512Vnni;
    if (bit(a71, 5)) set = set | Isa::kAvx512Bf16;
    if (bit(d7, 23)) set = set | Isa::kAvx512Fp16;
    if (bit(c7, 1)) set = set | Isa::kAvx512Vbmi;
    if (tiles && bit(d7, 24) && ask_for_amx()) {
      if (bit(d7, 22)) set = set | Isa::kAmxBf16;
      if (bit(d7, 25)) set = set | Isa::kAmxInt8;
    }
  }
  return set;
}

std::string read_first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

int64_t cache_bytes(int level) {
  for (int i = 0; i < 8; ++i) {
    const std::string base = format("/sys/devices/system/cpu/cpu0/cache/index{}/", i);
    if (read_first_line((base + "level").c_str()) != std::to_string(level)) continue;
    if (read_first_line((base + "type").c_str()) == "Instruction") continue;
    const std::string size = read_first_line((base + "size").c_str());
    if (size.empty()) return 0;
    const int64_t n = parse_int(std::string_view(size).substr(0, size.size() - 1)).value_or(0);
    return n * (size.back() == 'K' ? 1024 : size.back() == 'M' ? 1024 * 1024 : 1);
  }
  return 0;
}

}  // namespace

IsaSet detect_isa() {
  static const IsaSet set = detect();
  return set;
}

std::string isa_names(IsaSet set) {
  std::string out;
  for (const Name& n : kNames)
    if (set.contains(n.isa)) out += (out.empty() ? "" : " ") + std::string(n.name);
  return out.empty() ? "baseline" : out;
}

Result<IsaSet> parse_isa(std::string_view text) {
  IsaSet set;
  for (std::string_view word : split(text, ',')) {
    word = trim(word);
    if (word.empty() || word == "baseline") continue;
    const Name* found = nullptr;
    for (const Name& n : kNames)
      if (n.name == word) found = &n;
    if (!found) {
      std::string all = "baseline";
      for (const Name& n : kNames) all += ", " + std::string(n.name);
      return invalid_argument(format("unknown instruction set \"{}\"; known are {}", word, all));
    }
    set = set | found->isa | found->implied;
  }
  return set;
}

CpuInfo read_cpu_info() {
  CpuInfo info;
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);)
    if (line.starts_with("model name")) {
      info.model_name = std::string(trim(std::string_view(line).substr(line.find(':') + 1)));
      break;
    }
  cpu_set_t cpus;
  if (::sched_getaffinity(0, sizeof cpus, &cpus) == 0)
    info.num_cpus = std::max(1, CPU_COUNT(&cpus));
  std::istringstream quota(read_first_line("/sys/fs/cgroup/cpu.max"));
  std::string limit;
  double period = 0;
  if (quota >> limit >> period && limit != "max" && period > 0)
    info.num_cpus = std::clamp(
        static_cast<int>(std::ceil(static_cast<double>(parse_int(limit).value_or(0)) / period)), 1,
        info.num_cpus);
  info.memory_bytes = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                      static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (const auto cap = parse_int(read_first_line("/sys/fs/cgroup/memory.max")); cap && *cap > 0)
    info.memory_bytes = std::min(info.memory_bytes, static_cast<uint64_t>(*cap));
  info.l2_bytes = cache_bytes(2);
  info.l3_bytes = cache_bytes(3);
  return info;
}

}  // namespace moestro::platform
