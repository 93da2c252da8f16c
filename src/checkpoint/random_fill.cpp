#include "checkpoint/random_fill.h"

#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "tensor/numeric.h"

namespace moestro::checkpoint {
namespace {

constexpr uint64_t kStep = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio

// The finaliser of splitmix64.
uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

constexpr size_t kTableSize = 4096;  // 12 random bits choose an entry
using Table = std::array<float, kTableSize>;

// The quantiles of N(0, 1), by Newton's method on the distribution function.
const Table& normal_table() {
  static const Table table = [] {
    Table t;
    double x = -3.7;
    for (size_t i = 0; i < kTableSize; ++i) {
      const double p = (static_cast<double>(i) + 0.5) / kTableSize;
      for (int step = 0; step < 20; ++step) {
        const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
        const double error = std::erfc(-x / std::numbers::sqrt2) / 2 - p;
        x -= error / density;
        if (std::abs(error / density) < 1e-9) break;
      }
      t[i] = static_cast<float>(x);
    }
    return t;
  }();
  return table;
}

const Table& uniform_table() {
  static const Table table = [] {
    Table t;
    for (size_t i = 0; i < kTableSize; ++i) t[i] = (static_cast<float>(i) + 0.5f) / kTableSize;
    return t;
  }();
  return table;
}

// T's bits: four entries a random word.
template <class T, class Convert>
void fill_from(const Table& table, uint64_t key, std::span<std::byte> out, float offset,
               float scale, Convert convert) {
  const size_t count = out.size() / sizeof(T);
  const auto value = [&](uint64_t bits) {
    return convert(offset + scale * table[bits & (kTableSize - 1)]);
  };
  std::vector<T> converted;  // worth it from one table's size on
  if (count >= kTableSize) {
    converted.resize(kTableSize);
    for (size_t i = 0; i < kTableSize; ++i) converted[i] = value(i);
  }
  std::byte* to = out.data();
  const auto fill = [&](auto entry) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4, to += 4 * sizeof(T)) {
      const uint64_t bits = mix(key + (i / 4 + 1) * kStep);
      const T four[] = {entry(bits), entry(bits >> 16), entry(bits >> 32), entry(bits >> 48)};
      std::memcpy(to, four, sizeof four);
    }
    uint64_t bits = mix(key + (i / 4 + 1) * kStep);
    for (; i < count; ++i, to += sizeof(T), bits >>= 16) {
      const T one = entry(bits);
      std::memcpy(to, &one, sizeof one);
    }
  };
  // The same numbers either way: only the moment of conversion differs.
  if (converted.empty())
    fill(value);
  else
    fill([&](uint64_t bits) { return converted[bits & (kTableSize - 1)]; });
}

void fill_table(const Table& table, uint64_t key, std::span<std::byte> out, DType dtype,
                float offset, float scale) {
  switch (dtype) {
    case DType::kBF16:
      return fill_from<uint16_t>(table, key, out, offset, scale,
                                 [](float v) { return to_bf16(v).bits; });
    case DType::kF16:
      return fill_from<uint16_t>(table, key, out, offset, scale,
                                 [](float v) { return to_f16(v).bits; });
    case DType::kF64:
      return fill_from<double>(table, key, out, offset, scale,
                               [](float v) { return static_cast<double>(v); });
    default:
      return fill_from<float>(table, key, out, offset, scale, [](float v) { return v; });
  }
}

}  // namespace

uint64_t random_key(std::string_view name, uint64_t seed) {
  uint64_t h = mix(seed + kStep);
  for (const char c : name)
    h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;  // FNV-1a's multiplier
  return mix(h);
}

void fill_random_bytes(uint64_t key, std::span<std::byte> out) {
  const size_t words = out.size() / 8;
  for (size_t i = 0; i < words; ++i) {
    const uint64_t bits = mix(key + (i + 1) * kStep);
    std::memcpy(out.data() + 8 * i, &bits, 8);
  }
  const uint64_t bits = mix(key + (words + 1) * kStep);
  std::memcpy(out.data() + 8 * words, &bits, out.size() % 8);
}

void fill_random_fp8(uint64_t key, std::span<std::byte> out, DType dtype) {
  fill_random_bytes(key, out);
  if (dtype == DType::kF8E5M2) {
    for (std::byte& b : out)
      b &= (b & std::byte{0x7c}) == std::byte{0x7c} ? std::byte{0xfb} : std::byte{0xff};
  } else {
    for (std::byte& b : out)
      b &= (b & std::byte{0x7f}) == std::byte{0x7f} ? std::byte{0xfe} : std::byte{0xff};
  }
}

void fill_normal(uint64_t key, std::span<std::byte> out, DType dtype, float mean, float deviation) {
  fill_table(normal_table(), key, out, dtype, mean, deviation);
}

void fill_uniform(uint64_t key, std::span<std::byte> out, DType dtype, float low, float high) {
  fill_table(uniform_table(), key, out, dtype, low, high - low);
}

bool is_plain_float(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32 ||
         dtype == DType::kF64;
}

}  // namespace moestro::checkpoint
