#include "text/vocabulary.h"

#include <bit>

#include "base/format.h"

namespace moestro::text {

void Vocabulary::reserve(size_t tokens, size_t bytes) {
  arena_.reserve(bytes);
  entries_.reserve(tokens);
  grow_table(std::bit_ceil(tokens * 2 + 16));
}

size_t Vocabulary::slot_of(std::string_view text, uint64_t hash) const {
  const size_t mask = table_.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  size_t i = hash & mask;
  for (; table_[i].id != kNoToken; i = (i + 1) & mask) {
    const Slot& slot = table_[i];
    if (slot.tag == tag && slot.length == text.size() &&
        std::string_view(arena_.data() + slot.offset, slot.length) == text)
      break;
  }
  return i;
}

void Vocabulary::grow_table(size_t slots) {
  if (slots <= table_.size()) return;
  table_.assign(slots, Slot());
  for (size_t id = 0; id < entries_.size(); ++id)
    if (entries_[id].length != kAbsent) {
      const std::string_view text = content(static_cast<int32_t>(id));
      const uint64_t hash = hash_bytes(text);
      table_[slot_of(text, hash)] = {static_cast<uint32_t>(hash >> 32), entries_[id].offset,
                                     entries_[id].length, static_cast<int32_t>(id)};
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
  const uint64_t hash = hash_bytes(text);
  Slot& slot = table_[slot_of(text, hash)];
  if (slot.id != kNoToken)
    return data_loss(format("token {} has two ids, {} and {}", text.substr(0, 80), slot.id, id));
  if (static_cast<size_t>(id) >= entries_.size()) entries_.resize(static_cast<size_t>(id) + 1);
  const Entry entry{static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(text.size())};
  entries_[static_cast<size_t>(id)] = entry;
  arena_.append(text);
  slot = {static_cast<uint32_t>(hash >> 32), entry.offset, entry.length, static_cast<int32_t>(id)};
  ++count_;
  return {};
}

int32_t Vocabulary::find(std::string_view text) const {
  return table_.empty() ? kNoToken : table_[slot_of(text, hash_bytes(text))].id;
}

}  // namespace moestro::text
