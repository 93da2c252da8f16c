// A byte-level tokenizer without merges, for tests: every byte of a text is one token.
#pragma once
#include <memory>
#include <string>

#include "base/format.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace moestro::server {

inline std::shared_ptr<const text::Tokenizer> byte_tokenizer() {
  // GPT-2's visible stand-ins of the 256 bytes: printable Latin-1 as itself, the rest from U+0100
  // on.
  json::object vocab;
  int next = 0x100, id = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool visible =
        (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    const int c = visible ? byte : next++;
    std::string symbol;
    if (c < 0x80) {
      symbol += static_cast<char>(c);
    } else {
      symbol += static_cast<char>(0xc0 | (c >> 6));
      symbol += static_cast<char>(0x80 | (c & 0x3f));
    }
    vocab[symbol] = id++;
  }
  const json::object level{{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const json::object end{{"id", 256},       {"content", "<|end|>"}, {"single_word", false},
                         {"lstrip", false}, {"rstrip", false},      {"normalized", false},
                         {"special", true}};
  vocab["<|end|>"] = 256;
  const json::object root{{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", json::array{end}},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", level},
                          {"post_processor", nullptr},
                          {"decoder", level},
                          {"model", json::object{{"type", "BPE"},
                                                 {"dropout", nullptr},
                                                 {"unk_token", nullptr},
                                                 {"continuing_subword_prefix", nullptr},
                                                 {"end_of_word_suffix", nullptr},
                                                 {"fuse_unk", false},
                                                 {"byte_fallback", false},
                                                 {"ignore_merges", false},
                                                 {"vocab", vocab},
                                                 {"merges", json::array()}}}};
  auto tokenizer = text::Tokenizer::load(json::dump(root), "");
  CHECK(tokenizer.ok(), tokenizer.status().message());
  return std::move(*tokenizer);
}

}  // namespace moestro::server
