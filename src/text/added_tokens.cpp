#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode_class.h"

namespace moestro::text {

uint32_t AddedTokenSearch::child(uint32_t node, char byte) const {
  if (node == 0) return start_[static_cast<uint8_t>(byte)];
  uint32_t at = nodes_[node].first_child;
  while (at && nodes_[at].byte != byte) at = nodes_[at].next_sibling;
  return at;
}

void AddedTokenSearch::add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  uint32_t node = 0;
  for (const char byte : pattern) {
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      Node fresh;
      fresh.byte = byte;
      fresh.next_sibling = nodes_[node].first_child;
      nodes_.push_back(fresh);
      nodes_[node].first_child = next;
      if (node == 0) start_[static_cast<uint8_t>(byte)] = next;
    }
    node = next;
  }
  if (nodes_[node].entry >= 0) return;  // two tokens with one normalized form: the first counts
  nodes_[node].entry = static_cast<int32_t>(tokens_.size());
  tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip});
}

const AddedTokenSearch::Entry* AddedTokenSearch::find(std::string_view text, size_t from,
                                                      size_t& begin, size_t& end) const {
  if (tokens_.empty()) return nullptr;
  for (size_t start = from; start < text.size(); ++start) {
    uint32_t node = start_[static_cast<uint8_t>(text[start])];
    if (node == 0) continue;
    const Entry* longest = nullptr;
    for (size_t at = start + 1;; ++at) {
      if (nodes_[node].entry >= 0) {
        longest = &tokens_[static_cast<size_t>(nodes_[node].entry)];
        begin = start;
        end = at;
      }
      if (at >= text.size()) break;
      node = child(node, text[at]);
      if (node == 0) break;
    }
    if (longest) return longest;
  }
  return nullptr;
}

bool AddedTokenSearch::stands_alone(std::string_view text, size_t begin, size_t end) {
  const CharTable& table = CharTable::get();
  size_t length;
  if (begin > 0 && table[decode_utf8(text, previous_char(text, begin), length)] & kWord)
    return false;
  return end >= text.size() || !(table[decode_utf8(text, end, length)] & kWord);
}

size_t AddedTokenSearch::spaces_before(std::string_view text, size_t end, size_t limit) {
  const CharTable& table = CharTable::get();
  size_t length;
  while (end > limit) {
    const size_t at = previous_char(text, end);
    if (!(table[decode_utf8(text, at, length)] & kSpace)) break;
    end = at;
  }
  return end;
}

size_t AddedTokenSearch::spaces_after(std::string_view text, size_t begin) {
  const CharTable& table = CharTable::get();
  size_t length;
  while (begin < text.size() && table[decode_utf8(text, begin, length)] & kSpace) begin += length;
  return begin;
}

}  // namespace moestro::text
