// Tokens that are cut out of the text before anything else: special tokens and other whole strings
// (6.2 steps 1 and 2). AddedTokenSearch finds one group of them (those compared with the raw, or
// with the normalized text); immutable after load, any thread.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moestro::text {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  // only between non-word characters
  bool lstrip = false;       // swallows white space before it
  bool rstrip = false;       // and after it
  bool normalized = true;    // compared with the normalized text
  bool special = false;      // dropped by skip_special_tokens
};

class AddedTokenSearch {
 public:
  // `pattern` is what to look for: the content, or its normalized form. Empty patterns are never
  // found.
  void add(const AddedToken& token, std::string_view pattern);
  bool empty() const { return tokens_.empty(); }

  // Cuts text at the leftmost-longest occurrences. Calls text_piece(std::string_view, size_t
  // offset) for non-empty text between them and token(int32_t id) for each, in order.
  template <class TextPiece, class TokenId>
  void split(std::string_view text, TextPiece&& text_piece, TokenId&& token) const {
    size_t done = 0, from = 0, begin = 0, end = 0;
    while (const Entry* found = find(text, from, begin, end)) {
      from = end;
      if (found->single_word && !stands_alone(text, begin, end)) continue;
      if (found->lstrip) begin = spaces_before(text, begin, done);
      if (found->rstrip) end = spaces_after(text, end);
      if (done < begin) text_piece(text.substr(done, begin - done), done);
      token(found->id);
      done = end;
    }
    if (done < text.size()) text_piece(text.substr(done), done);
  }

 private:
  struct Entry {
    int32_t id;
    bool single_word, lstrip, rstrip;
  };
  struct Node {
    char byte = 0;
    int32_t entry = -1;
    uint32_t first_child = 0, next_sibling = 0;  // 0: none (the root is nobody's child)
  };
  const Entry* find(std::string_view text, size_t from, size_t& begin, size_t& end) const;
  uint32_t child(uint32_t node, char byte) const;
  static bool stands_alone(std::string_view text, size_t begin, size_t end);
  static size_t spaces_before(std::string_view text, size_t end, size_t limit);
  static size_t spaces_after(std::string_view text, size_t begin);

  std::vector<Entry> tokens_;
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<uint32_t, 256> start_{};  // child of the root by byte
};

}  // namespace moestro::text
