#include "text/vocabulary.h"

#include <bit>

#include "base/format.h"

namespace moestro::text {

void Vocabulary::reserve(size_t tokens, size_t bytes) {
  arena_.reserve(bytes);
  entries_.reserve(tokens);
  grow_table(std::bit_ceil(tokens * 2 + 16));
}

size_t Vocabulary::slot_of(std::string_view text) const {
  const size_t mask = table_.size() - 1;
  size_t slot = hash_bytes(text) & mask;
  while (table_[slot] != kNoToken && content(table_[slot]) != text) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::grow_table(size_t slots) {
  if (slots <= table_.size()) return;
  table_.assign(slots, kNoToken);
  for (size_t id = 0; id < entries_.size(); ++id)
    if (entries_[id].length != kAbsent) {
      const auto token = static_cast<int32_t>(id);
      table_[slot_of(content(token))] = token;
    }
}

Status Vocabulary::add(std::string_view text, int64_t id) {
  if (id < 0 || id > kMaxTokenId)
    return data_loss(
        format("token {} has id {}; ids go from 0 to {}", text.substr(0, 80), id, kMaxTokenId));
  if (arena_.size() + text.size() > 0xfffffff0u)
    return data_loss("the vocabulary holds more than 4 GiB of text");
  if (contains(static_cast<int32_t>(id)))
    return data_loss(format("id {} belongs to two tokens, {} and {}", id,
                            content(static_cast<int32_t>(id)).substr(0, 80), text.substr(0, 80)));
  grow_table(std::bit_ceil((count_ + 1) * 2 + 16));
  const size_t slot = slot_of(text);
  if (table_[slot] != kNoToken)
    return data_loss(
        format("token {} has two ids, {} and {}", text.substr(0, 80), table_[slot], id));
  if (static_cast<size_t>(id) >= entries_.size()) entries_.resize(static_cast<size_t>(id) + 1);
  entries_[static_cast<size_t>(id)] = {static_cast<uint32_t>(arena_.size()),
                                       static_cast<uint32_t>(text.size())};
  arena_.append(text);
  table_[slot] = static_cast<int32_t>(id);
  ++count_;
  return {};
}

int32_t Vocabulary::find(std::string_view text) const {
  return table_.empty() ? kNoToken : table_[slot_of(text)];
}

}  // namespace moestro::text
