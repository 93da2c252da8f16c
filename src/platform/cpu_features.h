// What the processor (and the kernel: AMX needs a permission) can do, as a set of bits that kernel
// lists test against. Read once at start; constant afterwards.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace moestro::platform {

enum class Isa : uint32_t {
  kAvx2 = 1u << 0,    // AVX2 + FMA + F16C + BMI2
  kAvx512 = 1u << 1,  // F, BW, DQ, VL, CD
  kAvx512Vnni = 1u << 2,
  kAvx512Bf16 = 1u << 3,
  kAvx512Fp16 = 1u << 4,
  kAvx512Vbmi = 1u << 5,
  kAvxVnni = 1u << 6,
  kAmxBf16 = 1u << 7,  // with AMX-TILE, permission granted
  kAmxInt8 = 1u << 8,
};

struct IsaSet {
  uint32_t bits = 0;
  constexpr IsaSet() = default;
  constexpr IsaSet(Isa isa) : bits(static_cast<uint32_t>(isa)) {}
  constexpr explicit IsaSet(uint32_t b) : bits(b) {}
  constexpr IsaSet operator|(IsaSet other) const { return IsaSet(bits | other.bits); }
  constexpr IsaSet operator-(IsaSet other) const { return IsaSet(bits & ~other.bits); }
  constexpr bool contains(IsaSet needed) const { return (bits & needed.bits) == needed.bits; }
  constexpr bool operator==(const IsaSet&) const = default;
};
constexpr IsaSet operator|(Isa a, Isa b) { return IsaSet(a) | IsaSet(b); }

inline constexpr IsaSet kBaseline{};
inline constexpr IsaSet kAvx512Base = Isa::kAvx2 | Isa::kAvx512;
inline constexpr IsaSet kAvx512VnniSet = kAvx512Base | IsaSet(Isa::kAvx512Vnni);
inline constexpr IsaSet kAvx512Bf16Set = kAvx512Base | IsaSet(Isa::kAvx512Bf16);
inline constexpr IsaSet kAmxInt8Set = kAvx512VnniSet | IsaSet(Isa::kAmxInt8);
inline constexpr IsaSet kAmxBf16Set = kAvx512Bf16Set | IsaSet(Isa::kAmxBf16);

// Asks the processor, and the operating system for AMX tile state (once a process).
IsaSet detect_isa();
// "avx2 avx512 avx512_vnni …"; "baseline" when empty.
std::string isa_names(IsaSet set);
// "--isa avx2,avx512": the named ones (each brings what it implies). An unknown name is an error
// that lists all.
Result<IsaSet> parse_isa(std::string_view text);

struct CpuInfo {
  std::string model_name;     // from /proc/cpuinfo
  int num_cpus = 1;           // that this process may use (affinity and cgroup quota)
  uint64_t memory_bytes = 0;  // of the machine or the cgroup, whichever is smaller
  int64_t l2_bytes = 0, l3_bytes = 0;
};
CpuInfo read_cpu_info();

}  // namespace moestro::platform
