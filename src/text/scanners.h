// Hand-written matchers for the split patterns that published models use; the same result as the
// regular expression, several times faster. Which pattern text means which scanner:
// known_scanner(). Pure functions, any thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace moestro::text {

enum class Scanner : uint8_t {
  kNone,
  kGpt2,           // ByteLevel's own pattern
  kLetters3,       // Llama-3, GLM: contractions, letters with one leading sign, up to three digits
  kLetters1,       // Qwen2/3: single digits
  kCased,          // gpt-oss, MiniMax: words split at case changes, "/" after punctuation
  kDigits3,        // DeepSeek, first split
  kCjk,            // DeepSeek, second split
  kDeepSeekWords,  // DeepSeek, third split
};

Scanner known_scanner(std::string_view onig_pattern);
// The leftmost match at or after `from` in valid UTF-8; false if there is none. Linear in the
// distance.
bool scan(Scanner scanner, std::string_view text, size_t from, size_t& begin, size_t& end);

}  // namespace moestro::text
