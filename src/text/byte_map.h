// The ByteLevel alphabet: one printable character per byte (reference/models.md 6.2), so that a
// vocabulary of byte strings can be written as JSON text. Pure functions, any thread.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace moestro::text {

// The UTF-8 form (1 or 2 bytes) of the character that stands for `byte`.
std::string_view byte_to_mapped(uint8_t byte);
// The byte that `code` stands for, or -1.
int mapped_to_byte(uint32_t code);
void append_mapped(std::string& out, std::string_view bytes);
// Appends the bytes that valid UTF-8 `text` stands for; text with a character outside the alphabet
// stands for itself.
void append_unmapped(std::string& out, std::string_view text);

}  // namespace moestro::text
