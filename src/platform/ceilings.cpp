#include "platform/ceilings.h"

#include <immintrin.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <vector>

#include "platform/amx_tile.h"
#include "platform/target.h"

namespace moestro::platform {
namespace {

clockid_t clock_used = CLOCK_MONOTONIC;

double median_seconds(Gang& gang, int repeats, const std::function<void(Worker&)>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const double start = seconds_now();
    gang.run(work);
    seconds.push_back(seconds_now() - start);
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[static_cast<size_t>(repeats / 2)];
}

// Values that no pass may be optimised away for.
volatile uint64_t sink;

}  // namespace

MOESTRO_TARGET_AVX2_BEGIN
namespace {

uint64_t read_all(const std::byte* data, size_t bytes) {
  constexpr size_t kStreams = 4;
  const size_t part = bytes / kStreams / 64 * 64;
  __m256i sums[kStreams];
  for (__m256i& s : sums) s = _mm256_setzero_si256();
  for (size_t i = 0; i < part; i += 64)
    for (size_t s = 0; s < kStreams; ++s) {
      const auto* p = reinterpret_cast<const __m256i*>(data + s * part + i);
      sums[s] = _mm256_xor_si256(sums[s],
                                 _mm256_xor_si256(_mm256_load_si256(p), _mm256_load_si256(p + 1)));
    }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(all, 0));
}

// Each returns the operations done.
int64_t spin_fma_avx2(int64_t rounds) {
  __m256 acc[10];
  for (int i = 0; i < 10; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 x = _mm256_set1_ps(0.999f);
  for (int64_t r = 0; r < rounds; ++r)
    for (__m256& a : acc) a = _mm256_fmadd_ps(a, x, x);
  for (const __m256& a : acc) sink = sink + static_cast<uint64_t>(_mm256_cvtss_f32(a));
  return rounds * 10 * 16;
}

int64_t spin_int8_avx2(int64_t rounds) {
  __m256i acc[8];
  for (int i = 0; i < 8; ++i) acc[i] = _mm256_set1_epi32(i);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t r = 0; r < rounds; ++r)
    for (__m256i& a : acc)
      a = _mm256_add_epi32(
          a, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(ones, a)),
                               ones));
  for (const __m256i& a : acc) sink = sink + static_cast<uint64_t>(_mm256_extract_epi64(a, 0));
  return rounds * 8 * 64;
}

}  // namespace
MOESTRO_TARGET_END

MOESTRO_TARGET_AVX512_VNNI_BEGIN
namespace {

int64_t spin_fma_avx512(int64_t rounds) {
  __m512 acc[12];
  for (int i = 0; i < 12; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 x = _mm512_set1_ps(0.999f);
  for (int64_t r = 0; r < rounds; ++r)
    for (__m512& a : acc) a = _mm512_fmadd_ps(a, x, x);
  for (const __m512& a : acc) sink = sink + static_cast<uint64_t>(_mm512_cvtss_f32(a));
  return rounds * 12 * 32;
}

int64_t spin_vnni(int64_t rounds) {
  __m512i acc[12];
  for (int i = 0; i < 12; ++i) acc[i] = _mm512_set1_epi32(i);
  const __m512i x = _mm512_set1_epi32(0x01010101);
  for (int64_t r = 0; r < rounds; ++r)
    for (__m512i& a : acc) a = _mm512_dpbusd_epi32(a, x, x);
  for (const __m512i& a : acc)
    sink = sink + static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(a)));
  return rounds * 12 * 128;
}

}  // namespace
MOESTRO_TARGET_END

namespace {

template <bool int8>
int64_t spin_amx(int64_t rounds) {
  alignas(64) static const std::byte zeros[1024] = {};
  TileConfig config;
  for (int t = 0; t < 8; ++t) config.set(t, 16);
  load_tile_config(config);
  load_tile<4>(zeros, 64);
  load_tile<5>(zeros, 64);
  load_tile<6>(zeros, 64);
  load_tile<7>(zeros, 64);
  zero_tile<0>();
  zero_tile<1>();
  zero_tile<2>();
  zero_tile<3>();
  for (int64_t r = 0; r < rounds; ++r) {
    if constexpr (int8) {
      dot_u8s8<0, 4, 6>();
      dot_u8s8<1, 4, 7>();
      dot_u8s8<2, 5, 6>();
      dot_u8s8<3, 5, 7>();
    } else {
      dot_bf16<0, 4, 6>();
      dot_bf16<1, 4, 7>();
      dot_bf16<2, 5, 6>();
      dot_bf16<3, 5, 7>();
    }
  }
  release_tiles();
  return rounds * 4 * 2 * 16 * 16 * (int8 ? 64 : 32);
}

struct UnitEntry {
  const char* name;
  IsaSet needs;
  int64_t (*spin)(int64_t rounds);
  int64_t rounds;  // about 20 ms
};

UnitEntry entry(Unit unit) {
  switch (unit) {
    case Unit::kAmxInt8:
      return {"amx int8", kAmxInt8Set, spin_amx<true>, 800'000};
    case Unit::kAmxBf16:
      return {"amx bf16", kAmxBf16Set, spin_amx<false>, 800'000};
    case Unit::kVnni512:
      return {"avx512 vnni", kAvx512VnniSet, spin_vnni, 8'000'000};
    case Unit::kFma512:
      return {"avx512 fma", kAvx512VnniSet, spin_fma_avx512, 8'000'000};
    case Unit::kInt8Avx2:
      return {"avx2 int8", Isa::kAvx2, spin_int8_avx2, 6'000'000};
    case Unit::kFmaAvx2:
      break;
  }
  return {"avx2 fma", Isa::kAvx2, spin_fma_avx2, 10'000'000};
}

}  // namespace

void use_cpu_time(bool on) { clock_used = on ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC; }

double seconds_now() {
  timespec t{};
  ::clock_gettime(clock_used, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double read_bandwidth(Gang& gang, const std::byte* data, size_t bytes, int repeats) {
  if (!detect_isa().contains(Isa::kAvx2)) return 0;
  const double seconds = median_seconds(gang, repeats, [&](Worker& worker) {
    const auto [begin, end] = worker.share(static_cast<int64_t>(bytes), 4096);
    sink = read_all(data + begin, static_cast<size_t>(end - begin));
  });
  return static_cast<double>(bytes) / seconds;
}

const char* unit_name(Unit unit) { return entry(unit).name; }

double compute_ceiling(Gang& gang, Unit unit) {
  const UnitEntry e = entry(unit);
  if (!detect_isa().contains(e.needs)) return 0;
  const double one = static_cast<double>(e.spin(1));
  const double seconds = median_seconds(gang, 5, [&](Worker&) { e.spin(e.rounds); });
  return one * static_cast<double>(e.rounds) * gang.num_workers() / seconds;
}

}  // namespace moestro::platform
