// Text to token ids and back, as a Hugging Face tokenizer.json describes it. Used by server/
// (prompts, token counts), engine/ (detokenizing) and app/. Immutable after load(): every member
// may be called from many threads at once. Facts: reference/models.md 6.1 to 6.6. Ids are >= 0 and
// < 2^24.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace moestro::text {

class DecodeProgram;

// A token that tokenizer_config.json gives a role ("bos_token", …).
struct NamedToken {
  std::string content;
  std::optional<int32_t> id;  // absent when the content is in no vocabulary
};

class Tokenizer {
 public:
  // tokenizer_json: the content of tokenizer.json; tokenizer_config_json: that of
  // tokenizer_config.json, or empty. Anything unsupported, inconsistent or out of bounds is an
  // error here; nothing fails later.
  static Result<std::unique_ptr<Tokenizer>> load(std::string_view tokenizer_json,
                                                 std::string_view tokenizer_config_json);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Invalid UTF-8 is repaired with U+FFFD first. Special tokens spelled out in the text are
  // recognised. add_special_tokens: what the post-processor adds, and BOS/EOS by
  // add_bos_token/add_eos_token of a Llama-like tokenizer class. Rendered chat templates carry
  // their own: pass false for them.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;
  // What the post-processor of tokenizer.json alone makes of ids that encode(text, false) gave.
  std::vector<int32_t> post_process(std::vector<int32_t> ids) const;
  // Always valid UTF-8. Unknown ids contribute nothing. skip_special_tokens drops tokens marked
  // special, which excludes merely added ones ("<think>" of Qwen3).
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  int32_t vocab_size() const;  // largest id + 1; ids in between may be unknown
  std::optional<int32_t> token_id(
      std::string_view content) const;  // added token or vocabulary entry
  std::string_view token_content(
      int32_t id) const;  // as in the vocabulary ("Ġthe"); "" if there is no such id
  std::string token_bytes(
      int32_t id) const;  // what it contributes in the middle of a text (" the"), maybe not UTF-8
  bool is_known(int32_t id) const;
  bool is_added(int32_t id) const;
  bool is_special(int32_t id) const;

  // From tokenizer_config.json; unk also from the model section of tokenizer.json.
  const std::optional<NamedToken>& bos() const;
  const std::optional<NamedToken>& eos() const;
  const std::optional<NamedToken>& pad() const;
  const std::optional<NamedToken>& unk() const;

  // The token strings that the decoder starts from, for StreamingDetokenizer.
  const DecodeProgram& decode_program() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moestro::text
