#include "text/byte_map.h"

#include <array>

#include "text/unicode_class.h"

namespace moestro::text {
namespace {

constexpr bool stands_for_itself(uint32_t b) {
  return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

struct Tables {
  std::array<std::string, 256> text;
  std::array<int16_t, 256 + 68> byte{};
  Tables() {
    byte.fill(-1);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) {
      const uint32_t code = stands_for_itself(b) ? b : next++;
      append_utf8(text[b], code);
      byte[code] = static_cast<int16_t>(b);
    }
  }
};

const Tables& tables() {
  static const Tables t;
  return t;
}

}  // namespace

std::string_view byte_to_mapped(uint8_t byte) { return tables().text[byte]; }

int mapped_to_byte(uint32_t code) { return code < tables().byte.size() ? tables().byte[code] : -1; }

void append_mapped(std::string& out, std::string_view bytes) {
  const Tables& t = tables();
  for (const char c : bytes) out += t.text[static_cast<uint8_t>(c)];
}

void append_unmapped(std::string& out, std::string_view text) {
  const size_t start = out.size();
  for (size_t pos = 0, length = 0; pos < text.size(); pos += length) {
    const int byte = mapped_to_byte(decode_utf8(text, pos, length));
    if (byte < 0) {
      out.resize(start);
      out += text;
      return;
    }
    out += static_cast<char>(byte);
  }
}

}  // namespace moestro::text
