// Short digests for plan ids and file names; not for secrets.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace moestro::plan {

inline uint64_t fnv1a(std::string_view text, uint64_t h = 0xcbf29ce484222325u) {
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

inline std::string hex(uint64_t v) {
  std::string s(16, '0');
  for (size_t i = 16; i-- > 0; v >>= 4) s[i] = "0123456789abcdef"[v & 15];
  return s;
}

}  // namespace moestro::plan
