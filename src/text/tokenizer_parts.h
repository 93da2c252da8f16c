// What a Tokenizer is made of, and the two readers that fill it: tokenizer.json
// (tokenizer_json.cpp), then tokenizer_config.json (tokenizer_config.cpp). Used at load by
// tokenizer.cpp; read-only afterwards.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace moestro::text {

struct TokenizerParts {
  TokenizerParts() = default;
  TokenizerParts(const TokenizerParts&) = delete;  // bpe refers to vocabulary
  TokenizerParts& operator=(const TokenizerParts&) = delete;

  Vocabulary vocabulary;  // of the model section; added tokens may lie inside or beyond it
  std::vector<AddedToken> added;
  std::unordered_map<std::string, size_t> added_by_content;
  std::unordered_map<int32_t, size_t> added_by_id;
  Normalizer normalizer;
  Pretokenizer pretokenizer;
  std::optional<Bpe> bpe;
  PostProcessor post_processor;
  DecodeProgram decode_program;

  std::optional<NamedToken> bos, eos, pad, unk;
  bool prepend_bos = false, append_eos = false;  // beyond what the post-processor does

  std::optional<int32_t> find(std::string_view content) const;
  Status add(AddedToken token);
};

Status read_tokenizer_json(std::string_view text, TokenizerParts& parts);
Status read_tokenizer_config(std::string_view text, TokenizerParts& parts);

}  // namespace moestro::text
