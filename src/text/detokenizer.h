// Token ids to text, one at a time: what a streaming answer sends. One object a sequence, used by
// one thread at a time; the Tokenizer must outlive it. Never emits part of a character, and
// everything pushed plus flush() is exactly Tokenizer::decode() of all ids, whatever the decoder.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "text/tokenizer.h"

namespace moestro::text {

class DecodeStream;

class StreamingDetokenizer {
 public:
  StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);
  ~StreamingDetokenizer();
  StreamingDetokenizer(StreamingDetokenizer&&) noexcept;
  StreamingDetokenizer& operator=(StreamingDetokenizer&&) noexcept;

  // Continue after these ids (the end of the prompt) without emitting them: a SentencePiece-style
  // decoder drops the space before the first token of a text, and a generated text is not the
  // first. Call before the first push().
  void prime(std::span<const int32_t> ids);
  // The text that became certain. Held back: at most 3 bytes of an unfinished character (byte-level
  // models), a run of byte tokens until it ends (byte fallback: one wrong byte turns the whole run
  // into U+FFFD).
  std::string push(int32_t id);
  std::string flush();  // the rest; bytes that never became a character turn into U+FFFD

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::unique_ptr<DecodeStream> stream_;
};

}  // namespace moestro::text
