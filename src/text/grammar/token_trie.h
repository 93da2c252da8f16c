// TokenTrie: the vocabulary as a tree of bytes, laid out in the order of a walk, so that the mask
// of allowed tokens is one pass over it. Built once a tokenizer, then immutable and shared.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/grammar/matcher.h"
#include "text/tokenizer.h"

namespace moestro::text {

class TokenTrie {
 public:
  // Stands before the content of an added token, so that grammars tell "</think>" the token from
  // the same text. Not a byte of UTF-8.
  static constexpr char kTokenMark = '\xff';
  // Special tokens are no text and never in it, but for those in `texts` ("</think>").
  TokenTrie(const Tokenizer& tokenizer, std::span<const std::string> texts);

  // mask: [(vocab_size + 31) / 32] words; a token's bit is set if the matcher allows its bytes
  // where it stands. Bits of other ids are cleared.
  void fill(GrammarMatcher& matcher, std::span<uint32_t> mask) const;
  // What token `id` adds to a text; empty: it is not in the tree.
  const std::string& bytes(int32_t id) const { return bytes_[static_cast<size_t>(id)]; }
  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  size_t num_nodes() const { return nodes_.size(); }

 private:
  struct Node {
    uint32_t end;    // index behind the subtree
    int32_t token;   // first one that ends here; -1: none
    uint16_t depth;  // 1: first byte
    uint8_t byte;
  };
  std::vector<Node> nodes_;
  std::vector<int32_t> same_;       // [vocab] the next token with the same bytes; -1
  std::vector<std::string> bytes_;  // [vocab]
  size_t max_depth_ = 0;
};

}  // namespace moestro::text
