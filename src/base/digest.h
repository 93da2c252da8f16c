// Short digests for plan ids, file names and damage in files; not for secrets. Pure functions.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace moestro {

inline uint64_t fnv1a(std::string_view text, uint64_t h = 0xcbf29ce484222325u) {
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

// Of large arrays, at the speed of memory. Four lanes take a word each in turn by steps that lose
// nothing, so any change within one lane is seen for sure and any other but for one in 2^64.
inline uint64_t digest_of(std::span<const std::byte> bytes) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;
  const auto take = [](uint64_t h, uint64_t word) { return std::rotl((h ^ word) * kOdd, 29); };
  std::array<uint64_t, 4> lanes = {1, 2, 3, 4};
  size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    std::array<uint64_t, 4> words;
    std::memcpy(words.data(), bytes.data() + at, 32);
    for (size_t i = 0; i < 4; ++i) lanes[i] = take(lanes[i], words[i]);
  }
  uint64_t h = bytes.size();
  for (const uint64_t lane : lanes) h = take(h, lane);
  for (; at < bytes.size(); ++at) h = take(h, std::to_integer<uint64_t>(bytes[at]));
  return (h ^ h >> 32) * kOdd;
}

inline std::string hex(uint64_t v) {
  std::string s(16, '0');
  for (size_t i = 16; i-- > 0; v >>= 4) s[i] = "0123456789abcdef"[v & 15];
  return s;
}

}  // namespace moestro
