#include "text/detokenizer.h"

#include "text/decoder.h"

namespace moestro::text {

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer),
      skip_special_tokens_(skip_special_tokens),
      stream_(std::make_unique<DecodeStream>(tokenizer.decode_program())) {}
StreamingDetokenizer::~StreamingDetokenizer() = default;
StreamingDetokenizer::StreamingDetokenizer(StreamingDetokenizer&&) noexcept = default;
StreamingDetokenizer& StreamingDetokenizer::operator=(StreamingDetokenizer&&) noexcept = default;

void StreamingDetokenizer::prime(std::span<const int32_t> ids) {
  for (const int32_t id : ids) push(id);
}

std::string StreamingDetokenizer::push(int32_t id) {
  std::string out;
  if (tokenizer_->is_known(id) && !(skip_special_tokens_ && tokenizer_->is_special(id)))
    stream_->push(tokenizer_->token_content(id), out);
  return out;
}

std::string StreamingDetokenizer::flush() {
  std::string out;
  stream_->finish(out);
  return out;
}

}  // namespace moestro::text
